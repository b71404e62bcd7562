//! The quality report of a corpus: what was read, what was left out and why, and what is in the result.

use crate::sieve::Skips;
use crate::stats::{Lengths, Script};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// All that is known about a prepared corpus. Its `Display` is Markdown. It depends on the sources and the specification only.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Name of the corpus.
    pub name: String,
    /// Share of the questions that was to be held out.
    pub held_out: f64,
    /// What is for training.
    pub train: SplitReport,
    /// What is held out.
    pub valid: SplitReport,
    /// Questions with more than one answer; all of one question's answers are on one side of the split.
    pub questions_with_several_answers: u64,
    /// The sources, in the order of the specification.
    pub sources: Vec<SourceReport>,
    /// The files that were written; empty for a check.
    pub files: Vec<OutputFile>,
}

/// One side of the split.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitReport {
    /// Conversations.
    pub conversations: u64,
    /// Characters of their messages.
    pub characters: u64,
}

/// One source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceReport {
    /// Its name.
    pub name: String,
    /// Its file.
    pub path: PathBuf,
    /// SHA-256 of the file.
    pub sha256: String,
    /// Name of its licence.
    pub licence: String,
    /// Records read, the bad ones included.
    pub records: u64,
    /// Conversations kept.
    pub kept: u64,
    /// Records that were dropped because an equal one had been kept.
    pub duplicates: u64,
    /// Records that were passed over because they were bad.
    pub skipped: Skips,
    /// Lengths of what the user and the system say.
    pub question_chars: Lengths,
    /// Lengths of the answers.
    pub answer_chars: Lengths,
    /// Scripts of the answers.
    pub answer_scripts: BTreeMap<Script, u64>,
    /// Messages with something unusual in them, which were kept as they are.
    pub oddities: BTreeMap<String, u64>,
}

/// A file that was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputFile {
    /// Its path.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// SHA-256 of its content.
    pub sha256: String,
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = self.train.conversations + self.valid.conversations;
        writeln!(out, "# Corpus {}\n", self.name)?;
        writeln!(
            out,
            "{total} conversations: {} for training, {} held out.",
            self.train.conversations, self.valid.conversations
        )?;
        writeln!(out, "The held-out ones are chosen by a hash of the question (share asked for: {}), so that no", self.held_out)?;
        writeln!(out, "question is on both sides. {} questions have several answers.", self.questions_with_several_answers)?;
        for source in &self.sources {
            write!(out, "\n{source}")?;
        }
        if !self.files.is_empty() {
            writeln!(out, "\n## Files\n")?;
        }
        for file in &self.files {
            writeln!(out, "- {}: {} bytes, SHA-256 {}", file.path.display(), file.bytes, file.sha256)?;
        }
        Ok(())
    }
}

impl fmt::Display for SourceReport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "## Source {}\n", self.name)?;
        writeln!(out, "- file: {} (SHA-256 {})", self.path.display(), self.sha256)?;
        writeln!(out, "- licence: {}", self.licence)?;
        let skipped = self.skipped.count;
        writeln!(out, "- records: {} read, {} kept, {} duplicates, {skipped} bad", self.records, self.kept, self.duplicates)?;
        writeln!(out, "- questions: {}", self.question_chars)?;
        writeln!(out, "- answers: {}", self.answer_chars)?;
        let scripts: Vec<String> = self.answer_scripts.iter().map(|(script, count)| format!("{script} {count}")).collect();
        writeln!(out, "- scripts of the answers: {}", scripts.join(", "))?;
        for (oddity, count) in &self.oddities {
            writeln!(out, "- kept as they are: {count} messages with {oddity}")?;
        }
        for line in self.skipped.to_string().lines() {
            writeln!(out, "- skipped: {line}")?;
        }
        Ok(())
    }
}
