//! Pipeline parallelism: each stage holds some of the layers; micro-batches pass through them, their gradients back.

pub mod balance;
mod run;
pub mod schedule;

pub(crate) use run::{Links, Stage};
