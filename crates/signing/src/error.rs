//! What can be wrong with a directory, a signature or a key: each error names the file, what was found and what was expected.

use std::io;
use std::path::{Path, PathBuf};

use crate::{Differences, Digest};

/// The result of everything in this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Everything that signing and verifying can fail with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused something.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was attempted, as a verb: `read`, `write`, `list`.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's own error.
        source: io::Error,
    },
    /// What should be signed or verified is not a directory.
    #[error("{}: found something other than a directory, expected the directory of a model, adapter or checkpoint", path.display())]
    NotADirectory {
        /// The path as given.
        path: PathBuf,
    },
    /// A directory without a file that a signature could cover.
    #[error("{}: found no file to sign (besides those that are left out), expected at least one", path.display())]
    Empty {
        /// The directory.
        path: PathBuf,
    },
    /// A file that a signature cannot cover: a link, a device, a name that is not text.
    #[error("{}: {found}, expected {expected}", path.display())]
    BadFile {
        /// The file.
        path: PathBuf,
        /// What it is.
        found: String,
        /// What it should be.
        expected: &'static str,
    },
    /// A file grew, shrank or vanished while it was read.
    #[error("{}: changed while it was read: found {found} bytes, expected {expected}", path.display())]
    ChangedMeanwhile {
        /// The file.
        path: PathBuf,
        /// Bytes that could be read.
        found: u64,
        /// Bytes that it had when the directory was listed.
        expected: u64,
    },
    /// A path that a signature would leave out is not written as the specification demands.
    #[error(
        "path to leave out {entry:?}: {problem}, expected a path relative to the directory, such as \"cache\" or \"logs/rank0.log\""
    )]
    BadIgnore {
        /// The entry.
        entry: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A signature or statement that is not of its format.
    #[error("{}: {part}: found {found}, expected {expected}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The part of it: a field, a line.
        part: String,
        /// What stands there.
        found: String,
        /// What should stand there.
        expected: String,
    },
    /// A signature that is well formed and made in a way that is not supported here.
    #[error("{}: {part}: found {found}, which is not supported, expected {expected}", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The part of it: the method, the hash, the key.
        part: &'static str,
        /// What stands there.
        found: String,
        /// What is supported.
        expected: &'static str,
    },
    /// Nothing is signed: there is no such file.
    #[error("{}: found no such file, expected a signature", path.display())]
    Unsigned {
        /// Where the signature should lie.
        path: PathBuf,
    },
    /// The signature names a key that is not among those that are trusted.
    #[error("{}: signed with key {key}, which is not trusted; expected one of: {trusted}", path.display())]
    UnknownKey {
        /// The file with the signature.
        path: PathBuf,
        /// What the signature says of its key: a fingerprint, or that it says nothing.
        key: String,
        /// Names and fingerprints of the trusted keys, as a list to read.
        trusted: String,
    },
    /// The signature was not made by that key over that text.
    #[error("{}: the signature is not one of key {key} over this text", path.display())]
    BadSignature {
        /// The file with the signature.
        path: PathBuf,
        /// Name of the trusted key that the signature names, or the list of those that were tried.
        key: String,
    },
    /// The signature is good, and the directory holds something else than what was signed.
    #[error("{}: differs from what {signature} covers: {differences}", path.display(), signature = signature.display())]
    Differs {
        /// The directory.
        path: PathBuf,
        /// The file with the signature or statement.
        signature: PathBuf,
        /// File by file.
        differences: Box<Differences>,
    },
    /// A directory is not what its writer says of it: a file is missing, or has another size than was written.
    #[error("{}: differs from what its writer recorded: {differences}", path.display())]
    NotAsRecorded {
        /// The directory.
        path: PathBuf,
        /// File by file.
        differences: Box<Differences>,
    },
    /// The signature is good and leaves out files that lie there and could be used.
    #[error("{}: does not cover {}, expected a signature of every file", path.display(), files.join(", "))]
    Uncovered {
        /// The file with the signature.
        path: PathBuf,
        /// The files that nobody signed; a directory ends with `/`.
        files: Vec<String>,
    },
    /// The signature is good and covers another model than the one that was asked for.
    #[error("{}: signs the model with digest {found}, expected the one with digest {expected}", path.display())]
    OtherModel {
        /// The file with the signature.
        path: PathBuf,
        /// The digest of what is signed ([`crate::manifest::Manifest::digest`]).
        found: Digest,
        /// The one the caller wanted.
        expected: Digest,
    },
    /// There is no private key where it should be.
    #[error("{}: found no private key; without it nothing new can be signed in its name, while what it signed stays verifiable", path.display())]
    KeyMissing {
        /// Where it should lie.
        path: PathBuf,
    },
    /// Others can read the private key.
    #[error("{}: found permissions {mode:03o}, expected a private key that only its owner can read (600 or 400)", path.display())]
    KeyExposed {
        /// The private key.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A key pair must not replace another.
    #[error("{}: found a key of that name already, expected none: a replaced private key cannot be brought back", path.display())]
    KeyExists {
        /// The file that is in the way.
        path: PathBuf,
    },
    /// A name that no key can have.
    #[error("name of a key {name:?}: expected letters, digits and any of - _ . @ +, beginning with a letter or digit")]
    BadKeyName {
        /// The name.
        name: String,
    },
    /// The system gave no randomness.
    #[error("no randomness from the operating system: {reason}")]
    NoRandomness {
        /// The system's own words.
        reason: String,
    },
    /// A directory of trusted keys, or its file of roles, contradicts itself.
    #[error("{}: found {found}, expected {expected}", path.display())]
    BadTrust {
        /// The file or directory.
        path: PathBuf,
        /// What was found.
        found: String,
        /// What was expected.
        expected: &'static str,
    },
    /// Facts that a statement of provenance must have are missing or not of their form.
    #[error("provenance: {part}: found {found}, expected {expected}")]
    BadFact {
        /// The fact.
        part: &'static str,
        /// What the caller gave.
        found: String,
        /// What the statement needs.
        expected: &'static str,
    },
}

/// Makes an [`Error::Io`] out of the system's error: `read(path).map_err(io_error("read", path))`.
pub(crate) fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Io { action, path: path.to_owned(), source }
}

/// Makes an [`Error::Malformed`] from its four parts.
pub(crate) fn malformed(path: &Path, part: impl Into<String>, found: impl Into<String>, expected: impl Into<String>) -> Error {
    Error::Malformed { path: path.to_owned(), part: part.into(), found: found.into(), expected: expected.into() }
}
