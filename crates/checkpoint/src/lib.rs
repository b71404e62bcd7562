//! Files: models and adapters in and out, GGUF in, checkpoints of a run.
//!
//! Data moves through this crate one tensor at a time. Nothing here knows a tensor library, a rank's role or a setting.

mod adapter;
mod adapter_config;
mod architecture;
mod convert;
mod error;
mod files;
mod gguf;
mod inspect;
mod model_dir;
mod model_export;
mod model_writer;
mod pace;
mod partial_file;
mod piece;
mod run;
mod staging;
mod tensor_file;
mod verify;

pub use adapter::{AdapterDir, Factor, parse_peft_name, peft_name, write_adapter};
pub use adapter_config::AdapterConfig;
pub use architecture::Architecture;
pub use convert::{convert_consolidated, convert_gguf};
pub use error::{CheckpointError, ErrorClass, Result};
pub use gguf::{GgmlType, Gguf, GgufTensor, GgufValue};
pub use inspect::{Layout, ModelSummary, inspect};
pub use model_dir::{ModelDir, digest_of};
pub use model_export::ModelExport;
pub use model_writer::{FileDigest, ModelWriter};
pub use pace::Pace;
pub use piece::{Copy, Piece, PieceError, Run, overlaps};
pub use run::{Checkpoint, CheckpointWriter, Checkpoints, Cursor, Fragment, Mesh, PieceRecord, RunState, ShardRecord};
pub use safetensors::Dtype;
pub use safetensors::tensor::TensorView;
pub use tensor_file::{OwnedTensor, TensorFile, TensorFileWriter, TensorSpec};
pub use verify::{Verified, verify};
