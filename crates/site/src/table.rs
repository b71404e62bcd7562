//! A section of the file with the line of every key, and the ways to read one value of it.
use std::path::Path;

use sirocco_config::{Place, line_of, nearest, show};
use toml::Value;
use toml::de::{DeTable, DeValue};

use crate::error::SiteError;

/// Sections hold sections (`[partition.gpu]`), and those an inline table (`gpus = { … }`); nothing stands deeper.
const DEPTH: usize = 3;

/// A section: what was typed under it, and where.
#[derive(Debug)]
pub(crate) struct Table {
    /// As messages call it: `partition.gpu`; empty for the file itself.
    pub(crate) label: String,
    pub(crate) at: Place,
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    key: String,
    at: Place,
    value: Value,
    inner: Option<Table>,
}

/// The text and the file that it came from.
#[derive(Clone, Copy)]
struct Origin<'a> {
    text: &'a str,
    file: &'a Path,
}

impl Origin<'_> {
    fn line(self, offset: usize) -> Place {
        Place::Line { file: self.file.to_owned(), line: line_of(self.text, offset) }
    }
}

impl Table {
    /// Parses a whole file. Keys are in the order of the file.
    pub(crate) fn parse(text: &str, file: &Path) -> Result<Table, SiteError> {
        let origin = Origin { text, file };
        let syntax = |error: &toml::de::Error| SiteError::Syntax {
            at: origin.line(error.span().map_or(0, |span| span.start)),
            message: error.message().trim().replace('\n', "; "),
        };
        // Once for the places of the keys, once for plain values.
        let places = DeTable::parse(text).map_err(|error| syntax(&error))?;
        let values: toml::Table = toml::from_str(text).map_err(|error| syntax(&error))?;
        Ok(Table::build(origin, String::new(), Place::File(file.to_owned()), (places.get_ref(), values), DEPTH))
    }

