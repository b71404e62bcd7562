//! Cosignatures of checkpoints by witnesses, with the time of signing. C2SP tlog-cosignature, "Format" and "Ed25519 signed message".

use crate::LedgerError;
use crate::checkpoint::SignedCheckpoint;
use crate::hash::Hash;
use crate::key::{Seal, SignerKey};
use crate::note::Signature;
use crate::proof::{Head, check_consistency};

const TIME_BYTES: usize = 8;
const LATEST: u64 = i64::MAX as u64;

/// The text that an Ed25519 cosigner signs: two lines before the note's text.
pub fn message(text: &str, time: u64) -> String {
    format!("cosignature/v1\ntime {time}\n{text}")
}

/// Time and signature of a `timestamped_signature`.
pub(crate) fn split(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (time, signature) = bytes.split_first_chunk::<TIME_BYTES>()?;
    let time = u64::from_be_bytes(*time);
    (time <= LATEST).then_some((time, signature))
}

pub(crate) fn join(time: u64, signature: &[u8]) -> Vec<u8> {
    [&time.to_be_bytes(), signature].concat()
}

pub(crate) fn check_time(time: u64) -> Result<(), LedgerError> {
    if time <= LATEST {
        return Ok(());
    }
    Err(LedgerError::malformed("cosignature", "time", time.to_string(), format!("at most {LATEST}")))
}

/// What a witness does: it has seen `last` of this log, gets `next` with a consistency proof, and cosigns only what continues `last`.
/// The log's own signature on `next` has to be verified before.
///
/// # Errors
/// [`LedgerError::Fork`] when `next` is shorter, differs at the same size, or does not continue `last`; the errors of
/// [`SignerKey::sign`].
pub fn cosign(
    key: &SignerKey,
    time: u64,
    last: Option<&Head>,
    next: &SignedCheckpoint,
    proof: &[Hash],
) -> Result<Signature, LedgerError> {
    if let Some(last) = last {
        check_consistency(last, &next.checkpoint.head(), proof)
            .map_err(|error| LedgerError::Fork { origin: next.checkpoint.origin.clone(), reason: error.to_string() })?;
    }
    key.sign(&next.note.text, Seal::At(time))
}
