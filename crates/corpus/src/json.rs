//! A JSON value that keeps what a lenient reader loses: a field that occurs twice is seen.

use crate::fault::Fault;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// A JSON value; fields in the order of the file, repeated ones included.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Json {
    Null,
    Bool,
    Number,
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    /// Parses one line.
    pub(crate) fn parse(line: &str) -> Result<Json, Fault> {
        serde_json::from_str(line).map_err(|error| {
            let words = error.to_string();
            // The parser adds its own "at line 1 column 7"; the line is ours to say and the column has its own field.
            let message = words.split(" at line ").next().unwrap_or_default().to_owned();
            Fault::InvalidJson { column: error.column(), message }
        })
    }

    /// The type in words, for messages.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Json::Null => "null",
            Json::Bool => "a boolean",
            Json::Number => "a number",
            Json::Text(_) => "a string",
            Json::List(_) => "a list",
            Json::Object(_) => "an object",
        }
    }

    /// The fields of an object that may have only the fields `known`, in that order; `at` is its path (empty at the top).
    pub(crate) fn fields<const N: usize>(
        self,
        at: &str,
        known: [&'static str; N],
        expected: &'static str,
    ) -> Result<[Json; N], Fault> {
        let object = match self {
            Json::Object(fields) => fields,
            other => {
                let field = if at.is_empty() { "the line" } else { at }.to_owned();
                return Err(Fault::WrongType { field, found: other.kind(), expected: "an object" });
            }
        };
        let names = object.iter().map(|(name, _)| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let mut values: [Option<Json>; N] = [const { None }; N];
        for (name, value) in object {
            let field = path(at, &name);
            let Some(place) = known.iter().position(|known| *known == name) else {
                return Err(Fault::UnknownField { field, expected });
            };
            if values[place].replace(value).is_some() {
                return Err(Fault::DuplicateField { field });
            }
        }
        if let Some(missing) = values.iter().position(Option::is_none) {
            let found = if names.is_empty() { "no field".to_owned() } else { format!("only {names}") };
            return Err(Fault::MissingField { field: path(at, known[missing]), found });
        }
        Ok(values.map(|value| value.unwrap_or(Json::Null)))
    }

    /// The string, or a fault that names `field`.
    pub(crate) fn text(self, field: impl FnOnce() -> String) -> Result<String, Fault> {
        match self {
            Json::Text(text) => Ok(text),
            other => Err(Fault::WrongType { field: field(), found: other.kind(), expected: "a string" }),
        }
    }
}

fn path(at: &str, name: &str) -> String {
    if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Json, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Json, E> {
        Ok(Json::Bool)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Json, E> {
        Ok(Json::Number)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Json, E> {
        Ok(Json::Number)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Json, E> {
        Ok(Json::Number)
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(Json::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Json, E> {
        Ok(Json::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Json, A::Error> {
        let mut object = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            object.push(entry);
        }
        Ok(Json::Object(object))
    }
}
