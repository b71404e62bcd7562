//! Data parallelism: every rank holds the whole network and a share of each step's sequences; gradients are summed.

mod reduction;

pub use reduction::GradientReduction;
