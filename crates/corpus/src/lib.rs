//! Sources to documents: readers, duplicates, held-out split, the quality report.
//!
//! The order of the modules is the order in which data moves: `lines` cuts a file into numbered lines of checked UTF-8; `json`,
//! `chat`, `text` and `table` turn lines into values; `sieve` decides what a bad one costs (an error, or a counted skip);
//! `spec` says what a corpus is made of; `plan` reads the sources, drops duplicates and splits; `prepare` writes the result.
//!
//! Text is never normalised beyond what a spec asks for: no Unicode normal form, no lower case. In Moroccan Arabizi capitals
//! and digits are letters (T and t, 3 and 7), and a tokenizer that was trained on unnormalised text must see the same.

mod chat;
mod digest;
mod error;
mod fault;
mod json;
mod lines;
mod message;
mod plan;
mod prepare;
mod report;
mod sieve;
mod spec;
mod split;
mod stats;
mod table;
mod template;
mod text;
mod write;

pub use chat::{ChatReader, read_chat};
pub use digest::{hex, sha256_file, sha256_hex};
pub use error::{BadRecord, CorpusError};
pub use fault::Fault;
pub use message::{Conversation, Message, ROLES};
pub use prepare::{Progress, check, prepare};
pub use report::{OutputFile, Report, SourceReport, SplitReport};
pub use sieve::{Located, OnBad, Record, Sieve, Skipped, Skips};
pub use spec::{Licence, Replace, Source, SourceFormat, Spec};
pub use stats::{Lengths, Script};
pub use table::{Table, TableOptions, read_table};
pub use text::{TextReader, read_text};
pub use write::write_atomically;
