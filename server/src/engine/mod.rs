//! The engine: one thread that owns all tensors and advances the running sequences in turn.
//!
//! HTTP handlers hand a [`Job`] to the [`Engine`] and read [`Event`]s; they never see a tensor. The thread knows the
//! network only as a [`LanguageModel`], which `network` implements.

mod handle;
mod network;
mod sampler;
mod sequence;
mod stop;
#[cfg(test)]
pub(crate) mod testing;
mod transcript;
mod worker;

use std::path::PathBuf;
use std::time::Instant;

use tokio::sync::mpsc::UnboundedSender;

pub(crate) use handle::{Busy, Engine, Limits, Place, Started, Ticket};
pub(crate) use network::{NetworkSource, load};
pub(crate) use sampler::Sampling;
pub(crate) use transcript::{Piece, TokenScore};

/// Why the engine could not advance a sequence or load a model.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EngineError {
    /// The network could not take a sequence further.
    #[error(transparent)]
    Network(#[from] sirocco_model::ModelError),
    /// A model or adapter does not hold the network that its configuration describes.
    #[error("{}: {source}", path.display())]
    Load {
        /// Its directory.
        path: PathBuf,
        /// What is wrong.
        source: sirocco_model::ModelError,
    },
    /// A model or adapter directory is wrong.
    #[error(transparent)]
    Directory(#[from] sirocco_checkpoint::CheckpointError),
    /// An adapter is for other modules than the network has.
    #[error("{}: module {module}: found no such module in the base, expected one of its {layers} blocks' projections", path.display())]
    AdapterModule {
        /// The adapter's directory.
        path: PathBuf,
        /// The module it wants to adapt.
        module: String,
        /// Blocks of the base.
        layers: usize,
    },
    /// The tokenizer knows ids that the network does not.
    #[error("{}: found {found} token ids, expected at most {expected} (vocab_size in config.json)", path.display())]
    Vocabulary {
        /// The model's directory.
        path: PathBuf,
        /// Ids of the tokenizer.
        found: usize,
        /// Rows of the embedding.
        expected: usize,
    },
    /// libtorch could not hand over the logits.
    #[error("the logits: {0}")]
    Logits(#[from] tch::TchError),
    /// A logit is not a finite number.
    #[error("logit of token {id}: found {found}, expected a finite number")]
    NotFinite {
        /// The token's id.
        id: u32,
        /// Its logit.
        found: f32,
    },
    /// A token id lies outside the logits.
    #[error("token id: found {id}, expected less than {vocabulary}")]
    TokenOutOfRange {
        /// The id found.
        id: u32,
        /// How many logits there are.
        vocabulary: usize,
    },
    /// The server stops before the sequence is complete.
    #[error("the server is stopping")]
    Stopping,
}

/// Which rows of logits [`Context::extend`] returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rows {
    /// Those after the last token: [1, V].
    Last,
    /// Those after each new token: [T, V].
    All,
}

/// A network as the engine needs it: token ids in, logits out.
pub(crate) trait LanguageModel {
    /// An empty context with room for `capacity` tokens.
    fn context(&self, capacity: usize) -> Result<Box<dyn Context + '_>, EngineError>;
}

/// What a model remembers of one sequence.
pub(crate) trait Context {
    /// Appends `ids` [T] and returns logits, row-major.
    fn extend(&mut self, ids: &[u32], rows: Rows) -> Result<Vec<f32>, EngineError>;
}

/// What is to be generated.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Position of the model among the engine's models.
    pub(crate) model: usize,
    /// At least one token.
    pub(crate) prompt: Vec<u32>,
    /// Tokens to generate at most; prompt and these fit the context.
    pub(crate) max_tokens: usize,
    /// How tokens are chosen.
    pub(crate) sampling: Sampling,
    /// Text at which generation ends.
    pub(crate) stop: Vec<String>,
    /// Log probabilities with this many alternatives per token, if wanted.
    pub(crate) logprobs: Option<usize>,
    /// Whether the prompt is part of the answer.
    pub(crate) echo: bool,
}

/// A plan on its way to the engine's thread. Dropping it frees its place in the queue.
#[derive(Debug)]
pub(crate) struct Job {
    id: String,
    plan: Plan,
    events: UnboundedSender<Event>,
    arrived: Instant,
    _place: Place,
}

/// What a sequence tells its request.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Event {
    /// More text, never half a character.
    Piece(Piece),
    /// The end.
    Finished {
        /// Why it ended.
        reason: FinishReason,
        /// What was counted.
        usage: Usage,
    },
    /// The end, because something went wrong.
    Failed {
        /// True when the server is stopping, false for an error of the engine.
        stopping: bool,
        /// What went wrong.
        message: String,
    },
}

/// Why a sequence ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FinishReason {
    /// The end of the turn or a stop string.
    Stop,
    /// As many tokens as were asked for.
    Length,
}

impl FinishReason {
    /// The name in OpenAI's API.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            FinishReason::Stop => "stop",
            FinishReason::Length => "length",
        }
    }
}

/// Tokens of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Tokens of the prompt.
    pub(crate) prompt: usize,
    /// Tokens generated, the end-of-turn token included.
    pub(crate) completion: usize,
}
