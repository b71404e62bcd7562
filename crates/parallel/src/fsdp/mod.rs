//! Fully sharded data parallelism (ZeRO-3, Rajbhandari et al. 2020): a rank holds a piece of each weight, of its gradient and of its
//! optimizer state. A unit's weights are gathered just before use and let go after it; gradients are scattered as they are made.

mod residence;
mod shard;

pub(crate) use residence::Residence;
pub(crate) use residence::Residents;
pub use shard::{Shard, Source};
