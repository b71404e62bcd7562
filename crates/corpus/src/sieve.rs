//! What a bad record costs: an error (`fail`), or a skip that is counted and named (`skip`), never a silent one.

use crate::error::CorpusError;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// What to do with a bad record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnBad {
    /// The first bad record is an error.
    #[default]
    Fail,
    /// Bad records are counted and named; the others are unharmed.
    Skip,
}

/// A value and the line, from 1, on which it starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located<T> {
    /// Line of the file, from 1.
    pub line: u64,
    /// The value.
    pub value: T,
}

/// What a reader yields.
pub type Record<T> = Result<Located<T>, CorpusError>;

/// One record that was passed over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// The data file.
    pub file: PathBuf,
    /// Its line, from 1.
    pub line: u64,
    /// What was found and what was expected.
    pub reason: String,
}

/// The records that were passed over: all are counted, the first [`Skips::NAMED`] are named.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Skips {
    /// How many in all.
    pub count: u64,
    /// How many of each kind.
    pub by_kind: BTreeMap<String, u64>,
    /// The places, in the order of the file.
    pub places: Vec<Skipped>,
}

impl Skips {
    /// How many places are kept, so that a wholly wrong file does not make a report as large as itself.
    pub const NAMED: usize = 1000;

    /// Counts one more.
    pub fn add(&mut self, kind: &str, skipped: Skipped) {
        self.count += 1;
        *self.by_kind.entry(kind.to_owned()).or_default() += 1;
        if self.places.len() < Self::NAMED {
            self.places.push(skipped);
        }
    }
}

impl fmt::Display for Skips {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for place in &self.places {
            writeln!(out, "{}:{}: {}", place.file.display(), place.line, place.reason)?;
        }
        match self.count.saturating_sub(self.places.len() as u64) {
            0 => Ok(()),
            more => writeln!(out, "and {more} more"),
        }
    }
}

/// Applies one [`OnBad`] to a stream of records and keeps the account.
#[derive(Debug, Default)]
pub struct Sieve {
    on_bad: OnBad,
    skips: Skips,
}

impl Sieve {
    /// A sieve that has seen nothing.
    pub fn new(on_bad: OnBad) -> Sieve {
        Sieve { on_bad, skips: Skips::default() }
    }

    /// Gives the record back, or `None` for one that is skipped.
    ///
    /// # Errors
    /// The record's own error under `fail`, and always one that is not about the record (such as a file that cannot be read).
    pub fn pass<T>(&mut self, record: Record<T>) -> Result<Option<Located<T>>, CorpusError> {
        match record {
            Ok(located) => Ok(Some(located)),
            Err(CorpusError::Bad(bad)) if self.on_bad == OnBad::Skip => {
                let skipped = Skipped { file: bad.file, line: bad.line, reason: bad.fault.to_string() };
                self.skips.add(bad.fault.kind(), skipped);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// What was skipped so far.
    pub fn skips(&self) -> &Skips {
        &self.skips
    }

    /// The account, when the stream has ended.
    pub fn into_skips(self) -> Skips {
        self.skips
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Fault;
    use std::path::Path;

    fn bad(line: u64) -> Record<()> {
        Err(CorpusError::bad(Path::new("f"), line, Fault::EmptyText))
    }

    #[test]
    fn skip_counts_all_and_names_the_first() {
        let mut sieve = Sieve::new(OnBad::Skip);
        for line in 1..=1500 {
            assert!(sieve.pass(bad(line)).unwrap().is_none());
        }
        let skips = sieve.into_skips();
        assert_eq!((skips.count, skips.places.len(), skips.by_kind["empty text"]), (1500, 1000, 1500));
        assert!(skips.to_string().ends_with("f:1000: the text is empty; expected some\nand 500 more\n"));
    }

    #[test]
    fn fail_stops_and_an_unreadable_file_is_never_skipped() {
        assert!(Sieve::new(OnBad::Fail).pass(bad(1)).is_err());
        let broken: Record<()> = Err(CorpusError::io(Path::new("f"), "read", std::io::ErrorKind::Other.into()));
        assert!(Sieve::new(OnBad::Skip).pass(broken).is_err());
    }
}
