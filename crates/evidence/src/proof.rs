//! A proof of one entry, which stands for itself: `sirocco ledger prove` makes it, and whoever gets the file checks it without the ledger.

use std::io::Read as _;
use std::path::Path;

use serde::Serialize;
use sirocco_files::read;
use sirocco_ledger::tlog_proof::TlogProof;
use sirocco_ledger::{Entry, LedgerError};

use crate::error::{EvidenceError, io, malformed};
use crate::trusted::Trusted;

/// How a proof begins (C2SP tlog-proof).
const BEGINS: &[u8] = b"c2sp.org/tlog-proof@";
/// No proof is longer, in bytes: an entry has at most 64 KiB.
const LONGEST: u64 = 1 << 20;

fn begins(path: &Path) -> Result<bool, EvidenceError> {
    let mut start = Vec::new();
    read::open(path)?.0.take(BEGINS.len() as u64).read_to_end(&mut start).map_err(io("read", path))?;
    Ok(start == BEGINS)
}

/// An entry that is in a ledger of a trusted key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Proven {
    /// The ledger's own name.
    pub log: String,
    /// How many entries it had when the proof was made.
    pub entries: u64,
    /// The number of this one.
    pub index: u64,
    /// What it says.
    pub entry: Entry,
}

/// The entry that a file proves; `None` where the file is no proof, but a bundle, say.
///
/// # Errors
/// A file that cannot be read; a proof that does not lead to the signed root, or whose ledger no trusted key has signed.
pub fn proven(path: &Path, trusted: &Trusted) -> Result<Option<Proven>, EvidenceError> {
    if !path.is_file() || !begins(path)? {
        return Ok(None);
    }
    let wrong = |error: LedgerError| malformed(path, "proof", error.to_string(), "a proof that leads to a signed root");
    let proof = TlogProof::parse(&read::bytes(path, LONGEST)?).map_err(wrong)?;
    let text = proof.extra.as_deref().ok_or_else(|| malformed(path, "extra", "none", "the entry"))?;
    let sealed = &proof.checkpoint.checkpoint;
    proof.verify(text, &trusted.for_log(&sealed.origin)?).map_err(wrong)?;
    let entry = Entry::parse(text).map_err(wrong)?;
    Ok(Some(Proven { log: sealed.origin.clone(), entries: sealed.size, index: proof.index, entry }))
}
