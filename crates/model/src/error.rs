//! What can be wrong with a model's description or its weights.

use thiserror::Error;

/// An error of this crate. Each names what was found and what was expected.
#[derive(Debug, Error)]
pub enum ModelError {
    /// config.json is not JSON.
    #[error("config.json is not valid JSON: {0}")]
    ConfigSyntax(String),
    /// config.json lacks a key that the network's sizes depend on.
    #[error("config.json has no {0}; it is required, no default is assumed")]
    ConfigMissing(&'static str),
    /// A key of config.json has a value that cannot be used.
    #[error("config.json: {key} is {found}, expected {expected}")]
    ConfigValue {
        /// The key.
        key: &'static str,
        /// What stands there.
        found: String,
        /// What could stand there.
        expected: String,
    },
    /// A weight has another shape than config.json implies.
    #[error("tensor {name} has shape {found:?}, expected {expected:?}")]
    Shape {
        /// The tensor's full name.
        name: String,
        /// The shape in the file.
        found: Vec<i64>,
        /// The shape that config.json implies.
        expected: Vec<i64>,
    },
    /// A weight has an element type that is not a floating-point number we read.
    #[error("tensor {name} has element type {found}, expected F32, F16 or BF16")]
    ElementType {
        /// The tensor's full name.
        name: String,
        /// The element type in the file.
        found: String,
    },
    /// The place that weights come from could not give one.
    #[error("tensor {name}: {reason}")]
    Source {
        /// The tensor's full name.
        name: String,
        /// The source's own words.
        reason: String,
    },
    /// A token id is outside the vocabulary.
    #[error("token id {id} at position {position} is outside the vocabulary of {vocabulary}")]
    TokenId {
        /// The id.
        id: i64,
        /// Where in the batch.
        position: usize,
        /// V.
        vocabulary: i64,
    },
    /// A batch whose parts do not fit together.
    #[error("a batch of {tokens} tokens has {problem}")]
    Batch {
        /// T.
        tokens: usize,
        /// What does not fit.
        problem: String,
    },
    /// More tokens than a key/value cache or the model's context has room for.
    #[error("{found} tokens do not fit into a context of {limit}")]
    ContextFull {
        /// Tokens that were asked for.
        found: usize,
        /// Tokens there is room for.
        limit: usize,
    },
    /// A part of a network was asked for what takes another part, or the whole.
    #[error(
        "this part of the network cannot do that alone: it takes the part with the embedding, the head, or what the part before sent"
    )]
    Part,
    /// Something went wrong where the network meets its surroundings.
    #[error(transparent)]
    Seam(#[from] crate::seams::SeamError),
    /// What a CUDA device needs is not here, or it refused.
    #[error("{call}: {message}")]
    Cuda {
        /// The function that failed.
        call: &'static str,
        /// The library's own text.
        message: String,
    },
    /// libtorch refused an operation (out of memory, for instance).
    #[error("libtorch: {0}")]
    Torch(#[from] tch::TchError),
}
