//! Data files to documents: reads, encodes on all cores, keeps the account of each file.

use crate::cache_file::SourceCounts;
use crate::document::Document;
use crate::error::TokensError;
use crate::tokenizer::Tokenizer;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sirocco_corpus::{Conversation, Located, OnBad, Record, Sieve, Skipped, Skips, read_chat, read_text, sha256_file};
use std::path::Path;

/// How data files are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Chat JSONL.
    Chat,
    /// Text JSONL or .txt.
    Text,
}

/// How far the reading is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IngestProgress {
    /// Index of the data file.
    pub file: usize,
    /// How many data files there are.
    pub files: usize,
    /// Documents written so far, of all files.
    pub documents: u64,
    /// Tokens written so far, of all files.
    pub tokens: u64,
}

/// Records that are encoded together, so that all cores have work and memory stays small.
const BATCH: usize = 1024;

/// What every data file is read with.
pub(crate) struct Ingest<'a> {
    pub(crate) tokenizer: &'a Tokenizer,
    pub(crate) format: Format,
    pub(crate) sequence_length: usize,
    pub(crate) on_bad: OnBad,
}

/// Takes finished documents.
pub(crate) type Sink<'a> = dyn FnMut(Vec<Document>) -> Result<(), TokensError> + 'a;

impl Ingest<'_> {
    /// Reads one data file and hands its documents to `sink`.
    pub(crate) fn file(&self, path: &Path, sink: &mut Sink<'_>) -> Result<SourceCounts, TokensError> {
        let account = Account {
            counts: SourceCounts { file: path.to_path_buf(), sha256: sha256_file(path)?, ..SourceCounts::default() },
            unfit: Skips::default(),
            on_bad: self.on_bad,
        };
        match self.format {
            Format::Chat => self.records(account, read_chat(path)?, |chat: &Located<Conversation>| self.chat(path, chat), sink),
            Format::Text => self.records(account, read_text(path)?, |text: &Located<String>| self.text(path, text), sink),
        }
    }

    fn chat(&self, path: &Path, chat: &Located<Conversation>) -> Result<Vec<Document>, TokensError> {
        let document = self.tokenizer.encode_chat(&chat.value.messages).map_err(|error| at(path, chat.line, error))?;
        let (found, limit) = (document.ids.len(), self.sequence_length);
        if found > limit {
            return Err(TokensError::TooLong { file: path.to_path_buf(), line: chat.line, found, limit });
        }
        Ok(vec![document])
    }

    fn text(&self, path: &Path, text: &Located<String>) -> Result<Vec<Document>, TokensError> {
        self.tokenizer.encode_text(&text.value, self.sequence_length).map_err(|error| at(path, text.line, error))
    }

    fn records<T: Send + Sync>(
        &self,
        mut account: Account,
        mut records: impl Iterator<Item = Record<T>>,
        encode: impl Fn(&Located<T>) -> Result<Vec<Document>, TokensError> + Sync,
        sink: &mut Sink<'_>,
    ) -> Result<SourceCounts, TokensError> {
        let mut sieve = Sieve::new(self.on_bad);
        let mut more = true;
        while more {
            let mut batch = Vec::with_capacity(BATCH);
            let mut stop = None;
            while batch.len() < BATCH && stop.is_none() {
                let Some(record) = records.next() else {
                    more = false;
                    break;
                };
                account.counts.records += 1;
                match sieve.pass(record) {
                    Ok(kept) => batch.extend(kept),
                    Err(error) => stop = Some(error),
                }
            }
            let results: Vec<Result<Vec<Document>, TokensError>> = batch.par_iter().map(&encode).collect();
            for result in results {
                account.take(result, sink)?;
            }
            // After the records before it, so that the error is about the first bad record of the file.
            if let Some(error) = stop {
                return Err(error.into());
            }
        }
        account.close(sieve.into_skips())
    }
}

fn at(path: &Path, line: u64, source: TokensError) -> TokensError {
    TokensError::Record { file: path.to_path_buf(), line, source: Box::new(source) }
}

/// The account of one file.
struct Account {
    counts: SourceCounts,
    /// Records that were well written and yet could not be encoded.
    unfit: Skips,
    on_bad: OnBad,
}

impl Account {
    fn take(&mut self, result: Result<Vec<Document>, TokensError>, sink: &mut Sink<'_>) -> Result<(), TokensError> {
        match result {
            Ok(documents) => {
                for document in &documents {
                    self.counts.documents += 1;
                    self.counts.tokens += document.ids.len() as u64;
                    self.counts.target_tokens += document.target_count() as u64;
                }
                sink(documents)
            }
            Err(TokensError::TooLong { file, line, found, limit }) if self.on_bad == OnBad::Skip => {
                let reason = format!("the conversation has {found} tokens; expected at most {limit} (sequence_length)");
                self.unfit.add("longer than the sequence length", Skipped { file, line, reason });
                Ok(())
            }
            Err(TokensError::Record { file, line, source }) if self.on_bad == OnBad::Skip => {
                self.unfit.add("refused by the chat template or tokenizer", Skipped { file, line, reason: source.to_string() });
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn close(mut self, bad: Skips) -> Result<SourceCounts, TokensError> {
        let mut skipped = bad;
        skipped.count += self.unfit.count;
        skipped.by_kind.append(&mut self.unfit.by_kind);
        skipped.places.append(&mut self.unfit.places);
        skipped.places.sort_by_key(|place| place.line);
        skipped.places.truncate(Skips::NAMED);
        let mut counts = self.counts;
        if counts.target_tokens == 0 {
            return Err(TokensError::NoTargets { file: counts.file, records: counts.records, skipped: skipped.count });
        }
        counts.skipped = skipped;
        Ok(counts)
    }
}
