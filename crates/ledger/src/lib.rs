//! The ledger: every action by every program, in an append-only Merkle log that cannot be edited unnoticed.
//!
//! Formats, each module with its sections:
//!
//! | module | specification |
//! | --- | --- |
//! | [`hash`], [`proof`] | RFC 6962 section 2.1, RFC 9162 section 2.1 |
//! | [`tile`], [`bundle`] | C2SP tlog-tiles |
//! | [`note`], [`key`] | C2SP signed-note, and the private keys of Go's sumdb/note |
//! | [`checkpoint`] | C2SP tlog-checkpoint |
//! | [`cosignature`] | C2SP tlog-cosignature, its Ed25519 part |
//! | [`witness`] | C2SP tlog-policy |
//! | [`tlog_proof`] | C2SP tlog-proof |
//! | [`entry`], [`record`] | this crate's own: FORMAT.md beside this folder |
//!
//! Only [`disk`] reads and writes files; everything else, [`verify`] too, sees a log through [`source::Source`] and so works on an archive or
//! in memory. A separate verifier links this crate and what it says of files, no other.

mod base64;
pub mod bundle;
pub mod checkpoint;
pub mod cosignature;
pub mod disk;
mod edge;
pub mod entry;
mod error;
pub mod hash;
pub mod key;
pub mod note;
pub mod proof;
pub mod record;
pub mod source;
pub mod tile;
pub mod time;
pub mod tlog_proof;
pub mod verify;
pub mod witness;

pub use entry::{Author, Decision, Digest, Entry, Fact};
pub use error::LedgerError;
