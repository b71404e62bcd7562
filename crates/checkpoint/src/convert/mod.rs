//! Foreign layouts to Hugging Face's: llama.cpp's GGUF and Mistral's consolidated files.

mod consolidated;
mod gguf;
mod rows;
mod tokenizer;

pub use consolidated::convert_consolidated;
pub(crate) use consolidated::{CONSOLIDATED, PARAMS, read_params};
pub(crate) use gguf::architecture as gguf_architecture;
pub use gguf::convert_gguf;
