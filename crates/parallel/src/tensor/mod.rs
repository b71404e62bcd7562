//! Tensor parallelism: ranks hold slices of the same weights and work on the same tokens. Between products each holds some of the rows
//! (sequence parallelism).

mod rows;
mod table;

pub(crate) use rows::Rows;
pub(crate) use table::{CutSizes, slice};
