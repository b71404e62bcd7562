//! `POST /v1/completions`: a text or token ids are continued, or scored.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde_json::{Value, json};
use sirocco_tokens::Tokenizer;

use super::Service;
use super::admission::Admitted;
use super::error::ApiError;
use super::fields::{Fields, wrong};
use super::format::{Format, legacy_logprobs};
use super::options::Options;
use super::service::LengthFields;
use super::stream::deliver;
use crate::engine::{FinishReason, Piece, Plan};

/// Length of an answer when none is asked for, as in OpenAI's API.
const DEFAULT_MAX_TOKENS: usize = 16;
/// Alternatives per token that may be asked for.
const LOGPROBS: usize = 20;
const PROMPT: &str = "a string, an array of token ids, or an array with one of them";

/// A request of this endpoint.
#[derive(Debug)]
struct CompletionRequest {
    options: Options,
    prompt: Prompt,
    max_tokens: Option<usize>,
    logprobs: Option<usize>,
    echo: bool,
}

/// What is to be continued.
#[derive(Debug, PartialEq)]
enum Prompt {
    Text(String),
    Ids(Vec<u32>),
}

/// Continues or scores a prompt.
pub(crate) async fn create(
    State(service): State<Arc<Service>>,
    Admitted { place, body }: Admitted,
) -> Result<Response, ApiError> {
    let request = CompletionRequest::parse(&body, service.vocabulary)?;
    let model = service.model(&request.options.model)?;
    let (place, prompt) = match request.prompt {
        Prompt::Ids(ids) => (place, ids),
        Prompt::Text(text) => service.tokenize(place, move |tokenizer| encode(tokenizer, &text)).await?,
    };
    let names = LengthFields { prompt: "prompt", max_tokens: "max_tokens" };
    let max_tokens = service.room(prompt.len(), request.max_tokens, DEFAULT_MAX_TOKENS, &names)?;
    let plan = Plan {
        model,
        prompt,
        max_tokens,
        sampling: request.options.sampling,
        stop: request.options.stop,
        logprobs: request.logprobs,
        echo: request.echo,
    };
    let ticket = service.engine.submit("cmpl", plan, place)?;
    let format = CompletionFormat { logprobs: request.logprobs.is_some() };
    deliver(ticket, request.options.model, format, request.options.delivery).await
}

