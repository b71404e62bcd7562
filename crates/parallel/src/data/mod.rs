//! Data parallelism: ranks that hold the same piece of a weight sum its gradient.

mod reduction;

pub(crate) use reduction::Groups;
pub(crate) use reduction::Reduction;
