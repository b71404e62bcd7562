//! The fields of a request: each is taken by name and checked; one that nobody took is an error, not ignored.

use std::ops::RangeInclusive;

use axum::http::StatusCode;
use serde_json::{Map, Value};

use super::error::ApiError;

/// The fields of a JSON object that have not been taken yet.
#[derive(Debug)]
pub(crate) struct Fields {
    left: Map<String, Value>,
    /// Where the object stands in the request, such as `messages[0].`; empty for the request itself.
    place: String,
}

impl Fields {
    /// Reads the body of a request.
    pub(crate) fn parse(body: &[u8]) -> Result<Fields, ApiError> {
        match serde_json::from_slice(body) {
            Ok(Value::Object(left)) => Ok(Fields { left, place: String::new() }),
            Ok(other) => Err(ApiError::new(
                StatusCode::BAD_REQUEST,
                format!("request body: found {}, expected a JSON object", describe(&other)),
            )),
            Err(error) => Err(ApiError::new(StatusCode::BAD_REQUEST, format!("request body: not valid JSON: {error}"))
                .with_code("invalid_json")),
        }
    }

    /// Reads the object at `place`.
    pub(crate) fn nested(value: Value, place: &str) -> Result<Fields, ApiError> {
        match value {
            Value::Object(left) => Ok(Fields { left, place: format!("{place}.") }),
            other => Err(wrong(place, &other, "an object")),
        }
    }

    /// The full name of the field `name`.
    pub(crate) fn full_name(&self, name: &str) -> String {
        format!("{}{name}", self.place)
    }

    /// Takes a field; `null` stands for an absent one, as in OpenAI's API.
    pub(crate) fn take(&mut self, name: &str) -> Option<Value> {
        self.left.shift_remove(name).filter(|value| !value.is_null())
    }

    /// Takes a field that must be there.
    pub(crate) fn require(&mut self, name: &str) -> Result<Value, ApiError> {
        self.take(name).ok_or_else(|| {
            let name = self.full_name(name);
            ApiError::field(&name, format!("{name}: missing")).with_code("missing_required_parameter")
        })
    }

    /// Takes a string.
    pub(crate) fn string(&mut self, name: &str) -> Result<Option<String>, ApiError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(wrong(&self.full_name(name), &other, "a string")),
        }
    }

    /// Takes a string that must be there.
    pub(crate) fn required_string(&mut self, name: &str) -> Result<String, ApiError> {
        match self.require(name)? {
            Value::String(text) => Ok(text),
            other => Err(wrong(&self.full_name(name), &other, "a string")),
        }
    }

    /// Takes a boolean, false when absent.
    pub(crate) fn flag(&mut self, name: &str) -> Result<bool, ApiError> {
        match self.take(name) {
            None => Ok(false),
            Some(Value::Bool(value)) => Ok(value),
            Some(other) => Err(wrong(&self.full_name(name), &other, "true or false")),
        }
    }

    /// Takes an integer of `range`.
    pub(crate) fn integer(&mut self, name: &str, range: RangeInclusive<usize>) -> Result<Option<usize>, ApiError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let found = value.as_u64().and_then(|number| usize::try_from(number).ok()).filter(|number| range.contains(number));
        let expected = match *range.end() {
            usize::MAX => format!("an integer, at least {}", range.start()),
            end => format!("an integer from {} to {end}", range.start()),
        };
        found.map(Some).ok_or_else(|| wrong(&self.full_name(name), &value, &expected))
    }

    /// Takes a number of `range`.
    pub(crate) fn number(&mut self, name: &str, range: RangeInclusive<f64>) -> Result<Option<f64>, ApiError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let expected = format!("a number from {} to {}", range.start(), range.end());
        match value.as_f64().filter(|number| range.contains(number)) {
            Some(number) => Ok(Some(number)),
            None => Err(wrong(&self.full_name(name), &value, &expected)),
        }
    }

    /// Takes an integer of 64 bits, signed or not, as its bits.
    pub(crate) fn seed(&mut self, name: &str) -> Result<Option<u64>, ApiError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        match value.as_u64().or_else(|| value.as_i64().map(i64::cast_unsigned)) {
            Some(seed) => Ok(Some(seed)),
            None => Err(wrong(&self.full_name(name), &value, "an integer of 64 bits")),
        }
    }

    /// Takes a field that is supported only with a value that changes nothing: one for which `neutral` holds.
    pub(crate) fn neutral(&mut self, name: &str, neutral: fn(&Value) -> bool, expected: &str) -> Result<(), ApiError> {
        match self.take(name) {
            Some(value) if !neutral(&value) => {
                let name = self.full_name(name);
                Err(ApiError::field(&name, format!("{name}: found {}; this server supports only {expected}", describe(&value)))
                    .with_code("unsupported_value"))
            }
            _ => Ok(()),
        }
    }

    /// Refuses the request if a field is left that was not taken.
    pub(crate) fn finish(self) -> Result<(), ApiError> {
        let left = self.left.iter().find(|(_, value)| !value.is_null());
        match left {
            None => Ok(()),
            Some((name, _)) => {
                let name = shorten(&self.full_name(name));
                Err(ApiError::field(&name, format!("{name}: this server does not know or support this field"))
                    .with_code("unknown_parameter"))
            }
        }
    }
}

