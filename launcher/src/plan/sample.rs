//! What the data is like, from its first records: how long documents are and how much of them is learnt.
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;

use serde::Serialize;
use sirocco_config::{Format, Run};
use sirocco_corpus::{read_chat, read_text};
use sirocco_plan::Texture;
use sirocco_tokens::{Tokenizer, one_per_sequence, pack};

/// Records that are looked at, and the most bytes of them: enough to know, little enough to be done at once.
const RECORDS: usize = 400;
const BYTES: u64 = 1 << 20;
/// Sequences that say how full sequences are.
const ENOUGH: usize = 10;

/// What was seen.
#[derive(Debug, Serialize)]
pub(crate) struct Sample {
    /// Records that it rests on; 0 where none could be read.
    pub(crate) records: usize,
    /// Why none could.
    pub(crate) without: Option<String>,
    #[serde(flatten)]
    pub(crate) texture: Texture,
    /// Sequences of all training files, by their size.
    pub(crate) sequences: Option<u64>,
}

/// Looks at the first training file, or supposes the most that a run can cost.
pub(crate) fn sample(run: &Run) -> Sample {
    match Tokenizer::open(&run.model.path) {
        Ok(tokenizer) => sample_by(run, &tokenizer),
        Err(error) => supposed(run, error.to_string()),
    }
}

/// The same with a tokenizer that is open: a large one takes half a second.
pub(crate) fn sample_by(run: &Run, tokenizer: &Tokenizer) -> Sample {
    look(run, tokenizer).unwrap_or_else(|without| supposed(run, without))
}

fn supposed(run: &Run, without: String) -> Sample {
    Sample { records: 0, without: Some(without), texture: Texture::whole(run.data.sequence_length), sequences: None }
}

fn look(run: &Run, tokenizer: &Tokenizer) -> Result<Sample, String> {
    let length = run.data.sequence_length;
    let path = run.data.train.first().ok_or("there are no training files")?;
    let seen = documents(run, path, tokenizer)?;
    let lengths: Vec<usize> = seen.documents.iter().map(|(length, _)| *length).collect();
    let packed = match run.data.packing {
        true => pack(&lengths, length as usize, run.seed),
        false => one_per_sequence(&lengths, length as usize),
    };
    let sequences = packed.map_err(|error| error.to_string())?.len();
    let texture = Texture::of(&seen.documents, length, sequences).ok_or_else(|| format!("{}: no record", path.display()))?;
    // The last of a few sequences is half empty because the sample ends there, not the data.
    let filled = if run.data.packing && sequences < ENOUGH { 1.0 } else { texture.filled };
    let sizes: u64 = run.data.train.iter().filter_map(|path| std::fs::metadata(path).ok()).map(|file| file.len()).sum();
    let tokens = lengths.iter().sum::<usize>() as f64;
    let of_all = |bytes: u64| (tokens * sizes as f64 / bytes.max(1) as f64 / (filled * length as f64)).ceil() as u64;
    let (texture, sequences) = (Texture { filled, ..texture }, seen.bytes.map(of_all));
    Ok(Sample { records: seen.records, without: None, texture, sequences })
}

struct Seen {
    records: usize,
    /// Tokens and targets of each.
    documents: Vec<(usize, usize)>,
    /// Bytes of the file that they take up.
    bytes: Option<u64>,
}

fn documents(run: &Run, path: &Path, tokenizer: &Tokenizer) -> Result<Seen, String> {
    let words = |error: &dyn std::fmt::Display| error.to_string();
    let length = run.data.sequence_length as usize;
    let (mut found, mut last, mut records, mut taken) = (Vec::new(), 0, 0, 0_u64);
    match run.data.format {
        Format::Chat => {
            for chat in read_chat(path).map_err(|error| words(&error))?.take(RECORDS).flatten() {
                let Ok(document) = tokenizer.encode_chat(&chat.value.messages) else { continue };
                if document.ids.len() <= length {
                    found.push((document.ids.len(), document.target_count()));
                }
                (last, records) = (chat.line, records + 1);
            }
        }
        Format::Text => {
            for text in read_text(path).map_err(|error| words(&error))?.take(RECORDS).flatten() {
                // A .txt file is one text, however long: its beginning is enough.
                let beginning: String = text.value.chars().take((BYTES.saturating_sub(taken) / 4 + 1) as usize).collect();
                let Ok(documents) = tokenizer.encode_text(&beginning, length) else { continue };
                found.extend(documents.iter().map(|document| (document.ids.len(), document.target_count())));
                records += 1;
                taken += beginning.len() as u64;
                if taken >= BYTES {
                    break;
                }
            }
        }
    }
    if found.is_empty() {
        return Err(format!("{}: no record that fits", path.display()));
    }
    let bytes = if run.data.format == Format::Chat { bytes_until(path, last) } else { Some(taken) };
    Ok(Seen { records, documents: found, bytes })
}

/// Bytes of the first `line` lines; none where they are more than a sample is.
fn bytes_until(path: &Path, line: u64) -> Option<u64> {
    let mut reader = BufReader::new(std::fs::File::open(path).ok()?.take(4 * BYTES));
    let (mut bytes, mut text) = (0, Vec::new());
    for _ in 0..line {
        text.clear();
        let read = reader.read_until(b'\n', &mut text).ok()?;
        if read == 0 {
            return None;
        }
        bytes += read as u64;
    }
    Some(bytes)
}
