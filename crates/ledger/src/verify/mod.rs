//! Verification of a whole log: every hash again from the entries, every tile compared, signatures, and earlier checkpoints.
//!
//! What it cannot find: that a log and everybody's memory of it are all put back to an earlier state together. Against that a checkpoint
//! has to be kept elsewhere: by a witness, in another log, on paper.

mod finding;
mod journal;
mod levels;
mod sweep;

use crate::LedgerError;
use crate::bundle;
use crate::checkpoint::{Checkpoint, SignedCheckpoint};
use crate::hash::Hash;
use crate::source::{Source, hashes, read_tile};
use crate::tile::{Kind, TILE_WIDTH, Tile, items};
use crate::tlog_proof::CHECKPOINT;
use crate::witness::TrustPolicy;

pub use finding::{Finding, Remarks, Report, Wrong};
use journal::{Beyond, Journal, compare_beyond};
use levels::Levels;

/// After so many findings the rest of a log is not looked at.
pub const FINDING_LIMIT: usize = 1000;

/// What a log is measured by.
#[derive(Clone, Debug)]
pub struct Expected {
    /// Whose signatures count.
    pub policy: TrustPolicy,
    /// Checkpoints of this log that were seen before; the caller vouches for them.
    pub earlier: Vec<Checkpoint>,
    /// Is every entry an action of this crate's format? Other logs have other entries.
    pub actions: bool,
    /// Threads to use, at least 1.
    pub threads: usize,
}

impl Expected {
    /// A log of actions that `policy` trusts, without memory of it.
    pub fn new(policy: TrustPolicy) -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self { policy, earlier: Vec::new(), actions: true, threads }
    }
}

/// Verifies the log in `source`. Others may write and seal it meanwhile: the report is about the checkpoint that was there at first.
///
/// # Errors
/// Only when a file is there and cannot be read; what is wrong with the log is in the report.
pub fn verify(source: &dyn Source, expected: &Expected) -> Result<Report, LedgerError> {
    let mut report =
        Report { accepted: None, size: 0, root: None, findings: Vec::new(), complete: true, remarks: Remarks::default() };
    let Some(signed) = read_checkpoint(source, &mut report)? else { return Ok(report) };
    report.size = signed.checkpoint.size;
    match expected.policy.check(&signed) {
        Ok(accepted) => report.accepted = Some(accepted),
        Err(error) => {
            let trusted = "signatures that the policy asks for";
            report.findings.push(whole(Wrong::Trust, CHECKPOINT, error.to_string(), trusted));
        }
    }
    let swept = sweep::sweep(source, expected, report.size)?;
    report.complete = swept.complete;
    report.findings.extend(swept.findings);
    report.remarks = swept.remarks;
    let mut beyond = Vec::new();
    if report.complete {
        let (levels, findings) = Levels::compare(source, report.size, swept.roots, swept.tail)?;
        report.findings.extend(findings);
        report.root = levels.root();
        compare_root(&signed.checkpoint, &mut report);
        for earlier in &expected.earlier {
            let finding = compare_earlier(source, &levels, &signed.checkpoint, earlier)?;
            report.findings.extend(finding);
        }
        beyond = other_files(source, &mut report)?;
    }
    // In the reverse order of a sealing, which writes tiles, then the checkpoint, and takes entries off the journal last.
    let journal = Journal::read(source, &mut report)?;
    let sealed = latest_size(source, expected, &signed)?;
    if let Some(journal) = &journal {
        journal.compare(sealed, &mut report);
    }
    compare_beyond(source, journal.as_ref(), &Beyond { tiles: &beyond, sealed }, &mut report)?;
    Ok(report)
}

/// A finding about a whole file.
fn whole(wrong: Wrong, file: &str, found: impl Into<String>, expected: impl Into<String>) -> Finding {
    Finding { wrong, file: file.to_owned(), byte: None, entry: None, found: found.into(), expected: expected.into() }
}

fn read_checkpoint(source: &dyn Source, report: &mut Report) -> Result<Option<SignedCheckpoint>, LedgerError> {
    let error = match source.read(CHECKPOINT)?.as_deref().map(SignedCheckpoint::parse) {
        Some(Ok(signed)) => return Ok(Some(signed)),
        Some(Err(error)) => error.to_string(),
        None => "no such file".to_owned(),
    };
    report.findings.push(whole(Wrong::Checkpoint, CHECKPOINT, error, "a signed checkpoint"));
    Ok(None)
}

