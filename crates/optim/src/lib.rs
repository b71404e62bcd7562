//! From gradients to new weights: AdamW, learning-rate schedules, clipping.
//!
//! Everything works on slices of fp32 and on whatever part of a weight is held here; this crate does not know tensors, ranks or files.

mod adamw;
mod clip;
mod schedule;

pub use adamw::{AdamW, AdamWConfig, Moments, OptimError, Parameter, Update};
pub use clip::{clip, sum_of_squares};
pub use schedule::{Schedule, Shape};
