//! The token cache: the documents of some data files in one file, made before any rank starts and read by all of them.

use crate::cache_file::{
    CacheHeader, CacheInputsRecord, CacheTables, CacheWriter, FRONT, Row, SourceCounts, numbers, read_at, read_tables,
};
use crate::document::{Document, count_targets};
use crate::error::TokensError;
use crate::ingest::{Format, Ingest, IngestProgress};
use crate::tokenizer::Tokenizer;
use sirocco_corpus::{OnBad, sha256_file};
use std::fs::File;
use std::path::{Path, PathBuf};

/// What a cache is made from.
#[derive(Debug, Clone, Copy)]
pub struct TokenCacheInputs<'a> {
    /// The model's tokenizer.
    pub tokenizer: &'a Tokenizer,
    /// The data files, in order: each is a source with its own counts.
    pub files: &'a [PathBuf],
    /// How they are written.
    pub format: Format,
    /// Most tokens of a document.
    pub sequence_length: usize,
    /// What a bad record costs.
    pub on_bad: OnBad,
}

/// Documents in a file. Token ids stay on disk until they are asked for; what is kept in memory is 32 bytes a document and 8
/// bytes a target span.
#[derive(Debug)]
pub struct TokenCache {
    path: PathBuf,
    file: File,
    header: CacheHeader,
    digest: String,
    rows: Vec<Row>,
    spans: Vec<std::ops::Range<u32>>,
}

impl TokenCache {
    /// Reads the data files, encodes them and writes the cache (whole or not at all; an earlier one is replaced).
    ///
    /// # Errors
    /// A file cannot be read or written; a record is bad, refused by the chat template or longer than `sequence_length` and
    /// `on_bad` is `fail`; a file has no target tokens.
    pub fn build(
        path: &Path,
        inputs: &TokenCacheInputs<'_>,
        progress: &mut dyn FnMut(IngestProgress),
    ) -> Result<TokenCache, TokensError> {
        let TokenCacheInputs { tokenizer, files, format, sequence_length, on_bad } = *inputs;
        let ingest = Ingest { tokenizer, format, sequence_length, on_bad };
        let mut writer = CacheWriter::create(path)?;
        let mut sources: Vec<SourceCounts> = Vec::new();
        for (index, file) in files.iter().enumerate() {
            let counts = ingest.file(file, &mut |documents| {
                documents.iter().try_for_each(|document| writer.add(document, index as u32))?;
                let (documents, tokens) = (writer.documents, writer.tokens);
                progress(IngestProgress { file: index, files: files.len(), documents, tokens });
                Ok(())
            })?;
            sources.push(counts);
        }
        let data = sources.iter().map(|source| source.sha256.clone()).collect();
        let record = CacheInputsRecord { tokenizer: tokenizer.digest(), format, sequence_length, data };
        writer.finish(record, sources)?;
        TokenCache::open(path)
    }

    /// Opens a cache and checks it against its own digest.
    ///
    /// # Errors
    /// The file cannot be read, is not a token cache, or is cut short or altered.
    pub fn open(path: &Path) -> Result<TokenCache, TokensError> {
        let mut file = File::open(path).map_err(|source| TokensError::io(path, "open", source))?;
        let CacheTables { header, digest, rows, spans } = read_tables(path, &mut file)?;
        Ok(TokenCache { path: path.to_path_buf(), file, header, digest, rows, spans })
    }

    /// Whether building from these inputs would give this cache.
    ///
    /// # Errors
    /// What differs, as it was and as it is; or a data file cannot be read.
    pub fn check_inputs(&self, inputs: &TokenCacheInputs<'_>) -> Result<(), TokensError> {
        let made = &self.header.inputs;
        let data = inputs.files.iter().map(|file| sha256_file(file)).collect::<Result<Vec<_>, _>>()?;
        let stale = |what: String, found: String, expected: String| {
            Err(TokensError::CacheStale { path: self.path.clone(), what, found, expected })
        };
        let name = |format: Format| format!("{format:?}").to_lowercase();
        if made.tokenizer != inputs.tokenizer.digest() {
            return stale("the tokenizer's digest".into(), made.tokenizer.clone(), inputs.tokenizer.digest());
        }
        if made.format != inputs.format {
            return stale("the format".into(), name(made.format), name(inputs.format));
        }
        if made.sequence_length != inputs.sequence_length {
            return stale("sequence_length".into(), made.sequence_length.to_string(), inputs.sequence_length.to_string());
        }
        if made.data.len() != data.len() {
            return stale("the number of data files".into(), made.data.len().to_string(), data.len().to_string());
        }
        match (0..data.len()).find(|index| made.data[*index] != data[*index]) {
            None => Ok(()),
            Some(index) => {
                let what = format!("the SHA-256 of {}", inputs.files[index].display());
                stale(what, made.data[index].clone(), data[index].clone())
            }
        }
    }

    /// What the cache says of itself: inputs, sources with their counts, totals.
    pub fn header(&self) -> &CacheHeader {
        &self.header
    }

    /// The SHA-256 of the cache's content in hexadecimal digits, as it was checked when the cache was opened: the one that the
    /// file ends with, which covers every byte before it. Equal digests are equal caches.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Documents.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no document.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Tokens of each document, for packing.
    pub fn lengths(&self) -> Vec<usize> {
        self.rows.iter().map(|row| row.tokens as usize).collect()
    }

    /// Tokens of a document and how many of them count in the loss ([`Document::target_count`]), without reading the file.
    /// `None` if there is no document of this number.
    pub fn counts(&self, document: usize) -> Option<(usize, usize)> {
        let row = self.rows.get(document)?;
        Some((row.tokens as usize, count_targets(self.spans_of(row), row.tokens)))
    }

    /// The target spans of a row; [`TokenCache::open`] has checked that they are there.
    fn spans_of(&self, row: &Row) -> &[std::ops::Range<u32>] {
        &self.spans[row.first_span as usize..row.first_span as usize + row.spans as usize]
    }

    /// Index of the data file (in [`CacheHeader::sources`]) that a document comes from.
    pub fn source(&self, document: usize) -> Option<usize> {
        self.rows.get(document).map(|row| row.source as usize)
    }

    /// One document. Safe to call from several threads.
    ///
    /// # Errors
    /// There is no document of this number, or the file cannot be read any more.
    pub fn document(&self, document: usize) -> Result<Document, TokensError> {
        let Some(row) = self.rows.get(document) else {
            let expected = format!("less than {}", self.rows.len());
            return Err(TokensError::Length { what: "the number of a document".into(), found: document, expected });
        };
        let bytes = read_at(&self.path, &self.file, FRONT + row.first * 4, u64::from(row.tokens) * 4)?;
        Ok(Document { ids: numbers(&bytes), targets: self.spans_of(row).to_vec() })
    }
}
