//! What can go wrong between ranks.

use sirocco_comm::CommError;
use thiserror::Error;

/// An error of this crate.
#[derive(Debug, Error)]
pub enum ParallelError {
    /// A collective ended without a result: a dead rank, a time-out, ranks that disagree.
    #[error(transparent)]
    Collective(#[from] CommError),
    /// The sums are not as many as the gradients: the backward told of other weights than the network trains.
    #[error("gradients: found {found} sums over ranks, expected {expected}, one for each trained element")]
    Length {
        /// Elements that were summed.
        found: usize,
        /// Elements that are trained.
        expected: usize,
    },
}
