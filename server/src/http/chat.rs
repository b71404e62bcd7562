//! `POST /v1/chat/completions`.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde_json::{Value, json};
use sirocco_corpus::Message;
use sirocco_tokens::Tokenizer;

use super::Service;
use super::admission::Admitted;
use super::error::ApiError;
use super::fields::{Fields, wrong};
use super::format::{Format, chat_logprobs};
use super::options::Options;
use super::service::LengthFields;
use super::stream::deliver;
use crate::engine::{FinishReason, Piece, Plan};

/// Alternatives per token that may be asked for.
const TOP_LOGPROBS: usize = 20;
const ROLES: [&str; 4] = ["system", "developer", "user", "assistant"];

/// A request of this endpoint.
#[derive(Debug)]
struct ChatRequest {
    options: Options,
    messages: Vec<Message>,
    max_tokens: Option<usize>,
    /// The name under which the length was given.
    max_tokens_field: &'static str,
    logprobs: Option<usize>,
}

/// Answers a conversation.
pub(crate) async fn create(
    State(service): State<Arc<Service>>,
    Admitted { place, body }: Admitted,
) -> Result<Response, ApiError> {
    let request = ChatRequest::parse(&body)?;
    let model = service.model(&request.options.model)?;
    let messages = request.messages;
    let (place, prompt) = service.tokenize(place, move |tokenizer| chat_prompt(tokenizer, &messages)).await?;
    let names = LengthFields { prompt: "messages", max_tokens: request.max_tokens_field };
    let max_tokens = service.room(prompt.len(), request.max_tokens, usize::MAX, &names)?;
    let plan = Plan {
        model,
        prompt,
        max_tokens,
        sampling: request.options.sampling,
        stop: request.options.stop,
        logprobs: request.logprobs,
        echo: false,
    };
    let ticket = service.engine.submit("chatcmpl", plan, place)?;
    deliver(ticket, request.options.model, ChatFormat { logprobs: request.logprobs.is_some() }, request.options.delivery).await
}

fn chat_prompt(tokenizer: &Tokenizer, messages: &[Message]) -> Result<Vec<u32>, ApiError> {
    if !tokenizer.has_chat_template() {
        return Err(ApiError::field("messages", "messages: this model has no chat template: use /v1/completions"));
    }
    tokenizer.chat_prompt(messages).map_err(|error| ApiError::field("messages", format!("messages: {error}")))
}

impl ChatRequest {
    fn parse(body: &[u8]) -> Result<ChatRequest, ApiError> {
        let mut fields = Fields::parse(body)?;
        let options = Options::take(&mut fields)?;
        let messages = take_messages(&mut fields)?;
        let (max_tokens, max_tokens_field) = take_max_tokens(&mut fields)?;
        let logprobs = take_logprobs(&mut fields)?;
        take_unsupported(&mut fields)?;
        fields.finish()?;
        Ok(ChatRequest { options, messages, max_tokens, max_tokens_field, logprobs })
    }
}

/// `max_tokens` or its newer name; both only if they agree.
fn take_max_tokens(fields: &mut Fields) -> Result<(Option<usize>, &'static str), ApiError> {
    let old = fields.integer("max_tokens", 1..=usize::MAX)?;
    let new = fields.integer("max_completion_tokens", 1..=usize::MAX)?;
    match (old, new) {
        (Some(old), Some(new)) if old != new => Err(ApiError::field(
            "max_tokens",
            format!("max_tokens: found {old}, but max_completion_tokens is {new}: give one of them"),
        )),
        (_, Some(_)) => Ok((new, "max_completion_tokens")),
        _ => Ok((old, "max_tokens")),
    }
}

fn take_logprobs(fields: &mut Fields) -> Result<Option<usize>, ApiError> {
    let wanted = fields.flag("logprobs")?;
    match fields.integer("top_logprobs", 0..=TOP_LOGPROBS)? {
        Some(count) if count > 0 && !wanted => {
            Err(wrong("top_logprobs", &count.into(), "this field only together with \"logprobs\": true"))
        }
        count => Ok(wanted.then(|| count.unwrap_or(0))),
    }
}