    fn build(
        origin: Origin<'_>,
        label: String,
        at: Place,
        (places, mut values): (&DeTable<'_>, toml::Table),
        depth: usize,
    ) -> Table {
        let mut spans: Vec<_> = places.iter().map(|(key, place)| (key.span().start, key.get_ref(), place.get_ref())).collect();
        spans.sort_by_key(|(start, ..)| *start);
        let mut entries = Vec::new();
        for (start, key, place) in spans {
            let (at, key) = (origin.line(start), key.to_string());
            let Some(value) = values.remove(&key) else { continue };
            let inner = match (place, &value) {
                (DeValue::Table(places), Value::Table(values)) if depth > 0 => {
                    let label = if label.is_empty() { key.clone() } else { format!("{label}.{key}") };
                    Some(Table::build(origin, label, at.clone(), (places, values.clone()), depth - 1))
                }
                _ => None,
            };
            entries.push(Entry { key, at, value, inner });
        }
        Table { label, at, entries }
    }

    /// Refuses the first key that is none of `keys`.
    pub(crate) fn expect_keys(&self, keys: &[&str]) -> Result<(), SiteError> {
        match self.entries.iter().find(|entry| !keys.contains(&entry.key.as_str())) {
            None => Ok(()),
            Some(entry) => Err(SiteError::Unknown {
                at: entry.at.clone(),
                setting: self.setting(&entry.key),
                nearest: nearest(&entry.key, keys.iter().copied()).map(str::to_owned),
                valid: keys.join(", "),
            }),
        }
    }

    /// The section `key` of this one.
    pub(crate) fn section(&self, key: &str) -> Result<Option<&Table>, SiteError> {
        match self.entry(key) {
            None => Ok(None),
            Some(Entry { inner: Some(inner), .. }) => Ok(Some(inner)),
            Some(_) => Err(self.refuse(key, if self.label.is_empty() { "a section in brackets" } else { "a table in braces" })),
        }
    }

    /// Every section of this one, with its name: `[partition.gpu]` is the section `gpu` of `partition`.
    pub(crate) fn sections(&self) -> Result<Vec<(&str, &Table)>, SiteError> {
        let plain = |name: &str| {
            let letter = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-' | '.');
            !name.is_empty() && name.chars().all(letter)
        };
        let named = |entry: &Entry| -> bool { plain(&entry.key) };
        if let Some(entry) = self.entries.iter().find(|entry| !named(entry)) {
            let expected = "a name of letters, digits, dots, dashes and underscores".to_owned();
            let setting = format!("a section of [{}]", self.label);
            return Err(SiteError::Value { at: entry.at.clone(), setting, found: format!("{:?}", entry.key), expected });
        }
        let inner = |entry: &Entry| -> SiteError { self.refuse(&entry.key, &format!("a section, [{}.NAME]", self.label)) };
        self.entries.iter().map(|entry| Ok((entry.key.as_str(), entry.inner.as_ref().ok_or_else(|| inner(entry))?))).collect()
    }

    /// A text on one line, never empty.
    pub(crate) fn text(&self, key: &str) -> Result<Option<String>, SiteError> {
        self.map(key, "a text on one line", |value| value.as_str().filter(|text| is_line(text)).map(str::to_owned))
    }

    /// A list of texts; absent is empty.
    pub(crate) fn texts(&self, key: &str) -> Result<Vec<String>, SiteError> {
        let one = |value: &Value| value.as_str().filter(|text| is_line(text)).map(str::to_owned);
        let all = |value: &Value| value.as_array()?.iter().map(one).collect::<Option<Vec<_>>>().filter(|all| !all.is_empty());
        Ok(self.map(key, "a list of texts, not empty", all)?.unwrap_or_default())
    }

    /// A whole number from `least` to a thousand million.
    pub(crate) fn whole(&self, key: &str, least: u64) -> Result<Option<u64>, SiteError> {
        self.map(key, &format!("a whole number from {least} to 1000000000"), |value| {
            let number = u64::try_from(value.as_integer()?).ok()?;
            (least..=1_000_000_000).contains(&number).then_some(number)
        })
    }

    /// `true` or `false`.
    pub(crate) fn truth(&self, key: &str) -> Result<Option<bool>, SiteError> {
        self.map(key, "true or false", Value::as_bool)
    }

    /// One of a list of words.
    pub(crate) fn word<T: Copy>(&self, key: &str, words: &[(&str, T)]) -> Result<Option<T>, SiteError> {
        self.map(key, &either(words), |value| meaning(value, words))
    }

    /// A list of such words; absent is empty.
    pub(crate) fn words<T: Copy>(&self, key: &str, words: &[(&str, T)]) -> Result<Vec<T>, SiteError> {
        let expected = format!("a list of {}", either(words));
        let all = |value: &Value| value.as_array()?.iter().map(|value| meaning(value, words)).collect();
        Ok(self.map(key, &expected, all)?.unwrap_or_default())
    }

    /// Every key with its text, for a table whose keys are free.
    pub(crate) fn free_texts(&self) -> Result<Vec<(String, String)>, SiteError> {
        let missing = |entry: &Entry| self.refuse(&entry.key, "a text on one line");
        let text = |entry: &Entry| Ok((entry.key.clone(), self.text(&entry.key)?.ok_or_else(|| missing(entry))?));
        self.entries.iter().map(text).collect()
    }

    /// The value through `read`, whose `None` means that it is not what was expected.
    pub(crate) fn map<T>(
        &self,
        key: &str,
        expected: &str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Result<Option<T>, SiteError> {
        match self.entry(key) {
            None => Ok(None),
            Some(entry) => read(&entry.value).map(Some).ok_or_else(|| self.refuse(key, expected)),
        }
    }

    /// The error for a value that is of no use.
    pub(crate) fn refuse(&self, key: &str, expected: &str) -> SiteError {
        let found = self.entry(key).map_or_else(|| "(absent)".to_owned(), |entry| show(&entry.value));
        SiteError::Value { at: self.place(key), setting: self.setting(key), found, expected: expected.to_owned() }
    }

    /// The error for a key that is absent.
    pub(crate) fn missing(&self, key: &str, expected: &str) -> SiteError {
        SiteError::Missing { at: self.at.clone(), setting: self.setting(key), expected: expected.to_owned() }
    }

    /// Where the key stands, or the section if it does not.
    fn place(&self, key: &str) -> Place {
        self.entry(key).map_or_else(|| self.at.clone(), |entry| entry.at.clone())
    }

    fn setting(&self, key: &str) -> String {
        if self.label.is_empty() { format!("section [{key}]") } else { format!("[{}] {key}", self.label) }
    }

    fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }
}

/// What a person reads on one line: no control characters, not empty.
fn is_line(text: &str) -> bool {
    !text.trim().is_empty() && !text.chars().any(char::is_control)
}

fn meaning<T: Copy>(value: &Value, words: &[(&str, T)]) -> Option<T> {
    let typed = value.as_str()?;
    words.iter().find(|(word, _)| *word == typed).map(|(_, meaning)| *meaning)
}

fn either<T>(words: &[(&str, T)]) -> String {
    words.iter().map(|(word, _)| format!("{word:?}")).collect::<Vec<_>>().join(" or ")
}
