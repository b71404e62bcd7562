//! A log as a directory, and keys as files: the only part of this crate that reads and writes.

mod directory;
mod files;
mod journal;
mod key_file;
mod lock;
mod log;
mod named_lock;
mod recover;
mod seal;
mod writer;

pub use directory::Directory;
pub use key_file::{create_keys, read_private_key, read_verifier_key};
pub use log::Log;
pub use seal::Sealed;
pub use writer::{BACKLOG_LIMIT, Unwritten, Writer};
