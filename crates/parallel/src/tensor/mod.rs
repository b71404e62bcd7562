//! Tensor parallelism: ranks hold slices of the same weights and work on the same tokens. Between products each holds some of the rows
//! (sequence parallelism).

mod rows;
mod table;

pub use rows::Rows;
pub use table::{Sizes, slice};