/// The size of the checkpoint that is there by now, if the log was sealed since `first` was read.
fn latest_size(source: &dyn Source, expected: &Expected, first: &SignedCheckpoint) -> Result<u64, LedgerError> {
    let now = source.read(CHECKPOINT)?.and_then(|bytes| SignedCheckpoint::parse(&bytes).ok());
    let trusted = |now: &SignedCheckpoint| now.checkpoint.origin == first.checkpoint.origin && expected.policy.check(now).is_ok();
    Ok(now.filter(trusted).map_or(0, |now| now.checkpoint.size).max(first.checkpoint.size))
}

fn compare_root(checkpoint: &Checkpoint, report: &mut Report) {
    let Some(root) = report.root.filter(|root| *root != checkpoint.root) else { return };
    let found = format!("{root} of the {} entries", checkpoint.size);
    report.findings.push(whole(Wrong::Root, CHECKPOINT, found, checkpoint.root.to_string()));
}

/// The log has to contain every earlier checkpoint: with its name, at least as long, with the same root at its size.
fn compare_earlier(
    source: &dyn Source,
    levels: &Levels,
    now: &Checkpoint,
    earlier: &Checkpoint,
) -> Result<Option<Finding>, LedgerError> {
    let at = |wrong, entry, found: String, expected: String| Finding { entry, ..whole(wrong, CHECKPOINT, found, expected) };
    if now.origin != earlier.origin {
        return Ok(Some(at(Wrong::Fork, None, now.origin.clone(), format!("the log {}", earlier.origin))));
    }
    if now.size < earlier.size {
        let expected = format!("the {} that were seen before, or more", earlier.size);
        return Ok(Some(at(Wrong::Shorter, Some(now.size), format!("{} entries", now.size), expected)));
    }
    let root = levels.root_at(earlier.size, &leaves(source, earlier.size, now.size)?);
    if root == Some(earlier.root) {
        return Ok(None);
    }
    let found = root.map_or_else(|| "no root, because entries are missing".to_owned(), |root| root.to_string());
    let expected = format!("{}, the root that was seen before at {} entries", earlier.root, earlier.size);
    Ok(Some(at(Wrong::Fork, None, found, expected)))
}

/// The leaf hashes of the entries before `size` that stand in a bundle which is not full at that size, from their tile: that it is the one
/// of the entries has been looked at. None when the tile is missing or has another length.
fn leaves(source: &dyn Source, size: u64, now: u64) -> Result<Vec<Hash>, LedgerError> {
    let count = (size % TILE_WIDTH) as usize;
    let tile = size.checked_sub(1).filter(|_| count > 0).and_then(|last| Tile::holding(Kind::Hashes(0), last, now));
    match tile.map(|tile| hashes(source, tile)) {
        None | Some(Err(LedgerError::Malformed { .. })) => Ok(Vec::new()),
        Some(row) => Ok(row?.into_iter().take(count).collect()),
    }
}

/// Files that the tree of today does not need: partial tiles of earlier sizes have to be beginnings of today's tiles. Returns the tiles
/// beyond today's.
fn other_files(source: &dyn Source, report: &mut Report) -> Result<Vec<Tile>, LedgerError> {
    let mut paths = source.tiles()?;
    paths.sort_unstable();
    let mut beyond = Vec::new();
    for path in paths {
        let Ok(tile) = Tile::parse(&path) else {
            report.remarks.stray.push(path);
            continue;
        };
        let total = items(tile.kind, report.size);
        let end = tile.index.saturating_mul(TILE_WIDTH).saturating_add(u64::from(tile.width));
        if end > total {
            report.remarks.beyond.push(path);
            beyond.push(tile);
            continue;
        }
        let today = Tile::holding(tile.kind, end - 1, report.size).filter(|today| *today != tile);
        let Some(today) = today else { continue };
        let (Some(part), Some(all)) = (source.read(&path)?, read_tile(source, today)?) else { continue };
        let same = part.iter().zip(&all.bytes).take_while(|(a, b)| a == b).count();
        let length = beginning(tile, &all.bytes);
        if same != part.len() || part.len() != length {
            let (found, expected) = (format!("{} bytes", part.len()), format!("the first {length} bytes of {}", all.path));
            let byte = Some(same as u64);
            report.findings.push(Finding { byte, ..whole(Wrong::Partial, &path, found, expected) });
        }
    }
    Ok(beyond)
}

/// Bytes that the first items of `tile`'s width take in the tile that has grown out of it.
fn beginning(tile: Tile, all: &[u8]) -> usize {
    let width = usize::from(tile.width);
    match tile.kind {
        Kind::Hashes(_) => width * crate::hash::HASH_BYTES,
        Kind::Entries => {
            let entries = bundle::entries(all).take(width).map_while(Result::ok);
            entries.map(|(_, entry)| bundle::LENGTH_BYTES + entry.len()).sum()
        }
    }
}
