//! The token cache's file format, version 1.
//!
//! ```text
//! "SIRTOKEN"  u32 version                      12 bytes
//! token ids, u32 each, document after document
//! one row of 16 bytes a document: u32 tokens, u32 target spans, u32 source, u32 zero
//! target spans, two u32 each (start and end within the document), document after document
//! JSON header
//! u64 length of the JSON header
//! SHA-256 of everything before                 32 bytes
//! ```
//! All integers are little-endian. The header stands at the end because its counts are known last; the file is written once,
//! from front to back, under a temporary name. Row and span tables are small; token ids are read from the file as needed.

use crate::document::Document;
use crate::error::TokensError;
use crate::ingest::Format;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use sirocco_corpus::Skips;
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 8] = b"SIRTOKEN";
const VERSION: u32 = 1;
/// Bytes before the token ids.
pub(crate) const FRONT: u64 = 12;
const ROW: u64 = 16;
const SPAN: u64 = 8;
const TAIL: u64 = 40;

/// What a cache was made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CacheInputsRecord {
    /// [`crate::Tokenizer::digest`].
    pub tokenizer: String,
    /// How the data files are written.
    pub format: Format,
    /// Most tokens of a document.
    pub sequence_length: usize,
    /// SHA-256 of each data file, in order.
    pub data: Vec<String>,
}

/// The account of one data file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceCounts {
    /// The data file.
    pub file: PathBuf,
    /// Its SHA-256.
    pub sha256: String,
    /// Records read, the bad ones included.
    pub records: u64,
    /// Documents in the cache.
    pub documents: u64,
    /// Tokens of these.
    pub tokens: u64,
    /// Tokens of these that count in the loss.
    pub target_tokens: u64,
    /// Records passed over.
    pub skipped: Skips,
}

/// What a cache says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CacheHeader {
    /// What it was made from.
    pub inputs: CacheInputsRecord,
    /// The data files, in order.
    pub sources: Vec<SourceCounts>,
    /// Documents in all.
    pub documents: u64,
    /// Tokens in all.
    pub tokens: u64,
    /// Target spans in all.
    pub spans: u64,
}

/// Where the parts of a document are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row {
    /// Its first token, counted over the whole cache.
    pub(crate) first: u64,
    pub(crate) tokens: u32,
    /// Its first span, counted over the whole cache.
    pub(crate) first_span: u64,
    pub(crate) spans: u32,
    pub(crate) source: u32,
}

/// Writes a cache to a temporary file; `finish` gives it its name.
pub(crate) struct CacheWriter {
    path: PathBuf,
    partial: PathBuf,
    file: BufWriter<File>,
    sha256: Sha256,
    rows: Vec<u8>,
    spans: Vec<u8>,
    pub(crate) documents: u64,
    pub(crate) tokens: u64,
    finished: bool,
}

impl CacheWriter {
    pub(crate) fn create(path: &Path) -> Result<CacheWriter, TokensError> {
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        std::fs::create_dir_all(directory).map_err(|source| TokensError::io(directory, "make the directory", source))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let partial = directory.join(format!(".{name}.partial.{}", std::process::id()));
        let file = File::create(&partial).map_err(|source| TokensError::io(&partial, "write", source))?;
        let mut writer = CacheWriter {
            path: path.to_path_buf(),
            partial,
            file: BufWriter::with_capacity(1 << 18, file),
            sha256: Sha256::new(),
            rows: Vec::new(),
            spans: Vec::new(),
            documents: 0,
            tokens: 0,
            finished: false,
        };
        writer.put(MAGIC)?;
        writer.put(&VERSION.to_le_bytes())?;
        Ok(writer)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), TokensError> {
        self.sha256.update(bytes);
        self.file.write_all(bytes).map_err(|source| TokensError::io(&self.partial, "write", source))
    }

    pub(crate) fn add(&mut self, document: &Document, source: u32) -> Result<(), TokensError> {
        let bytes: Vec<u8> = document.ids.iter().flat_map(|id| id.to_le_bytes()).collect();
        self.put(&bytes)?;
        for value in [document.ids.len() as u32, document.targets.len() as u32, source, 0] {
            self.rows.extend(value.to_le_bytes());
        }
        for span in &document.targets {
            self.spans.extend(span.start.to_le_bytes());
            self.spans.extend(span.end.to_le_bytes());
        }
        self.documents += 1;
        self.tokens += document.ids.len() as u64;
        Ok(())
    }

    pub(crate) fn finish(mut self, inputs: CacheInputsRecord, sources: Vec<SourceCounts>) -> Result<(), TokensError> {
        let spans = self.spans.len() as u64 / SPAN;
        let header = CacheHeader { inputs, sources, documents: self.documents, tokens: self.tokens, spans };
        let json = serde_json::to_vec(&header).map_err(|error| TokensError::io(&self.partial, "write", error.into()))?;
        let (rows, spans) = (std::mem::take(&mut self.rows), std::mem::take(&mut self.spans));
        for bytes in [rows.as_slice(), &spans, &json, &(json.len() as u64).to_le_bytes()] {
            self.put(bytes)?;
        }
        let digest = std::mem::take(&mut self.sha256).finalize();
        self.put(&digest)?;
        let named = self.file.flush().and_then(|()| self.file.get_ref().sync_all());
        named
            .and_then(|()| std::fs::rename(&self.partial, &self.path))
            .map_err(|source| TokensError::io(&self.path, "write", source))?;
        self.finished = true;
        Ok(())
    }
}