/// Status 400: the field `name` holds something else than `expected`.
pub(crate) fn wrong(name: &str, found: &Value, expected: &str) -> ApiError {
    let code = if matches!(found, Value::Number(_)) { "invalid_value" } else { "invalid_type" };
    ApiError::field(name, format!("{name}: found {}, expected {expected}", describe(found))).with_code(code)
}

/// A value in words, short whatever it holds.
pub(crate) fn describe(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => shorten(&number.to_string()),
        Value::String(text) => format!("the string {:?}", shorten(text)),
        Value::Array(items) => format!("an array of {} items", items.len()),
        Value::Object(_) => "an object".to_owned(),
    }
}

fn shorten(text: &str) -> String {
    match text.char_indices().nth(40) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(json: &str) -> Fields {
        Fields::parse(json.as_bytes()).unwrap()
    }

    #[test]
    fn bodies_that_are_not_objects_are_refused() {
        for body in ["", "{", "[]", "\"x\"", r#"{"a": 1e999}"#, r#"{"a": NaN}"#, r#"{"a": "\ud800"}"#] {
            assert_eq!(Fields::parse(body.as_bytes()).unwrap_err().status, 400, "{body}");
        }
        assert_eq!(Fields::parse("[".repeat(100_000).as_bytes()).unwrap_err().status, 400);
    }

    #[test]
    fn a_wrong_value_is_named_with_what_was_expected() {
        let error = fields(r#"{"max_tokens": -1}"#).integer("max_tokens", 1..=usize::MAX).unwrap_err();
        assert_eq!(error.message, "max_tokens: found -1, expected an integer, at least 1");
        assert_eq!((error.param.as_deref(), error.code), (Some("max_tokens"), Some("invalid_value")));
        let error = fields(r#"{"temperature": "hot"}"#).number("temperature", 0.0..=2.0).unwrap_err();
        assert_eq!(error.message, r#"temperature: found the string "hot", expected a number from 0 to 2"#);
        assert!(fields(r#"{"n": 1.5}"#).integer("n", 1..=2).is_err());
        assert!(fields(r#"{"stream": 1}"#).flag("stream").is_err());
        assert!(fields(r#"{"seed": 1.0}"#).seed("seed").is_err());
        assert_eq!(fields(r#"{"seed": -1}"#).seed("seed"), Ok(Some(u64::MAX)));
    }

    #[test]
    fn null_is_absent_and_what_is_left_is_an_error() {
        let mut both = fields(r#"{"a": null, "b": 1}"#);
        assert_eq!(both.string("a"), Ok(None));
        let error = both.finish().unwrap_err();
        assert_eq!((error.param.as_deref(), error.code), (Some("b"), Some("unknown_parameter")));
        assert!(fields(r#"{"c": null}"#).finish().is_ok());
    }

    #[test]
    fn long_values_are_shortened() {
        let long = Value::String("é".repeat(1000));
        assert!(describe(&long).chars().count() < 70);
    }
}
