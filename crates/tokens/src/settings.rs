//! What tokenizer_config.json and chat_template.jinja say: names of special tokens and the chat template.

use crate::error::TokensError;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The special tokens that a chat template may name.
const NAMES: [&str; 4] = ["bos_token", "eos_token", "unk_token", "pad_token"];

/// The settings beside a tokenizer.json, and the bytes that they came from.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    /// `bos_token` and so on, with their text.
    pub(crate) special: BTreeMap<&'static str, String>,
    /// The chat template's source.
    pub(crate) template: Option<String>,
    /// The files that were read: name and content.
    pub(crate) files: Vec<(&'static str, Vec<u8>)>,
    /// Where tokenizer_config.json is, or would be.
    pub(crate) path: PathBuf,
}

impl Settings {
    /// Reads the settings of a model directory; both files may be missing. A chat_template.jinja goes before the template in
    /// tokenizer_config.json, as in Transformers.
    pub(crate) fn open(directory: &Path) -> Result<Settings, TokensError> {
        let mut settings = Settings { path: directory.join("tokenizer_config.json"), ..Settings::default() };
        if let Some(bytes) = read_optional(&settings.path)? {
            settings.read_config(&bytes)?;
            settings.files.push(("tokenizer_config.json", bytes));
        }
        let path = directory.join("chat_template.jinja");
        if let Some(bytes) = read_optional(&path)? {
            let text =
                String::from_utf8(bytes.clone()).map_err(|_| TokensError::file(&path, "found bytes that are not UTF-8"))?;
            settings.template = Some(text);
            settings.files.push(("chat_template.jinja", bytes));
        }
        Ok(settings)
    }

    fn read_config(&mut self, bytes: &[u8]) -> Result<(), TokensError> {
        let wrong = |words: String| TokensError::file(&self.path, words);
        let config: Value = serde_json::from_slice(bytes).map_err(|error| wrong(format!("invalid JSON: {error}")))?;
        for name in NAMES {
            let text = match &config[name] {
                Value::Null => continue,
                Value::String(text) => text,
                Value::Object(token) if token.get("content").is_some_and(Value::is_string) => {
                    token["content"].as_str().unwrap_or_default()
                }
                other => return Err(wrong(format!("{name} is {other}; expected a string, or an object with content"))),
            };
            self.special.insert(name, text.to_owned());
        }
        self.template = match &config["chat_template"] {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            Value::Array(list) => {
                let default = list.iter().find(|item| item["name"] == "default").and_then(|item| item["template"].as_str());
                let missing = || wrong("chat_template has no template named \"default\"; expected one".to_owned());
                Some(default.ok_or_else(missing)?.to_owned())
            }
            _ => return Err(wrong("chat_template is neither a string nor a list; expected a template".to_owned())),
        };
        Ok(())
    }
}

fn read_optional(path: &Path) -> Result<Option<Vec<u8>>, TokensError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(TokensError::io(path, "read", error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(config: &str) -> Result<Settings, String> {
        let mut settings = Settings { path: PathBuf::from("c.json"), ..Settings::default() };
        settings.read_config(config.as_bytes()).map_err(|error| error.to_string())?;
        Ok(settings)
    }

    #[test]
    fn tokens_as_strings_and_objects_and_named_templates() {
        let settings = read(
            r#"{"eos_token":"</s>","bos_token":{"content":"<s>","lstrip":false},"pad_token":null,
                "chat_template":[{"name":"tool_use","template":"t"},{"name":"default","template":"d"}]}"#,
        )
        .unwrap();
        assert_eq!(settings.special, BTreeMap::from([("bos_token", "<s>".to_owned()), ("eos_token", "</s>".to_owned())]));
        assert_eq!(settings.template.as_deref(), Some("d"));
        assert!(read("{").unwrap_err().starts_with("c.json: invalid JSON"));
        assert!(read(r#"{"eos_token":2}"#).unwrap_err().contains("eos_token is 2; expected a string"));
        assert!(read(r#"{"chat_template":[]}"#).unwrap_err().contains("no template named \"default\""));
    }
}