impl Drop for CacheWriter {
    fn drop(&mut self) {
        if !self.finished {
            // Best effort: nothing reads a file of this name.
            let _ = std::fs::remove_file(&self.partial);
        }
    }
}

/// The tables of a cache file that has been checked as a whole.
pub(crate) struct CacheTables {
    pub(crate) header: CacheHeader,
    /// The file's own digest, in hexadecimal digits.
    pub(crate) digest: String,
    pub(crate) rows: Vec<Row>,
    pub(crate) spans: Vec<Range<u32>>,
}

/// Reads a cache file from front to back once: its digest is checked, its tables are kept, its token ids are not.
pub(crate) fn read_tables(path: &Path, file: &mut File) -> Result<CacheTables, TokensError> {
    let size = file.metadata().map_err(|source| TokensError::io(path, "read", source))?.len();
    if size < FRONT + TAIL {
        return Err(TokensError::damaged(path, format!("the file has {size} bytes; expected a token cache")));
    }
    let (front, digest) = check_digest(path, file, size)?;
    if front[..8] != *MAGIC {
        return Err(TokensError::damaged(path, "the file begins with other bytes; expected a token cache"));
    }
    let version = u32::from_le_bytes([front[8], front[9], front[10], front[11]]);
    if version != VERSION {
        return Err(TokensError::damaged(path, format!("the format version is {version}; expected {VERSION}")));
    }
    let disagrees = || TokensError::damaged(path, "the sizes in the file disagree; expected a whole token cache");
    let length = read_at(path, file, size - TAIL, 8)?;
    let length = u64::from_le_bytes(length.try_into().unwrap_or_default());
    let json_start = (size - TAIL).checked_sub(length).filter(|start| *start >= FRONT).ok_or_else(disagrees)?;
    let json = read_at(path, file, json_start, length)?;
    let header: CacheHeader =
        serde_json::from_slice(&json).map_err(|error| TokensError::damaged(path, format!("the header is not valid: {error}")))?;
    let tokens_end = header.tokens.checked_mul(4).and_then(|bytes| bytes.checked_add(FRONT)).ok_or_else(disagrees)?;
    let rows_size = header.documents.checked_mul(ROW).ok_or_else(disagrees)?;
    let spans_size = header.spans.checked_mul(SPAN).ok_or_else(disagrees)?;
    let total = tokens_end.checked_add(rows_size).and_then(|sum| sum.checked_add(spans_size));
    if total != Some(json_start) {
        return Err(disagrees());
    }
    let rows = parse_rows(&read_at(path, file, tokens_end, rows_size)?);
    let spans = parse_spans(&read_at(path, file, tokens_end + rows_size, spans_size)?);
    let tables = CacheTables { header, digest, rows, spans };
    if tables.agree() { Ok(tables) } else { Err(disagrees()) }
}

impl CacheTables {
    /// Whether every row stays within the file, its spans within the document and its source within the list.
    fn agree(&self) -> bool {
        let end =
            self.rows.last().map_or((0, 0), |row| (row.first + u64::from(row.tokens), row.first_span + u64::from(row.spans)));
        end == (self.header.tokens, self.header.spans)
            && self.rows.iter().all(|row| {
                let spans = &self.spans[row.first_span as usize..row.first_span as usize + row.spans as usize];
                (row.source as usize) < self.header.sources.len()
                    && spans.iter().all(|span| span.start <= span.end && span.end <= row.tokens)
            })
    }
}

fn parse_rows(bytes: &[u8]) -> Vec<Row> {
    let (mut first, mut first_span) = (0, 0);
    let numbers: Vec<u32> = numbers(bytes);
    let row = |row: &[u32]| {
        let found = Row { first, tokens: row[0], first_span, spans: row[1], source: row[2] };
        first += u64::from(row[0]);
        first_span += u64::from(row[1]);
        found
    };
    numbers.chunks_exact(4).map(row).collect()
}

fn parse_spans(bytes: &[u8]) -> Vec<Range<u32>> {
    numbers(bytes).chunks_exact(2).map(|span| span[0]..span[1]).collect()
}

/// Little-endian 32-bit numbers.
pub(crate) fn numbers(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

/// Some bytes of the file, wherever its cursor is.
pub(crate) fn read_at(path: &Path, file: &File, offset: u64, size: u64) -> Result<Vec<u8>, TokensError> {
    use std::os::unix::fs::FileExt;
    let mut bytes = vec![0; size as usize];
    file.read_exact_at(&mut bytes, offset).map_err(|source| TokensError::io(path, "read", source))?;
    Ok(bytes)
}

/// Compares the digest at the end with the rest; gives the first [`FRONT`] bytes and the digest.
fn check_digest(path: &Path, file: &mut File, size: u64) -> Result<(Vec<u8>, String), TokensError> {
    let front = read_at(path, file, 0, FRONT)?;
    let expected = read_at(path, file, size - 32, 32)?;
    let mut sha256 = Sha256::new();
    let mut rest = file.take(size - 32);
    let mut block = vec![0; 1 << 20];
    loop {
        match rest.read(&mut block).map_err(|source| TokensError::io(path, "read", source))? {
            0 => break,
            count => sha256.update(&block[..count]),
        }
    }
    let (found, expected) = (sirocco_corpus::hex(&sha256.finalize()), sirocco_corpus::hex(&expected));
    if found == expected {
        return Ok((front, found));
    }
    Err(TokensError::damaged(path, format!("the SHA-256 of the content is {found}; expected {expected} (cut short or altered)")))
}