/// The ids of a text that stands alone: after the model's start token, where it has one and the text does not begin with
/// it. Whoever uses this endpoint writes all that the model sees, so control tokens are recognised.
fn encode(tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>, ApiError> {
    let ids = tokenizer.encode_control(text).map_err(|error| ApiError::field("prompt", format!("prompt: {error}")))?;
    let start = if ids.starts_with(tokenizer.text_start()) { &[] } else { tokenizer.text_start() };
    Ok([start, &ids].concat())
}

impl CompletionRequest {
    fn parse(body: &[u8], vocabulary: usize) -> Result<CompletionRequest, ApiError> {
        let mut fields = Fields::parse(body)?;
        let options = Options::take(&mut fields)?;
        let prompt = take_prompt(fields.require("prompt")?, vocabulary)?;
        let max_tokens = fields.integer("max_tokens", 0..=usize::MAX)?;
        let logprobs = fields.integer("logprobs", 0..=LOGPROBS)?;
        let echo = fields.flag("echo")?;
        fields.neutral("best_of", |value| value == &Value::from(1), "1")?;
        fields.neutral("suffix", |value| value.as_str() == Some(""), "an empty string")?;
        fields.finish()?;
        Ok(CompletionRequest { options, prompt, max_tokens, logprobs, echo })
    }
}

fn take_prompt(value: Value, vocabulary: usize) -> Result<Prompt, ApiError> {
    match value {
        Value::String(text) => Ok(Prompt::Text(text)),
        Value::Array(mut items) => match items.as_slice() {
            [Value::String(_)] | [Value::Array(_)] => match items.remove(0) {
                Value::String(text) => Ok(Prompt::Text(text)),
                Value::Array(ids) => take_ids(&ids, "prompt[0]", vocabulary),
                other => Err(wrong("prompt", &other, PROMPT)),
            },
            [Value::Number(_), ..] => take_ids(&items, "prompt", vocabulary),
            _ => Err(wrong("prompt", &Value::Array(items), PROMPT)),
        },
        other => Err(wrong("prompt", &other, PROMPT)),
    }
}

fn take_ids(items: &[Value], place: &str, vocabulary: usize) -> Result<Prompt, ApiError> {
    let id = |item: &Value| item.as_u64().filter(|&id| id < vocabulary as u64).and_then(|id| u32::try_from(id).ok());
    let expected = format!("a token id from 0 to {}", vocabulary.saturating_sub(1));
    let ids = items
        .iter()
        .enumerate()
        .map(|(number, item)| id(item).ok_or_else(|| wrong(&format!("{place}[{number}]"), item, &expected)));
    Ok(Prompt::Ids(ids.collect::<Result<_, _>>()?))
}

/// Writes the choices of this endpoint.
struct CompletionFormat {
    logprobs: bool,
}

impl CompletionFormat {
    fn choice(&self, piece: Option<&Piece>, reason: Option<FinishReason>) -> Value {
        let logprobs = piece.filter(|_| self.logprobs).map(|piece| legacy_logprobs(&piece.tokens));
        let text = piece.map_or("", |piece| piece.text.as_str());
        json!({"index": 0, "text": text, "logprobs": logprobs, "finish_reason": reason.map(FinishReason::as_str)})
    }
}

impl Format for CompletionFormat {
    const OBJECTS: (&'static str, &'static str) = ("text_completion", "text_completion");

    fn opening(&self) -> Option<Value> {
        None
    }

    fn piece(&self, piece: Piece) -> Value {
        self.choice(Some(&piece), None)
    }

    fn closing(&self, reason: FinishReason) -> Value {
        self.choice(None, Some(reason))
    }

    fn whole(&self, piece: Piece, reason: FinishReason) -> Value {
        self.choice(Some(&piece), Some(reason))
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn parse(rest: &str) -> Result<CompletionRequest, ApiError> {
        CompletionRequest::parse(format!(r#"{{"model": "m", {rest}}}"#).as_bytes(), 300)
    }

    #[rstest]
    #[case(r#""max_tokens": 1"#, "prompt")]
    #[case(r#""prompt": 3"#, "prompt")]
    #[case(r#""prompt": []"#, "prompt")]
    #[case(r#""prompt": ["a", "b"]"#, "prompt")]
    #[case(r#""prompt": [[1], [2]]"#, "prompt")]
    #[case(r#""prompt": [1, "a"]"#, "prompt[1]")]
    #[case(r#""prompt": [1, 300]"#, "prompt[1]")]
    #[case(r#""prompt": [[-1]]"#, "prompt[0][0]")]
    #[case(r#""prompt": "a", "max_tokens": -1"#, "max_tokens")]
    #[case(r#""prompt": "a", "max_tokens": 1.5"#, "max_tokens")]
    #[case(r#""prompt": "a", "logprobs": true"#, "logprobs")]
    #[case(r#""prompt": "a", "logprobs": 1000000000"#, "logprobs")]
    #[case(r#""prompt": "a", "best_of": 2"#, "best_of")]
    #[case(r#""prompt": "a", "suffix": "b""#, "suffix")]
    #[case(r#""prompt": "a", "messages": []"#, "messages")]
    fn wrong_fields_are_named(#[case] rest: &str, #[case] param: &str) {
        let error = parse(rest).unwrap_err();
        assert_eq!((error.status.as_u16(), error.param.as_deref()), (400, Some(param)), "{}", error.message);
    }

    #[rstest]
    #[case(r#""ab""#, Prompt::Text("ab".to_owned()))]
    #[case(r#"["ab"]"#, Prompt::Text("ab".to_owned()))]
    #[case("[1, 2]", Prompt::Ids(vec![1, 2]))]
    #[case("[[1, 2]]", Prompt::Ids(vec![1, 2]))]
    fn prompts_are_text_or_ids(#[case] json: &str, #[case] expected: Prompt) {
        let request = parse(&format!(r#""prompt": {json}, "echo": true, "max_tokens": 0, "logprobs": 5"#)).unwrap();
        assert_eq!(request.prompt, expected);
        assert_eq!((request.max_tokens, request.logprobs, request.echo), (Some(0), Some(5), true));
    }
}
