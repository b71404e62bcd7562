//! What a verification finds, and where.

use std::fmt;

use serde::Serialize;

use crate::hash::Hash;
use crate::witness::Accepted;

/// What is wrong at a place.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wrong {
    /// There is no checkpoint, or it cannot be read.
    Checkpoint,
    /// A signature does not verify, nobody known has signed, or too few witnesses.
    Trust,
    /// A file of the log is missing.
    Missing,
    /// A file is longer or shorter than it must be, or torn.
    Length,
    /// An entry is not the one whose hash the log has.
    Entry,
    /// An entry is no action in its canonical text.
    Action,
    /// A hash in a tile is not that of what is below it.
    Tile,
    /// The entries do not lead to the checkpoint's root.
    Root,
    /// The log has fewer entries than it had: earlier checkpoints, its journal or its tiles know of more.
    Shorter,
    /// The log continues another history than the one that was seen before.
    Fork,
    /// A partial tile of an earlier size is not the beginning of the tile of today.
    Partial,
    /// The journal has bytes that are no record, and whole records after them.
    Journal,
}

impl Wrong {
    /// In a few words.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Checkpoint => "no readable checkpoint",
            Self::Trust => "the checkpoint is not trusted",
            Self::Missing => "a file is missing",
            Self::Length => "a file has another length",
            Self::Entry => "an entry was changed",
            Self::Action => "an entry is no action",
            Self::Tile => "a hash was changed",
            Self::Root => "the root is another",
            Self::Shorter => "entries are gone",
            Self::Fork => "the history is another",
            Self::Partial => "a partial tile was changed",
            Self::Journal => "the journal is damaged",
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Finding {
    /// What.
    pub wrong: Wrong,
    /// The file, by its path in the log.
    pub file: String,
    /// The byte in the file, from 0.
    pub byte: Option<u64>,
    /// The entry, or the first one that it touches.
    pub entry: Option<u64>,
    /// What stands there.
    pub found: String,
    /// What should.
    pub expected: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        if let Some(byte) = self.byte {
            write!(f, ", byte {byte}")?;
        }
        if let Some(entry) = self.entry {
            write!(f, ", entry {entry}")?;
        }
        write!(f, ": {}: found {}, expected {}", self.wrong.words(), self.found, self.expected)
    }
}

/// What is not wrong and worth knowing.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize)]
pub struct Remarks {
    /// Entries whose clock was behind that of the entry before, and the first of them.
    pub clock_backwards: u64,
    /// The first of them.
    pub first_backwards: Option<u64>,
    /// Entries that record what a power loss took.
    pub recovered: Vec<u64>,
    /// Tiles beyond the checkpoint. Without a finding they are those of a sealing that did not end, whose entries the journal still has.
    pub beyond: Vec<String>,
    /// Files below `tile/` that are no tiles.
    pub stray: Vec<String>,
}

/// The outcome of a verification.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// The checkpoint's log and the witnesses that cosigned it, if the policy accepts it.
    pub accepted: Option<Accepted>,
    /// Entries that the checkpoint has.
    pub size: u64,
    /// The root that the entries lead to, if all are there.
    pub root: Option<Hash>,
    /// Everything that is wrong, in the order of the files; at most [`FINDING_LIMIT`](super::FINDING_LIMIT) or a few more.
    pub findings: Vec<Finding>,
    /// False when so much is wrong that the rest was not looked at.
    pub complete: bool,
    /// What is not wrong.
    pub remarks: Remarks,
}

impl Report {
    /// Is nothing wrong?
    pub fn is_sound(&self) -> bool {
        self.findings.is_empty() && self.complete && self.accepted.is_some()
    }
}
