//! What the handlers share: the engine, the tokenizer, the names and the limits.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::http::StatusCode;
use sirocco_tokens::Tokenizer;

use super::error::ApiError;
use crate::engine::{Engine, Place};

/// The served models and the engine that runs them.
pub(crate) struct Service {
    /// Takes plans.
    pub(crate) engine: Engine,
    /// Of the base, and so of all its adapters.
    pub(crate) tokenizer: Arc<Tokenizer>,
    /// Names of the models: the base, then its adapters; their positions are those of the engine's models.
    pub(crate) names: Vec<String>,
    /// Tokens of prompt and answer together at most.
    pub(crate) context: usize,
    /// Token ids are less than this.
    pub(crate) vocabulary: usize,
    /// Seconds since 1970 when the server started.
    pub(crate) started: u64,
    /// Bytes of a request's body at most.
    pub(crate) max_body: usize,
    /// How long a request's body may take to arrive.
    pub(crate) body_time: Duration,
    /// Requests that a model has answered, or has begun to.
    pub(crate) answered: Arc<AtomicU64>,
}

/// The fields that a complaint about lengths names.
pub(crate) struct LengthFields<'a> {
    /// The field with the prompt.
    pub(crate) prompt: &'a str,
    /// The field with the length of the answer.
    pub(crate) max_tokens: &'a str,
}

impl Service {
    /// The position of the model `name`.
    pub(crate) fn model(&self, name: &str) -> Result<usize, ApiError> {
        self.names.iter().position(|known| known == name).ok_or_else(|| {
            let shown: String = name.chars().take(80).collect();
            ApiError {
                status: StatusCode::NOT_FOUND,
                message: format!("model: found {shown:?}, expected one of: {}", self.names.join(", ")),
                param: Some("model".to_owned()),
                code: Some("model_not_found"),
            }
        })
    }

    /// Runs `work` with the tokenizer where it does not hold up other requests. It keeps `place` even when the client leaves,
    /// since the work goes on then.
    pub(crate) async fn tokenize<T: Send + 'static>(
        &self,
        place: Place,
        work: impl FnOnce(&Tokenizer) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<(Place, T), ApiError> {
        let tokenizer = Arc::clone(&self.tokenizer);
        tokio::task::spawn_blocking(move || work(&tokenizer).map(|done| (place, done))).await.unwrap_or_else(|error| {
            tracing::error!(%error, "the tokenizer failed");
            Err(ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "the tokenizer failed"))
        })
    }

    /// The length of the answer: what was `asked`, which must fit beside the prompt, or else what is left, up to `default`.
    pub(crate) fn room(
        &self,
        prompt: usize,
        asked: Option<usize>,
        default: usize,
        fields: &LengthFields<'_>,
    ) -> Result<usize, ApiError> {
        let context = self.context;
        let complaint = |field: &str, message| Err(ApiError::field(field, message).with_code("context_length_exceeded"));
        if prompt == 0 {
            return Err(ApiError::field(fields.prompt, format!("{}: found no tokens, expected at least 1", fields.prompt)));
        }
        if prompt > context || (prompt == context && asked != Some(0)) {
            let field = fields.prompt;
            let most = if asked == Some(0) { context } else { context - 1 };
            let message =
                format!("{field}: found {prompt} tokens, expected at most {most}: the model's context has {context} tokens");
            return complaint(field, message);
        }
        let left = context - prompt;
        match asked {
            Some(asked) if asked > left => {
                let field = fields.max_tokens;
                let message = format!(
                    "{field}: found {asked}, expected at most {left}: the prompt has {prompt} tokens and the model's context {context}"
                );
                complaint(field, message)
            }
            Some(asked) => Ok(asked),
            None => Ok(left.min(default)),
        }
    }
}

#[cfg(test)]
impl Service {
    /// Serves the models of [`crate::engine::testing`] as `base` and `adapter`.
    pub(crate) fn for_tests(engine: Engine, tokenizer: Arc<Tokenizer>) -> Service {
        let names = vec!["base".to_owned(), "adapter".to_owned()];
        let (vocabulary, body_time) = (crate::engine::testing::VOCABULARY, Duration::from_secs(60));
        Service {
            engine,
            tokenizer,
            names,
            context: 64,
            vocabulary,
            started: 5,
            max_body: 2000,
            body_time,
            answered: Arc::default(),
        }
    }
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}
