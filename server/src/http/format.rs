//! The JSON of answers: one object around the choices, log probabilities in OpenAI's two shapes.

use serde_json::{Map, Value, json};

use crate::engine::{FinishReason, Piece, TokenScore, Usage};

/// What stands for minus infinity, as in OpenAI's API.
const LEAST: f64 = -9999.0;

/// An answer in one piece.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The text and its tokens.
    pub(crate) piece: Piece,
    /// Why it ended.
    pub(crate) reason: FinishReason,
    /// What was counted.
    pub(crate) usage: Usage,
}

/// How an endpoint writes its answers.
pub(crate) trait Format: Send + Unpin + 'static {
    /// Names of a whole answer and of a chunk.
    const OBJECTS: (&'static str, &'static str);
    /// The choice of a chunk before all text, if there is one.
    fn opening(&self) -> Option<Value>;
    /// The choice of a chunk with text.
    fn piece(&self, piece: Piece) -> Value;
    /// The choice of the chunk that ends the answer.
    fn closing(&self, reason: FinishReason) -> Value;
    /// The choice of a whole answer.
    fn whole(&self, piece: Piece, reason: FinishReason) -> Value;
}

/// What surrounds the choices.
#[derive(Debug)]
pub(crate) struct Envelope {
    /// The request's id.
    pub(crate) id: String,
    /// Seconds since 1970.
    pub(crate) created: u64,
    /// The model's name.
    pub(crate) model: String,
}

impl Envelope {
    /// The object `object` with `choices`.
    pub(crate) fn with(&self, object: &str, choices: Vec<Value>) -> Map<String, Value> {
        let mut map = Map::new();
        map.insert("id".to_owned(), self.id.clone().into());
        map.insert("object".to_owned(), object.into());
        map.insert("created".to_owned(), self.created.into());
        map.insert("model".to_owned(), self.model.clone().into());
        map.insert("system_fingerprint".to_owned(), concat!("sirocco-", env!("CARGO_PKG_VERSION")).into());
        map.insert("choices".to_owned(), choices.into());
        map
    }
}

/// The `usage` object.
pub(crate) fn usage(usage: Usage) -> Value {
    json!({
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.prompt + usage.completion,
    })
}

/// Log probabilities as `/v1/completions` writes them: one array per property; the first token of all has null.
pub(crate) fn legacy_logprobs(tokens: &[TokenScore]) -> Value {
    let best = |token: &TokenScore| {
        let logprob = token.logprob?;
        let mut map = Map::new();
        // The chosen token is always there; of two tokens with the same text the more probable one is kept.
        for (text, logprob) in token.top.iter().chain(std::iter::once(&(token.text.clone(), logprob))) {
            map.entry(text.clone()).or_insert_with(|| logprob.max(LEAST).into());
        }
        Some(map)
    };
    json!({
        "tokens": tokens.iter().map(|token| token.text.as_str()).collect::<Vec<_>>(),
        "token_logprobs": tokens.iter().map(|token| token.logprob.map(|x| x.max(LEAST))).collect::<Vec<_>>(),
        "top_logprobs": tokens.iter().map(best).collect::<Vec<_>>(),
        "text_offset": tokens.iter().map(|token| token.offset).collect::<Vec<_>>(),
    })
}

/// Log probabilities as `/v1/chat/completions` writes them: one object per token.
pub(crate) fn chat_logprobs(tokens: &[TokenScore]) -> Value {
    let entry = |text: &str, logprob: f64| {
        let mut map = Map::new();
        map.insert("token".to_owned(), text.into());
        map.insert("logprob".to_owned(), logprob.max(LEAST).into());
        // A token that is a part of a character has no text of its own, so its bytes are not known here.
        let bytes = (!text.contains(char::REPLACEMENT_CHARACTER)).then(|| text.as_bytes().to_vec());
        map.insert("bytes".to_owned(), bytes.into());
        map
    };
    let content: Vec<Value> = tokens
        .iter()
        .map(|token| {
            let mut map = entry(&token.text, token.logprob.unwrap_or(LEAST));
            let top: Vec<Value> = token.top.iter().map(|(text, logprob)| entry(text, *logprob).into()).collect();
            map.insert("top_logprobs".to_owned(), top.into());
            map.into()
        })
        .collect();
    json!({"content": content, "refusal": null})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens() -> Vec<TokenScore> {
        let token = |text: &str, offset, logprob, top: &[(&str, f64)]| TokenScore {
            text: text.to_owned(),
            offset,
            logprob,
            top: top.iter().map(|(text, logprob)| (text.to_string(), *logprob)).collect(),
        };
        vec![token("a", 0, None, &[]), token("b", 1, Some(-2.0), &[("c", -0.5), ("c", -3.0)])]
    }

    #[test]
    fn the_legacy_shape_has_one_array_per_property() {
        let expected = json!({
            "tokens": ["a", "b"],
            "token_logprobs": [null, -2.0],
            "top_logprobs": [null, {"c": -0.5, "b": -2.0}],
            "text_offset": [0, 1],
        });
        assert_eq!(legacy_logprobs(&tokens()), expected);
    }

    #[test]
    fn the_chat_shape_has_one_object_per_token() {
        let mut tokens = tokens().split_off(1);
        tokens[0].top.truncate(1);
        tokens[0].logprob = Some(f64::NEG_INFINITY);
        let value = chat_logprobs(&tokens);
        let first = json!({"token": "b", "logprob": LEAST, "bytes": [98],
            "top_logprobs": [{"token": "c", "logprob": -0.5, "bytes": [99]}]});
        assert_eq!(value, json!({"content": [first], "refusal": null}));
    }
}
