//! From a raw value to a checked one: a setting of a given type and range, or an error that says what was expected.
use std::path::{Path, PathBuf};

use toml::Value;

use crate::error::ConfigError;
use crate::place::Place;
use crate::run_file::{RunFile, Typed, show};
use crate::settings::{label, nearest};

/// A way to read one setting of a [`RunFile`].
pub(crate) struct Reader<'a> {
    file: &'a RunFile,
    section: &'static str,
}

/// A range of numbers and its words.
#[derive(Clone, Copy)]
pub(crate) enum Range {
    Positive,
    NotNegative,
    /// From 0, without 1.
    Fraction,
}

impl Range {
    fn holds(self, number: f64) -> bool {
        number.is_finite()
            && match self {
                Range::Positive => number > 0.0,
                Range::NotNegative => number >= 0.0,
                Range::Fraction => (0.0..1.0).contains(&number),
            }
    }

    fn words(self) -> &'static str {
        match self {
            Range::Positive => "a finite number above 0",
            Range::NotNegative => "a finite number of at least 0",
            Range::Fraction => "two numbers from 0 to below 1, such as [0.9, 0.999]",
        }
    }
}

impl<'a> Reader<'a> {
    pub(crate) fn new(file: &'a RunFile, section: &'static str) -> Reader<'a> {
        Reader { file, section }
    }

    pub(crate) fn typed(&self, key: &str) -> Option<&'a Typed> {
        self.file.get(&self.dotted(key))
    }

    pub(crate) fn place(&self, key: &str) -> Place {
        self.file.place_of(&self.dotted(key))
    }

    /// A text, trimmed of nothing and never empty.
    pub(crate) fn text(&self, key: &str, expected: &str) -> Result<Option<String>, ConfigError> {
        self.map(key, expected, |value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned))
    }

    /// A whole number from `least` to `most`.
    pub(crate) fn whole(&self, key: &str, least: u64, most: u64) -> Result<Option<u64>, ConfigError> {
        let expected = match most {
            most if most >= i64::MAX as u64 => format!("a whole number of at least {least}"),
            most => format!("a whole number from {least} to {most}"),
        };
        self.map(key, &expected, |value| {
            let number = u64::try_from(value.as_integer()?).ok()?;
            (least..=most).contains(&number).then_some(number)
        })
    }

    /// A number, written with or without a point.
    pub(crate) fn number(&self, key: &str, range: Range) -> Result<Option<f64>, ConfigError> {
        self.map(key, range.words(), |value| as_number(value, range))
    }

    /// Two numbers in a list.
    pub(crate) fn pair(&self, key: &str, range: Range) -> Result<Option<(f64, f64)>, ConfigError> {
        self.map(key, range.words(), |value| match value.as_array()?.as_slice() {
            [first, second] => Some((as_number(first, range)?, as_number(second, range)?)),
            _ => None,
        })
    }

    /// `true` or `false`.
    pub(crate) fn truth(&self, key: &str) -> Result<Option<bool>, ConfigError> {
        self.map(key, "true or false", Value::as_bool)
    }

    /// One of a list of words.
    pub(crate) fn word<T: Copy>(&self, key: &str, words: &[(&'static str, T)]) -> Result<Option<T>, ConfigError> {
        self.word_or_alias(key, words, |_| None)
    }

    /// The same, where people also say it in words of other programs: `alias` knows which one is meant.
    pub(crate) fn word_or_alias<T: Copy>(
        &self,
        key: &str,
        words: &[(&'static str, T)],
        alias: impl Fn(&str) -> Option<&'static str>,
    ) -> Result<Option<T>, ConfigError> {
        let names: Vec<_> = words.iter().map(|(name, _)| format!("{name:?}")).collect();
        let mut expected = names.join(" or ");
        let meant = |typed: &str| alias(typed).or_else(|| nearest(typed, words.iter().map(|(name, _)| *name)));
        if let Some(meant) = self.typed(key).and_then(|typed| meant(typed.value.as_str()?)) {
            expected.push_str(&format!("; did you mean {meant:?}?"));
        }
        self.map(key, &expected, |value| {
            let typed = value.as_str()?;
            words.iter().find(|(name, _)| *name == typed).map(|(_, meaning)| *meaning)
        })
    }

    /// A path, made absolute from `base`.
    pub(crate) fn path(&self, key: &str, base: &Path, expected: &str) -> Result<Option<PathBuf>, ConfigError> {
        Ok(self.text(key, expected)?.map(|text| absolute(base, &text)))
    }

    /// A list of paths, made absolute from `base`.
    pub(crate) fn paths(&self, key: &str, base: &Path, expected: &str) -> Result<Option<Vec<PathBuf>>, ConfigError> {
        self.map(key, expected, |value| {
            let text = |item: &Value| item.as_str().filter(|text| !text.is_empty()).map(|text| absolute(base, text));
            value.as_array()?.iter().map(text).collect()
        })
    }

    /// The error for a value that is absent.
    pub(crate) fn missing(&self, key: &str, expected: &str) -> ConfigError {
        ConfigError::Missing { at: self.place(key), setting: label(self.section, key), expected: expected.to_owned() }
    }

    /// The error for a value that is of no use.
    pub(crate) fn refuse(&self, key: &str, expected: &str) -> ConfigError {
        let (at, setting, found) = self.found(key);
        ConfigError::Value { at, setting, found, expected: expected.to_owned() }
    }

    /// Place, name and value of a setting, for an error.
    pub(crate) fn found(&self, key: &str) -> (Place, String, String) {
        let found = self.typed(key).map_or_else(|| "(default)".to_owned(), |typed| show(&typed.value));
        (self.place(key), label(self.section, key), found)
    }

    /// The setting through `read`, whose `None` means that the value is not what was expected.
    pub(crate) fn map<T>(
        &self,
        key: &str,
        expected: &str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Result<Option<T>, ConfigError> {
        match self.typed(key) {
            None => Ok(None),
            Some(typed) => read(&typed.value).map(Some).ok_or_else(|| self.refuse(key, expected)),
        }
    }

    fn dotted(&self, key: &str) -> String {
        crate::settings::dotted(self.section, key)
    }
}

fn as_number(value: &Value, range: Range) -> Option<f64> {
    let number = value.as_float().or_else(|| value.as_integer().map(|whole| whole as f64))?;
    range.holds(number).then_some(number)
}

/// `text` from `base`, without `.` components; `..` stays, since what it means depends on links.
fn absolute(base: &Path, text: &str) -> PathBuf {
    base.join(text).components().collect()
}
