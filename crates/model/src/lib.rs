//! Token ids to logits and gradients: the dense Mistral network with an explicit forward and backward, and LoRA on any linear.
//!
//! There is no autograd here. Each operation in [`ops`] has its forward and its backward in one file; a [`block::Block`] returns its
//! output and what it saved, and its backward turns the output's gradient into the input's and adds to the gradients of whatever is
//! trained. libtorch's autograd is the oracle of the tests, never part of the path.
//!
//! Letters for sizes, used in every shape: `T` tokens (time) of all documents of a batch, `D` model, `H` heads, `K` key/value heads,
//! `G` = H ÷ K query heads per key/value head, `E` head dim, `F` hidden (feed-forward), `V` vocabulary, `R` LoRA rank. A batch is flat:
//! there is no padding and no batch dim, documents are told apart by their offsets.
//!
//! A network may be a part of the whole: some of the blocks, a slice of each weight. Which part, a [`Placement`] says; what the rest does,
//! it meets at its seams ([`seams`]). This crate does not know ranks, files, settings or environment variables.

pub mod batch;
pub mod block;
pub mod config;
pub mod decode;
mod error;
pub mod linear;
pub mod lora;
pub mod memory;
pub mod network;
pub mod ops;
pub mod passes;
pub mod placement;
mod raw;
pub mod seams;
pub mod weight;

pub use batch::{Batch, Documents};
pub use block::Recompute;
pub use config::ModelConfig;
pub use decode::{KvCache, Wanted};
pub use error::ModelError;
pub use lora::{LoraConfig, Projection};
pub use network::{Network, Source, Trained};
pub use passes::{Around, Downstream, LossSum};
pub use placement::{Placement, Slice, Whole};
pub use seams::{Exchange, Hooks, Pass, SeamError, Unit};
pub use weight::{Dtype, Origin, Weight};
