//! `sirocco tokenize`: token ids as training sees them, one JSON object per line.
use std::path::Path;

use serde::Serialize;
use sirocco_corpus::{read_chat, read_text};
use sirocco_tokens::{Tokenizer, TokensError};

use crate::cli;
use crate::commands::model::there;
use crate::failure::Failure;
use crate::output;

/// One line of output.
#[derive(Serialize)]
struct Line {
    ids: Vec<u32>,
    /// Half-open ranges of `ids`: each answer with its end-of-turn token. A plain text has none.
    assistant_spans: Vec<[u32; 2]>,
}

pub(crate) fn run(arguments: &cli::Tokenize) -> Result<(), Failure> {
    there(&arguments.tokenizer, "a model directory with tokenizer.json")?;
    let tokenizer = Tokenizer::open(&arguments.tokenizer)?;
    if let Some(path) = &arguments.chat {
        chats(&tokenizer, path)?;
    }
    if let Some(path) = &arguments.text {
        texts(&tokenizer, path)?;
    }
    Ok(())
}

fn chats(tokenizer: &Tokenizer, path: &Path) -> Result<(), Failure> {
    for record in read_chat(path)? {
        let record = record?;
        let document = tokenizer.encode_chat(&record.value.messages).map_err(|error| at(path, record.line, error))?;
        let assistant_spans = document.targets.iter().map(|span| [span.start, span.end]).collect();
        output::json(&Line { ids: document.ids, assistant_spans })?;
    }
    Ok(())
}

/// A text with what the tokenizer itself puts before one. (Training adds the end token and cuts what is too long.)
fn texts(tokenizer: &Tokenizer, path: &Path) -> Result<(), Failure> {
    for record in read_text(path)? {
        let record = record?;
        let ids = tokenizer.encode(&record.value).map_err(|error| at(path, record.line, error))?;
        output::json(&Line { ids: [tokenizer.text_start(), &ids].concat(), assistant_spans: Vec::new() })?;
    }
    Ok(())
}

fn at(path: &Path, line: u64, error: TokensError) -> TokensError {
    TokensError::Record { file: path.to_owned(), line, source: Box::new(error) }
}
