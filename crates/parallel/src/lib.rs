//! How a step is split over ranks. Parallelism attaches to the network at its seams; the network knows nothing of it.
//!
//! One folder for each axis of the mesh: [`pipeline`] (pp), [`data`] (dp), [`fsdp`], [`tensor`] (tp). [`engine`] puts them together,
//! [`layout`] says what lies where. An axis of length one goes down the same path as any other: its group is [`tensors`]' `Alone`.

mod data;
mod engine;
mod error;
mod fsdp;
mod layout;
mod mesh;
mod pipeline;
mod tensor;
mod tensors;

pub use engine::{Engine, Setup, World};
pub use error::ParallelError;
pub use fsdp::{Shard, Source};
pub use layout::Layout;
pub use mesh::{Axis, Mesh};
pub use tensors::{OnDevice, region};
