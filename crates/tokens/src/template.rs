//! A model's chat template, run as Transformers runs it: Jinja with trimmed blocks, Python's string methods, `raise_exception`,
//! `strftime_now` and Python's JSON. A template is data from a model directory: it can reach no file and its work is limited.

use crate::clock::strftime_now;
use crate::error::TokensError;
use minijinja::value::Kwargs;
use minijinja::{Environment, Error, ErrorKind, Value};
use serde::Serialize;
use sirocco_corpus::Message;
use std::collections::BTreeMap;

/// Most instructions that one rendering may take: thousands of times what the longest honest conversation needs.
const FUEL: u64 = 50_000_000;

/// A compiled chat template.
#[derive(Debug)]
pub(crate) struct ChatTemplate {
    environment: Environment<'static>,
    special: BTreeMap<&'static str, String>,
}

#[derive(Serialize)]
struct Context<'a> {
    messages: &'a [Message],
    add_generation_prompt: bool,
    tools: Option<()>,
    documents: Option<()>,
    #[serde(flatten)]
    special: &'a BTreeMap<&'static str, String>,
}

impl ChatTemplate {
    pub(crate) fn compile(source: &str, special: BTreeMap<&'static str, String>) -> Result<ChatTemplate, TokensError> {
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_fuel(Some(FUEL));
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        let raised = |words: String| Error::new(ErrorKind::InvalidOperation, words);
        environment.add_function("raise_exception", move |words: String| -> Result<Value, Error> { Err(raised(words)) });
        environment.add_function("strftime_now", move |format: String| strftime_now(&format).map_err(raised));
        environment.add_filter("tojson", to_json);
        environment.add_template_owned("chat", without_generation_tags(source)).map_err(failed)?;
        Ok(ChatTemplate { environment, special })
    }

    /// The text of a conversation.
    pub(crate) fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String, TokensError> {
        let template = self.environment.get_template("chat").map_err(failed)?;
        let context = Context { messages, add_generation_prompt, tools: None, documents: None, special: &self.special };
        template.render(context).map_err(failed)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
fn failed(error: Error) -> TokensError {
    let words = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    let line = error.line().map(|line| format!(" (line {line} of the template)")).unwrap_or_default();
    TokensError::Template { message: format!("{words}{line}") }
}

/// `{% generation %}` marks answers for Transformers' own masks and writes nothing; this engine does not know it.
fn without_generation_tags(source: &str) -> String {
    let mut text = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let Some(length) = rest[start..].find("%}").map(|end| end + 2) else { break };
        let tag = &rest[start..start + length];
        let inner = tag[2..length - 2].trim_matches(['-', '+']).trim();
        let instead = match inner {
            "generation" => tag.replacen("generation", "if true", 1),
            "endgeneration" => tag.replacen("endgeneration", "endif", 1),
            _ => tag.to_owned(),
        };
        text.push_str(&rest[..start]);
        text.push_str(&instead);
        rest = &rest[start + length..];
    }
    text + rest
}

#[expect(clippy::needless_pass_by_value, reason = "the shape of a filter")]
/// Python's `json.dumps(value, ensure_ascii=False, indent=…)`; the engine's own filter escapes for HTML.
fn to_json(value: &Value, options: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = options.get("indent")?;
    let _ascii: Option<bool> = options.get("ensure_ascii")?;
    options.assert_all_used()?;
    let bad = |error: serde_json::Error| Error::new(ErrorKind::BadSerialization, error.to_string());
    let mut bytes = Vec::new();
    match indent {
        None => value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, Python)).map_err(bad)?,
        Some(width) => {
            let blanks = " ".repeat(width.min(16));
            let formatter = serde_json::ser::PrettyFormatter::with_indent(blanks.as_bytes());
            value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, formatter)).map_err(bad)?;
        }
    }
    String::from_utf8(bytes).map_err(|error| Error::new(ErrorKind::BadSerialization, error.to_string()))
}

/// Python's separators: a space after a comma and after a colon.
struct Python;

impl serde_json::ser::Formatter for Python {
    fn begin_array_value<W: ?Sized + std::io::Write>(&mut self, writer: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(&mut self, writer: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(&mut self, writer: &mut W) -> std::io::Result<()> {
        writer.write_all(b": ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(source: &str) -> Result<String, String> {
        let special = BTreeMap::from([("bos_token", "<s>".to_owned())]);
        let template = ChatTemplate::compile(source, special).map_err(|error| error.to_string())?;
        template.render(&[Message::new("user", " <b> سلام ")], true).map_err(|error| error.to_string())
    }

    #[test]
    fn blocks_methods_and_json_are_as_in_transformers() {
        let source =
            "{% for m in messages %}\n  {% if m.role == 'user' %}\n[{{ m['content'].strip() }}]\n  {% endif %}\n{% endfor %}\n";
        assert_eq!(render(source).unwrap(), "[<b> سلام]\n");
        assert_eq!(render("{{ messages[0] | tojson }}").unwrap(), r#"{"role": "user", "content": " <b> سلام "}"#);
        assert_eq!(render("{{ [1, 2] | tojson(indent=1) }}").unwrap(), "[\n 1,\n 2\n]");
        assert_eq!(render("{{ bos_token }}{{ eos_token }}{% if not tools %}-{% endif %}").unwrap(), "<s>-");
        assert_eq!(render("{% generation -%}\n a {%- endgeneration %}b").unwrap(), "ab");
        assert_eq!(render("{{ strftime_now('%Y') | length }}").unwrap(), "4");
    }

    #[test]
    fn refusals_and_endless_work_are_errors() {
        let words = render("{{ raise_exception('roles must alternate') }}").unwrap_err();
        assert_eq!(words, "the chat template failed: roles must alternate (line 1 of the template)");
        assert!(
            render("{% for a in range(9000) %}{% for b in range(9000) %}{% endfor %}{% endfor %}").unwrap_err().contains("fuel")
        );
        assert!(render("{% if %}").unwrap_err().starts_with("the chat template failed"));
        assert!(render("{% include 'x' %}").is_err());
    }
}
