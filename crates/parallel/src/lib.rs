//! How a step is split over ranks. Parallelism attaches to the network at its seams; the network knows nothing of it.
//!
//! One folder for each axis of the mesh. A group of one goes down the same path as a group of many.

pub mod data;
mod error;

pub use error::ParallelError;
