//! How labels are written in TOML and JSON: words, lists of words and days, each with what was expected in its errors.

use std::collections::BTreeSet;

use serde::{Deserialize, Deserializer};

use crate::country::Country;
use crate::day::Day;
use crate::labels::{Classification, Expiry, Licences, PersonalData, Purposes, Residency};

/// A value before it is known which label it is of.
#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum Written {
    Flag(bool),
    Date(toml::value::Datetime),
    Word(String),
    List(Vec<String>),
    Other(serde::de::IgnoredAny),
}

impl Written {
    fn found(&self) -> String {
        match self {
            Written::Flag(flag) => flag.to_string(),
            Written::Date(date) => date.to_string(),
            Written::Word(word) => format!("\"{word}\""),
            Written::List(words) => format!("{words:?}"),
            Written::Other(_) => "another type of value".to_owned(),
        }
    }

    /// One word, or the words of a list.
    fn words(self) -> Option<Vec<String>> {
        match self {
            Written::Word(word) => Some(vec![word]),
            Written::List(words) => Some(words),
            Written::Flag(_) | Written::Date(_) | Written::Other(_) => None,
        }
    }
}

/// A label that can be read from what was written.
pub(crate) trait FromWritten: Sized {
    /// What has to be written.
    const EXPECTED: &str;
    /// The label, unless something else is written.
    fn from_written(written: Written) -> Option<Self>;
}

/// Reads a label; the word `unknown` is no label.
pub(crate) fn label<'de, D: Deserializer<'de>, T: FromWritten>(deserializer: D) -> Result<Option<T>, D::Error> {
    let written = Written::deserialize(deserializer)?;
    if matches!(&written, Written::Word(word) if word == "unknown") {
        return Ok(None);
    }
    let found = written.found();
    let wrong = || serde::de::Error::custom(format!("found {found}, expected {} or \"unknown\"", T::EXPECTED));
    T::from_written(written).map(Some).ok_or_else(wrong)
}

/// Reads the licences; the word `unknown` says that they are not known.
pub(crate) fn licences<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Licences, D::Error> {
    label::<D, Licences>(deserializer).map(Option::unwrap_or_default)
}

impl FromWritten for Residency {
    const EXPECTED: &str = "\"anywhere\", a country (two capital letters of ISO 3166-1) such as \"LU\", or a list of countries such as [\"LU\", \"FR\"]";

    fn from_written(written: Written) -> Option<Residency> {
        match written {
            Written::Word(word) if word == "anywhere" => Some(Residency::Anywhere),
            Written::Word(code) => Country::parse(&code).map(|country| Residency::In([country].into())),
            Written::List(codes) => {
                codes.iter().map(|code| Country::parse(code)).collect::<Option<BTreeSet<_>>>().map(Residency::In)
            }
            _ => None,
        }
    }
}

impl FromWritten for Classification {
    const EXPECTED: &str = "\"public\", \"internal\", \"restricted\", \"confidential\", \"secret\"";

    fn from_written(written: Written) -> Option<Classification> {
        let Written::Word(word) = written else { return None };
        Classification::ALL.into_iter().find(|known| known.word() == word)
    }
}

impl FromWritten for PersonalData {
    const EXPECTED: &str = "\"none\", \"pseudonymised\", \"present\"";

    fn from_written(written: Written) -> Option<PersonalData> {
        let Written::Word(word) = written else { return None };
        PersonalData::ALL.into_iter().find(|known| known.word() == word)
    }
}

impl FromWritten for bool {
    const EXPECTED: &str = "true, false";

    fn from_written(written: Written) -> Option<bool> {
        match written {
            Written::Flag(flag) => Some(flag),
            _ => None,
        }
    }
}

impl FromWritten for Purposes {
    const EXPECTED: &str = "\"any\" or a list of purposes";

    fn from_written(written: Written) -> Option<Purposes> {
        match written {
            Written::Word(word) if word == "any" => Some(Purposes::Any),
            Written::List(names) if names.iter().all(|name| !name.is_empty()) => {
                Some(Purposes::Only(names.into_iter().collect()))
            }
            _ => None,
        }
    }
}

impl FromWritten for Expiry {
    const EXPECTED: &str = "\"never\" or the last day of use, such as 2027-06-30";

    fn from_written(written: Written) -> Option<Expiry> {
        match written {
            Written::Word(word) if word == "never" => Some(Expiry::Never),
            Written::Word(word) => word.parse::<Day>().ok().map(Expiry::On),
            Written::Date(date) => date.to_string().parse::<Day>().ok().map(Expiry::On),
            _ => None,
        }
    }
}

impl FromWritten for Licences {
    const EXPECTED: &str = "an SPDX identifier, a name that begins with \"LicenseRef-\", or a list of those";

    fn from_written(written: Written) -> Option<Licences> {
        let names = written.words().filter(|names| !names.is_empty())?;
        let plain = |name: &String| {
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'+'))
        };
        names.iter().all(plain).then(|| Licences::new(names))
    }
}
