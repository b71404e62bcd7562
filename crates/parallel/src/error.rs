//! What can go wrong when a step is split over ranks.

use sirocco_comm::CommError;
use sirocco_model::{ModelError, SeamError};
use thiserror::Error;

use crate::mesh::MeshError;

/// An error of this crate.
#[derive(Debug, Error)]
pub enum ParallelError {
    /// A collective ended without a result: a dead rank, a time-out, ranks that disagree.
    #[error(transparent)]
    Collective(#[from] CommError),
    /// The network refused its input.
    #[error(transparent)]
    Model(ModelError),
    /// The mesh is impossible, or does not fit the ranks.
    #[error(transparent)]
    Mesh(#[from] MeshError),
    /// More stages than layers.
    #[error("pp = {stages}: expected at most the {layers} layers of the model")]
    Stages {
        /// Pipeline stages.
        stages: usize,
        /// Layers of the model.
        layers: usize,
    },
    /// The tp axis does not divide what it splits.
    #[error(
        "tp = {tp}: expected a divisor of {heads} heads, {intermediate} feed-forward and {vocabulary} vocabulary, and one that divides {kv_heads} key/value heads or is a multiple of them"
    )]
    Tensor {
        /// Length of the axis.
        tp: usize,
        /// H.
        heads: i64,
        /// K.
        kv_heads: i64,
        /// F.
        intermediate: i64,
        /// V.
        vocabulary: i64,
    },
    /// What ranks sent does not fit together.
    #[error("parts of a tensor hold {found} bytes, expected {expected}")]
    Parts {
        /// Bytes that came.
        found: usize,
        /// Bytes of the tensor.
        expected: usize,
    },
    /// Sums or values are not as many as the trained elements.
    #[error("found {found} elements, expected {expected}, one for each that is trained here")]
    Length {
        /// Elements that were summed.
        found: usize,
        /// Elements that are trained.
        expected: usize,
    },
    /// The first value of a weight could not be had.
    #[error("tensor {name}: {reason}")]
    Source {
        /// The tensor's full name.
        name: String,
        /// The source's own words.
        reason: SeamError,
    },
    /// A micro-batch was not where the schedule wants it: a mistake of this crate.
    #[error("micro-batch {micro_batch} has no {what} at this point of the schedule")]
    Schedule {
        /// Its number.
        micro_batch: usize,
        /// What is missing.
        what: &'static str,
    },
}

impl From<ModelError> for ParallelError {
    /// What came through a seam was this crate's own error, or a communicator's.
    fn from(error: ModelError) -> Self {
        let ModelError::Seam(inner) = error else { return Self::Model(error) };
        match inner.downcast::<CommError>() {
            Ok(error) => Self::Collective(*error),
            Err(inner) => match inner.downcast::<Self>() {
                Ok(error) => *error,
                Err(inner) => Self::Model(ModelError::Seam(inner)),
            },
        }
    }
}
