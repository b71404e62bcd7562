//! The fields that chat and plain completions share.

use serde_json::Value;

use super::error::ApiError;
use super::fields::{Fields, wrong};
use crate::engine::Sampling;

/// Stop strings of one request at most, and bytes of one of them.
const STOPS: usize = 16;
const STOP_BYTES: usize = 1024;

/// What both endpoints understand.
#[derive(Debug)]
pub(crate) struct Options {
    /// Name of the model.
    pub(crate) model: String,
    /// How tokens are chosen.
    pub(crate) sampling: Sampling,
    /// Text at which generation ends.
    pub(crate) stop: Vec<String>,
    /// How the answer is sent.
    pub(crate) delivery: Delivery,
}

/// How an answer is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// As one JSON object.
    Whole,
    /// As server-sent events.
    Stream {
        /// With a last event that has the usage.
        usage: bool,
    },
}

impl Options {
    /// Takes the shared fields.
    pub(crate) fn take(fields: &mut Fields) -> Result<Options, ApiError> {
        let model = fields.required_string("model")?;
        let sampling = Sampling {
            temperature: fields.number("temperature", 0.0..=2.0)?.unwrap_or(1.0),
            top_p: fields.number("top_p", 0.0..=1.0)?.unwrap_or(1.0),
            seed: fields.seed("seed")?,
        };
        let stop = take_stop(fields)?;
        let delivery = take_delivery(fields)?;
        fields.neutral("n", |value| value == &Value::from(1), "1")?;
        for name in ["presence_penalty", "frequency_penalty"] {
            fields.neutral(name, |value| value.as_f64() == Some(0.0), "0")?;
        }
        fields.neutral("logit_bias", |value| value.as_object().is_some_and(|bias| bias.is_empty()), "an empty object")?;
        take_harmless(fields)?;
        Ok(Options { model, sampling, stop, delivery })
    }
}

/// Fields that are for the operator's records and change no answer.
fn take_harmless(fields: &mut Fields) -> Result<(), ApiError> {
    for name in ["user", "safety_identifier", "prompt_cache_key", "prompt_cache_retention", "service_tier"] {
        fields.string(name)?;
    }
    fields.flag("store")?;
    match fields.take("metadata") {
        Some(value) if !value.is_object() => Err(wrong("metadata", &value, "an object")),
        _ => Ok(()),
    }
}

fn take_stop(fields: &mut Fields) -> Result<Vec<String>, ApiError> {
    let expected = format!("a string or an array of at most {STOPS} strings, each of 1 to {STOP_BYTES} bytes");
    let Some(value) = fields.take("stop") else { return Ok(Vec::new()) };
    let items = match &value {
        Value::String(_) => std::slice::from_ref(&value),
        Value::Array(items) if items.len() <= STOPS => items,
        other => return Err(wrong("stop", other, &expected)),
    };
    let accepted = |item: &Value| item.as_str().filter(|stop| (1..=STOP_BYTES).contains(&stop.len())).map(str::to_owned);
    items.iter().map(|item| accepted(item).ok_or_else(|| wrong("stop", item, &expected))).collect()
}

fn take_delivery(fields: &mut Fields) -> Result<Delivery, ApiError> {
    let stream = fields.flag("stream")?;
    let mut usage = false;
    if let Some(value) = fields.take("stream_options") {
        if !stream {
            return Err(wrong("stream_options", &value, "this field only together with \"stream\": true"));
        }
        let mut nested = Fields::nested(value, "stream_options")?;
        usage = nested.flag("include_usage")?;
        nested.neutral("include_obfuscation", |value| value == &Value::Bool(false), "false")?;
        nested.finish()?;
    }
    Ok(if stream { Delivery::Stream { usage } } else { Delivery::Whole })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn take(json: &str) -> Result<Options, ApiError> {
        let mut fields = Fields::parse(json.as_bytes())?;
        let options = Options::take(&mut fields)?;
        fields.finish()?;
        Ok(options)
    }

    #[test]
    fn defaults_are_those_of_the_api() {
        let options = take(r#"{"model": "m"}"#).unwrap();
        assert_eq!(options.sampling, Sampling { temperature: 1.0, top_p: 1.0, seed: None });
        assert_eq!((options.stop.len(), options.delivery), (0, Delivery::Whole));
    }

    #[rstest]
    #[case(r#"{}"#, "model")]
    #[case(r#"{"model": 3}"#, "model")]
    #[case(r#"{"model": "m", "n": 2}"#, "n")]
    #[case(r#"{"model": "m", "temperature": -0.1}"#, "temperature")]
    #[case(r#"{"model": "m", "temperature": "NaN"}"#, "temperature")]
    #[case(r#"{"model": "m", "top_p": 1.01}"#, "top_p")]
    #[case(r#"{"model": "m", "seed": "1"}"#, "seed")]
    #[case(r#"{"model": "m", "stop": ""}"#, "stop")]
    #[case(r#"{"model": "m", "stop": ["a", 1]}"#, "stop")]
    #[case(r#"{"model": "m", "presence_penalty": 0.5}"#, "presence_penalty")]
    #[case(r#"{"model": "m", "logit_bias": {"5": 1}}"#, "logit_bias")]
    #[case(r#"{"model": "m", "stream_options": {}}"#, "stream_options")]
    #[case(r#"{"model": "m", "stream": true, "stream_options": {"x": 1}}"#, "stream_options.x")]
    #[case(r#"{"model": "m", "metadata": 1}"#, "metadata")]
    #[case(r#"{"model": "m", "top_k": 5}"#, "top_k")]
    fn what_would_be_ignored_or_is_wrong_is_refused_by_name(#[case] body: &str, #[case] param: &str) {
        let error = take(body).unwrap_err();
        assert_eq!((error.status.as_u16(), error.param.as_deref()), (400, Some(param)), "{}", error.message);
    }

    #[test]
    fn harmless_and_neutral_fields_are_accepted() {
        let body = r#"{"model": "m", "n": 1, "user": "u", "metadata": {}, "store": false, "logit_bias": {},
            "presence_penalty": 0, "frequency_penalty": 0.0, "stop": ["a"], "stream": true,
            "stream_options": {"include_usage": true}}"#;
        assert_eq!(take(body).unwrap().delivery, Delivery::Stream { usage: true });
    }
}
