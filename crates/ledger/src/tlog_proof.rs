//! Self-contained proofs that an entry is in a log: index, Merkle proof and signed checkpoint in one text. C2SP tlog-proof, "Format" and
//! "Verifying a tlog proof".

use crate::LedgerError;
use crate::base64;
use crate::checkpoint::SignedCheckpoint;
use crate::error::shown;
use crate::hash::{Hash, leaf};
use crate::proof::{TileNodes, check_inclusion, inclusion};
use crate::source::Source;
use crate::tile::decimal;
use crate::witness::{Accepted, TrustPolicy};

const HEADER: &str = "c2sp.org/tlog-proof@v1";
const WHAT: &str = "tlog-proof";
/// No tree is higher.
const HASH_LIMIT: usize = 64;
/// The name of a log's checkpoint file.
pub const CHECKPOINT: &str = "checkpoint";

/// A proof. Nothing of it has been verified.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlogProof {
    /// Bytes beside the proof, which it does not authenticate. [`prove`] puts the entry here.
    pub extra: Option<Vec<u8>>,
    /// The entry's index.
    pub index: u64,
    /// From the sibling of the entry's hash up.
    pub hashes: Vec<Hash>,
    /// The checkpoint with its signatures.
    pub checkpoint: SignedCheckpoint,
}

impl TlogProof {
    /// Reads a proof file.
    ///
    /// # Errors
    /// [`LedgerError::Malformed`], with the line.
    pub fn parse(bytes: &[u8]) -> Result<Self, LedgerError> {
        let wrong =
            |line: &str, found: &str, expected: &str| LedgerError::malformed(WHAT, line, shown(found.as_bytes()), expected);
        let text = std::str::from_utf8(bytes).map_err(|_| wrong("text", "no UTF-8", "UTF-8"))?;
        let (head, checkpoint) =
            text.split_once("\n\n").ok_or_else(|| wrong("text", text, "an empty line before the checkpoint"))?;
        let mut lines = head.split('\n').peekable();
        let header = lines.next().unwrap_or_default();
        if header != HEADER {
            return Err(wrong("line 1", header, HEADER));
        }
        let extra = match lines.peek().and_then(|line| line.strip_prefix("extra ")) {
            Some(text) => {
                lines.next();
                Some(base64::decode(text).ok_or_else(|| wrong("extra", text, "padded standard base64"))?)
            }
            None => None,
        };
        let line = lines.next().unwrap_or_default();
        let index =
            line.strip_prefix("index ").and_then(decimal).ok_or_else(|| wrong("index", line, "index <decimal number>"))?;
        let hash = |line: &str| Hash::from_base64(line).ok_or_else(|| wrong("hash", line, "32 bytes in base64"));
        let hashes: Vec<Hash> = lines.take(HASH_LIMIT + 1).map(hash).collect::<Result<_, _>>()?;
        if hashes.len() > HASH_LIMIT {
            return Err(wrong("hashes", "more", "at most 64"));
        }
        Ok(Self { extra, index, hashes, checkpoint: SignedCheckpoint::parse(checkpoint.as_bytes())? })
    }

    /// The proof as a file; `.tlog-proof` is the ending that the specification names.
    pub fn to_text(&self) -> String {
        let extra = self.extra.as_ref().map(|extra| format!("extra {}\n", base64::encode(extra))).unwrap_or_default();
        let hashes: String = self.hashes.iter().map(|hash| format!("{hash}\n")).collect();
        format!("{HEADER}\n{extra}index {}\n{hashes}\n{}", self.index, self.checkpoint.note.to_text())
    }

    /// Is `entry` in a log that `policy` accepts?
    ///
    /// # Errors
    /// Those of [`TrustPolicy::check`], and [`LedgerError::BadProof`].
    pub fn verify(&self, entry: &[u8], policy: &TrustPolicy) -> Result<Accepted, LedgerError> {
        let accepted = policy.check(&self.checkpoint)?;
        let head = self.checkpoint.checkpoint.head();
        check_inclusion(&leaf(entry), self.index, head.size, &self.hashes, &head.root)?;
        Ok(accepted)
    }
}

/// The checkpoint of a log; its signatures have not been verified.
///
/// # Errors
/// [`LedgerError::Malformed`] when there is none or it is wrong.
pub fn checkpoint(source: &dyn Source) -> Result<SignedCheckpoint, LedgerError> {
    let none = || LedgerError::malformed("log", CHECKPOINT, "no such file", "a signed checkpoint: seal the log first");
    SignedCheckpoint::parse(&source.read(CHECKPOINT)?.ok_or_else(none)?)
}

/// The proof of entry `index` against the log's newest checkpoint, with the entry as its `extra`.
///
/// # Errors
/// [`LedgerError::Outside`] when the entry is not sealed yet; [`LedgerError::BadProof`] when the log's files do not lead to its root.
pub fn prove(source: &dyn Source, index: u64) -> Result<TlogProof, LedgerError> {
    let checkpoint = checkpoint(source)?;
    let head = checkpoint.checkpoint.head();
    let entry = crate::source::entry(source, index, head.size)?;
    let hashes = inclusion(&TileNodes::new(source, head.size), index, head.size)?;
    check_inclusion(&leaf(&entry), index, head.size, &hashes, &head.root)?;
    Ok(TlogProof { extra: Some(entry), index, hashes, checkpoint })
}
