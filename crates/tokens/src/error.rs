//! The errors of this crate: each names the file, line or message, what was found and what was expected.

use sirocco_corpus::CorpusError;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// What can go wrong between a data file and a batch.
#[derive(Debug, Error)]
pub enum TokensError {
    /// A data file or a record of it.
    #[error(transparent)]
    Corpus(#[from] CorpusError),
    /// A file cannot be read or written.
    #[error("{}: cannot {action}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was being done, as a verb.
        action: &'static str,
        /// The system's error.
        source: std::io::Error,
    },
    /// A tokenizer file is not what it should be.
    #[error("{}: {message}", .path.display())]
    TokenizerFile {
        /// The file.
        path: PathBuf,
        /// What was found and expected.
        message: String,
    },
    /// The tokenizer failed on a text.
    #[error("the tokenizer failed: {message}")]
    Encode {
        /// The library's words.
        message: String,
    },
    /// The model has no chat template.
    #[error("{}: found no chat template; expected chat_template in tokenizer_config.json, or chat_template.jinja", .path.display())]
    NoChatTemplate {
        /// The model directory.
        path: PathBuf,
    },
    /// The chat template refused a conversation or could not be run.
    #[error("the chat template failed: {message}")]
    Template {
        /// The template's words.
        message: String,
    },
    /// Adding a message changes what the template wrote before it, so that training would see other text than inference.
    #[error("messages[{index}]: the chat template rewrites the text before this message; expected it to be only added to")]
    TemplateDoesNotExtend {
        /// Index of the message, from 0.
        index: usize,
    },
    /// The template writes control tokens between its generation prompt and the answer.
    #[error(
        "messages[{index}]: the chat template writes {found:?} before the answer; expected its generation prompt to end there"
    )]
    TemplateDoesNotPrompt {
        /// Index of the answer, from 0.
        index: usize,
        /// What stands before the answer.
        found: String,
    },
    /// The template writes no control token after an answer, so that a model could never learn to stop.
    #[error("messages[{index}]: the chat template ends the answer with no control token; expected an end-of-turn token")]
    NoEndOfTurn {
        /// Index of the answer, from 0.
        index: usize,
    },
    /// The last message is not an answer.
    #[error("the conversation does not end with an assistant message; expected an answer to learn")]
    NoAnswerAtEnd,
    /// A message holds a control token's text and cannot be encoded so that it stays text.
    #[error("{place} holds the text of a control token ({token}); expected plain text, as {reason}")]
    ControlText {
        /// Which message.
        place: String,
        /// The control token.
        token: String,
        /// Why it cannot be kept as text.
        reason: &'static str,
    },
    /// A record that the tokenizer or the template refuses.
    #[error("{}:{line}: {source}", .file.display())]
    Record {
        /// The data file.
        file: PathBuf,
        /// Its line, from 1.
        line: u64,
        /// Why.
        source: Box<TokensError>,
    },
    /// A conversation that does not fit; it is never cut, as the cut part would be learnt without its question.
    #[error("{}:{line}: the conversation has {found} tokens; expected at most {limit} (sequence_length)", .file.display())]
    TooLong {
        /// The data file.
        file: PathBuf,
        /// Its line, from 1.
        line: u64,
        /// Its tokens.
        found: usize,
        /// The most that fit.
        limit: usize,
    },
    /// A data file from which nothing could be learnt.
    #[error("{}: found no target tokens ({records} records, {skipped} of them bad); expected at least one", .file.display())]
    NoTargets {
        /// The data file.
        file: PathBuf,
        /// Records read.
        records: u64,
        /// Records passed over.
        skipped: u64,
    },
    /// A length that cannot be.
    #[error("{what} is {found}; expected {expected}")]
    Length {
        /// What has this length.
        what: String,
        /// The length.
        found: usize,
        /// What was expected.
        expected: String,
    },
    /// A token cache that is cut short or altered.
    #[error("{}: {message}", .path.display())]
    CacheDamaged {
        /// The cache.
        path: PathBuf,
        /// What was found and expected.
        message: String,
    },
    /// A token cache that was made from something else.
    #[error("{}: {what} is {found}; expected {expected}", .path.display())]
    CacheStale {
        /// The cache.
        path: PathBuf,
        /// What differs.
        what: String,
        /// As it was when the cache was made.
        found: String,
        /// As it is now.
        expected: String,
    },
}

impl TokensError {
    pub(crate) fn io(path: &Path, action: &'static str, source: std::io::Error) -> TokensError {
        TokensError::Io { path: path.to_path_buf(), action, source }
    }

    pub(crate) fn file(path: &Path, message: impl Into<String>) -> TokensError {
        TokensError::TokenizerFile { path: path.to_path_buf(), message: message.into() }
    }

    pub(crate) fn encode(error: &tokenizers::Error) -> TokensError {
        TokensError::Encode { message: error.to_string() }
    }

    pub(crate) fn damaged(path: &Path, message: impl Into<String>) -> TokensError {
        TokensError::CacheDamaged { path: path.to_path_buf(), message: message.into() }
    }
}
