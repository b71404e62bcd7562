//! What several crates ask of files, once: digests and their text, reading with a limit, replacing as one step, secrets for one reader,
//! headers of tar files.
//!
//! It links little, because the separate verifier links it.

pub mod digest;
mod error;
pub mod read;
pub mod replace;
pub mod secret;
pub mod staging;
pub mod tar;

pub use digest::{BareDigest, Digest, Digester};
pub use error::FilesError;