/// Fields of the API whose only supported value is the one that changes nothing.
fn take_unsupported(fields: &mut Fields) -> Result<(), ApiError> {
    let empty = |value: &Value| value.as_array().is_some_and(Vec::is_empty);
    fields.neutral("tools", empty, "an empty array")?;
    fields.neutral("functions", empty, "an empty array")?;
    fields.neutral("tool_choice", |value| matches!(value.as_str(), Some("none" | "auto")), "\"none\" and \"auto\"")?;
    fields.neutral("parallel_tool_calls", Value::is_boolean, "true and false")?;
    fields.neutral("response_format", |value| value == &json!({"type": "text"}), "{\"type\": \"text\"}")?;
    fields.neutral("modalities", |value| value == &json!(["text"]), "[\"text\"]")
}

fn take_messages(fields: &mut Fields) -> Result<Vec<Message>, ApiError> {
    let items = match fields.require("messages")? {
        Value::Array(items) if !items.is_empty() => items,
        other => return Err(wrong("messages", &other, "an array of at least one message")),
    };
    items.into_iter().enumerate().map(|(number, item)| take_message(item, &format!("messages[{number}]"))).collect()
}

fn take_message(item: Value, place: &str) -> Result<Message, ApiError> {
    let mut fields = Fields::nested(item, place)?;
    let role = fields.required_string("role")?;
    if !ROLES.contains(&role.as_str()) {
        return Err(wrong(&fields.full_name("role"), &role.into(), "\"system\", \"user\" or \"assistant\""));
    }
    // OpenAI's newer name for the same role, which no chat template of these models knows.
    let role = if role == "developer" { "system".to_owned() } else { role };
    let content = fields.require("content")?;
    let content = take_content(content, &fields.full_name("content"))?;
    // What clients send back with an earlier answer.
    let empty = |value: &Value| value.as_array().is_some_and(Vec::is_empty);
    fields.neutral("tool_calls", empty, "an empty array")?;
    fields.neutral("annotations", empty, "an empty array")?;
    fields.finish()?;
    Ok(Message { role, content })
}

/// A string, or an array of text parts.
fn take_content(content: Value, place: &str) -> Result<String, ApiError> {
    let parts = match content {
        Value::String(text) => return Ok(text),
        Value::Array(parts) if !parts.is_empty() => parts,
        other => return Err(wrong(place, &other, "a string or an array of text parts")),
    };
    let mut text = String::new();
    for (number, part) in parts.into_iter().enumerate() {
        let mut fields = Fields::nested(part, &format!("{place}[{number}]"))?;
        let kind = fields.required_string("type")?;
        if kind != "text" {
            return Err(wrong(&fields.full_name("type"), &kind.into(), "\"text\""));
        }
        text.push_str(&fields.required_string("text")?);
        fields.finish()?;
    }
    Ok(text)
}

/// Writes the choices of this endpoint.
struct ChatFormat {
    logprobs: bool,
}

impl ChatFormat {
    fn chunk(&self, delta: &Value, logprobs: &Value, reason: Option<FinishReason>) -> Value {
        let reason = reason.map(FinishReason::as_str);
        json!({"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": reason})
    }

    fn logprobs(&self, piece: &Piece) -> Value {
        if self.logprobs { chat_logprobs(&piece.tokens) } else { Value::Null }
    }
}

impl Format for ChatFormat {
    const OBJECTS: (&'static str, &'static str) = ("chat.completion", "chat.completion.chunk");

    fn opening(&self) -> Option<Value> {
        Some(self.chunk(&json!({"role": "assistant", "content": ""}), &Value::Null, None))
    }

    fn piece(&self, piece: Piece) -> Value {
        let logprobs = self.logprobs(&piece);
        self.chunk(&json!({"content": piece.text}), &logprobs, None)
    }

