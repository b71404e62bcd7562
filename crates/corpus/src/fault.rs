//! What can be wrong with one record of a data file; the place is added by [`crate::BadRecord`].

use thiserror::Error;

/// Why a record was refused. The text says what was found and what was expected.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Fault {
    /// Bytes that are not UTF-8; `byte` counts from 0 within the line.
    #[error("invalid UTF-8 at byte {byte} of the line; expected UTF-8 text")]
    InvalidUtf8 {
        /// Offset of the first wrong byte.
        byte: usize,
    },
    /// A line that is not one JSON value.
    #[error("invalid JSON at column {column}: {message}")]
    InvalidJson {
        /// Column within the line, from 1.
        column: usize,
        /// The parser's words.
        message: String,
    },
    /// A field that must be there is not.
    #[error("the field `{field}` is missing; found {found}")]
    MissingField {
        /// Path of the field, such as `messages[2].role`.
        field: String,
        /// What is there instead.
        found: String,
    },
    /// A field that has no meaning here, so that a misspelt name is never silently ignored.
    #[error("unknown field `{field}`; expected only {expected}")]
    UnknownField {
        /// Path of the field.
        field: String,
        /// The names that are known at this place.
        expected: &'static str,
    },
    /// The same field twice in one object; JSON readers differ on which one counts.
    #[error("the field `{field}` occurs twice; expected it once")]
    DuplicateField {
        /// Path of the field.
        field: String,
    },
    /// A value of another JSON type.
    #[error("`{field}` is {found}; expected {expected}")]
    WrongType {
        /// Path of the field.
        field: String,
        /// Type that was found.
        found: &'static str,
        /// Type that was expected.
        expected: &'static str,
    },
    /// A role that no chat format has.
    #[error("messages[{index}].role is \"{role}\"; expected \"system\", \"user\" or \"assistant\"")]
    UnknownRole {
        /// Index of the message, from 0.
        index: usize,
        /// The role that was found.
        role: String,
    },
    /// No messages at all.
    #[error("the conversation is empty; expected at least one user and one assistant message")]
    EmptyConversation,
    /// The last message is not an answer, so that nothing could be learnt from it.
    #[error("the conversation ends with a {role} message; expected it to end with an assistant message")]
    NoAnswerAtEnd {
        /// Role of the last message.
        role: String,
    },
    /// An assistant message without text.
    #[error("messages[{index}] is an empty answer; expected text")]
    EmptyAnswer {
        /// Index of the message, from 0.
        index: usize,
    },
    /// A system message after an answer: chat formats disagree on what that means.
    #[error("messages[{index}] is a system message after an assistant message; expected system messages first")]
    SystemAfterAssistant {
        /// Index of the message, from 0.
        index: usize,
    },
    /// A text document without text.
    #[error("the text is empty; expected some")]
    EmptyText,
    /// A quoted field that its line does not close.
    #[error("a quoted field is not closed on its line (column {column}); expected a closing quotation mark")]
    UnclosedQuote {
        /// Column of the opening quotation mark, in characters from 1.
        column: usize,
    },
    /// Text between a closing quotation mark and the next separator.
    #[error("text after a closing quotation mark (column {column}); expected a separator or the end of the line")]
    TextAfterQuote {
        /// Column of the text, in characters from 1.
        column: usize,
    },
    /// A table row with more or fewer fields than the header.
    #[error("the row has {found} fields; expected {expected}, as in the header")]
    Width {
        /// Fields found.
        found: usize,
        /// Fields of the header.
        expected: usize,
    },
    /// A cell that a template needs is empty.
    #[error("the column `{column}` is empty; expected text")]
    EmptyCell {
        /// Name of the column.
        column: String,
    },
}

impl Fault {
    /// A short stable name, by which reports count.
    pub fn kind(&self) -> &'static str {
        match self {
            Fault::InvalidUtf8 { .. } => "invalid UTF-8",
            Fault::InvalidJson { .. } => "invalid JSON",
            Fault::MissingField { .. } => "missing field",
            Fault::UnknownField { .. } => "unknown field",
            Fault::DuplicateField { .. } => "duplicate field",
            Fault::WrongType { .. } => "wrong type",
            Fault::UnknownRole { .. } => "unknown role",
            Fault::EmptyConversation => "empty conversation",
            Fault::NoAnswerAtEnd { .. } => "no answer at the end",
            Fault::EmptyAnswer { .. } => "empty answer",
            Fault::SystemAfterAssistant { .. } => "system after assistant",
            Fault::EmptyText => "empty text",
            Fault::UnclosedQuote { .. } => "unclosed quotation mark",
            Fault::TextAfterQuote { .. } => "text after a quotation mark",
            Fault::Width { .. } => "wrong width",
            Fault::EmptyCell { .. } => "empty cell",
        }
    }
}
