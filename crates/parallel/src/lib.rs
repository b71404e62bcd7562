//! How a step is split over ranks. Parallelism attaches to the network at its seams; the network knows nothing of it.
//!
//! One folder for each axis of the mesh: [`pipeline`] (pp), [`data`] (dp), [`fsdp`], [`tensor`] (tp). [`engine`] puts them together,
//! [`layout`] says what lies where. An axis of length one goes down the same path as any other: its group is [`tensors`]' `Alone`.

pub mod data;
pub mod engine;
mod error;
pub mod fsdp;
pub mod layout;
pub mod mesh;
pub mod pipeline;
pub mod tensor;
pub mod tensors;

pub use engine::{Engine, Setup, World};
pub use error::ParallelError;
pub use fsdp::{Shard, Source};
pub use layout::Layout;
pub use mesh::{Axis, Mesh};