    fn closing(&self, reason: FinishReason) -> Value {
        self.chunk(&json!({}), &Value::Null, Some(reason))
    }

    fn whole(&self, piece: Piece, reason: FinishReason) -> Value {
        let logprobs = self.logprobs(&piece);
        let message = json!({"role": "assistant", "content": piece.text, "refusal": null});
        json!({"index": 0, "message": message, "logprobs": logprobs, "finish_reason": reason.as_str()})
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn parse(rest: &str) -> Result<ChatRequest, ApiError> {
        ChatRequest::parse(format!(r#"{{"model": "m", "messages": [{{"role": "user", "content": "x"}}]{rest}}}"#).as_bytes())
    }

    #[rstest]
    #[case(r#", "max_tokens": -1"#, "max_tokens")]
    #[case(r#", "max_tokens": 0"#, "max_tokens")]
    #[case(r#", "max_tokens": 1, "max_completion_tokens": 2"#, "max_tokens")]
    #[case(r#", "top_logprobs": 2"#, "top_logprobs")]
    #[case(r#", "logprobs": true, "top_logprobs": 1000000000"#, "top_logprobs")]
    #[case(r#", "tools": [{"type": "function"}]"#, "tools")]
    #[case(r#", "response_format": {"type": "json_object"}"#, "response_format")]
    #[case(r#", "chat_template_kwargs": {}"#, "chat_template_kwargs")]
    fn wrong_fields_are_named(#[case] rest: &str, #[case] param: &str) {
        let error = parse(rest).unwrap_err();
        assert_eq!((error.status.as_u16(), error.param.as_deref()), (400, Some(param)), "{}", error.message);
    }

    #[rstest]
    #[case("3", "messages")]
    #[case("[]", "messages")]
    #[case("[1]", "messages[0]")]
    #[case(r#"[{"content": "x"}]"#, "messages[0].role")]
    #[case(r#"[{"role": "tool", "content": "x"}]"#, "messages[0].role")]
    #[case(r#"[{"role": "user"}]"#, "messages[0].content")]
    #[case(r#"[{"role": "user", "content": 1}]"#, "messages[0].content")]
    #[case(r#"[{"role": "user", "content": "x", "name": "n"}]"#, "messages[0].name")]
    #[case(r#"[{"role": "user", "content": [{"type": "image_url"}]}]"#, "messages[0].content[0].type")]
    #[case(r#"[{"role": "user", "content": [{"type": "text"}]}]"#, "messages[0].content[0].text")]
    fn wrong_messages_are_named_by_their_place(#[case] messages: &str, #[case] param: &str) {
        let error = ChatRequest::parse(format!(r#"{{"model": "m", "messages": {messages}}}"#).as_bytes()).unwrap_err();
        assert_eq!((error.status.as_u16(), error.param.as_deref()), (400, Some(param)), "{}", error.message);
    }

    #[test]
    fn text_parts_are_joined_and_developer_is_system() {
        let body = r#"{"model": "m", "messages": [
            {"role": "developer", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            {"role": "assistant", "content": "c", "refusal": null, "tool_calls": null}]}"#;
        let request = ChatRequest::parse(body.as_bytes()).unwrap();
        let messages: Vec<_> = request.messages.iter().map(|m| (m.role.as_str(), m.content.as_str())).collect();
        assert_eq!(messages, [("system", "ab"), ("assistant", "c")]);
    }

    #[test]
    fn neutral_values_are_accepted() {
        let request =
            parse(r#", "tools": [], "tool_choice": "auto", "response_format": {"type": "text"}, "max_completion_tokens": 5"#);
        let request = request.unwrap();
        assert_eq!((request.max_tokens, request.max_tokens_field), (Some(5), "max_completion_tokens"));
        assert_eq!(parse(r#", "logprobs": true"#).unwrap().logprobs, Some(0));
    }
}
