//! Files: models and adapters in and out, GGUF in, checkpoints of a run.
//!
//! Data moves through this crate one tensor at a time. Nothing here knows a tensor library, a rank's role or a setting.

mod adapter;
mod adapter_config;
mod architecture;
mod config_fields;
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
mod seal;
mod staging;
mod tensor_file;
mod verify;

pub use adapter::{AdapterDir, write_adapter, write_adapter_sealed};
pub use adapter_config::AdapterConfig;
pub use architecture::Architecture;
pub use convert::{convert_consolidated, convert_gguf};
pub use error::{CheckpointError, ErrorClass, Result};
pub use gguf::Gguf;
pub use inspect::{Layout, ModelSummary, inspect};
pub use model_dir::{ModelDir, digest_of};
pub use model_export::ModelExport;
pub use model_writer::FileDigest;
pub use pace::Pace;
pub use piece::Piece;
pub use run::{Checkpoint, CheckpointWriter, Checkpoints, Cursor, Fragment, Mesh, RunState, ShardRecord};
pub use safetensors::Dtype;
pub use safetensors::tensor::TensorView;
pub use seal::SealError;
pub use tensor_file::{OwnedTensor, TensorFileWriter, TensorSpec};
pub use verify::{Verified, verify};
