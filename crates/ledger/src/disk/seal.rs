//! Sealing: the journal's entries become tiles, and a signed checkpoint says so. Every step can be the last one before a power loss.
//!
//! 1. The journal is synced. 2. Tiles are written, none that an earlier checkpoint covers, and synced. 3. The checkpoint is replaced.
//! 4. A journal without the sealed entries takes the place of the old one. A crash between any two of them leaves a log that verifies,
//!    and the next sealing does the rest.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use crate::LedgerError;
use crate::checkpoint::{Checkpoint, SignedCheckpoint};
use crate::disk::journal::{Journal, scan};
use crate::disk::log::{JOURNAL, Log, State};
use crate::disk::{Directory, files};
use crate::edge::Edge;
use crate::key::{Seal, SignerKey};
use crate::note::{Note, Signature};
use crate::record::HEADER_BYTES;
use crate::source::Source as _;
use crate::tile::{TILE_WIDTH, Tile, items, new_tiles};
use crate::tlog_proof::CHECKPOINT;

/// What a sealing did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sealed {
    /// The checkpoint that is now in the log.
    pub checkpoint: SignedCheckpoint,
    /// Entries that it has more than the one before.
    pub added: u64,
}

/// The journal up to a moment. What it holds until `end` does not change any more.
struct Cut {
    file: Arc<File>,
    first: u64,
    next: u64,
    end: u64,
}

impl Log {
    /// Seals everything that was appended before the call and signs it with the log's key, whose name is the log's. Others may append
    /// meanwhile; another sealing waits.
    ///
    /// # Errors
    /// [`LedgerError::NotSigned`], [`LedgerError::BadSignature`] when the checkpoint that is there is not this key's;
    /// [`LedgerError::Damaged`] when tiles, journal and checkpoint contradict each other: nothing is signed on top of that;
    /// [`LedgerError::DiskFull`], [`LedgerError::ReadOnly`], [`LedgerError::Io`]: the log is as it was.
    pub fn seal(&self, key: &SignerKey) -> Result<Sealed, LedgerError> {
        let file = self.sealing.lock().unwrap_or_else(PoisonError::into_inner);
        let _held = file.hold()?;
        let cut = self.cut()?;
        let last = self.last_checkpoint(key)?;
        let old = last.as_ref().map_or(0, |last| last.checkpoint.size);
        if cut.first > old || cut.next < old {
            let found = format!("entries {} to {}", cut.first, cut.next);
            return Err(self.damaged(JOURNAL, "entries", found, format!("those from {old} on, which is the checkpoint's size")));
        }
        let edge = Edge::load(&self.directory(), old)?;
        if let Some(last) = &last
            && edge.root() != last.checkpoint.root
        {
            let (found, expected) = (edge.root().to_string(), last.checkpoint.root.to_string());
            return Err(self.damaged("tile", "root", found, expected));
        }
        let checkpoint = match last {
            Some(last) if cut.next == old => last,
            _ => self.extend(key, &cut, edge, old)?,
        };
        self.trim(&cut)?;
        Ok(Sealed { checkpoint, added: cut.next - old })
    }

    /// Adds a witness's cosignature to the checkpoint that it signed; one of the same witness is replaced.
    ///
    /// # Errors
    /// [`LedgerError::BadSignature`] or [`LedgerError::NotSigned`] when `signature` is not `witness`'s over the checkpoint that is there.
    pub fn add_cosignature(
        &self,
        signature: Signature,
        witness: &crate::key::VerifierKey,
    ) -> Result<SignedCheckpoint, LedgerError> {
        let file = self.sealing.lock().unwrap_or_else(PoisonError::into_inner);
        let _held = file.hold()?;
        let mut checkpoint = crate::tlog_proof::checkpoint(&self.directory())?;
        checkpoint.note.add(signature);
        checkpoint.note.verify(&[witness])?;
        self.write_checkpoint(&checkpoint)?;
        Ok(checkpoint)
    }

    fn cut(&self) -> Result<Cut, LedgerError> {
        let at = |state: &State| {
            let journal = &state.journal;
            Cut { file: journal.file.clone(), first: journal.first, next: journal.next, end: journal.end }
        };
        let cut = self.changing(|state| Ok(at(state)))?;
        self.sync()?;
        // The sync may have had to write the journal again, the same bytes into another file.
        let file = self.changing(|state| Ok(state.journal.file.clone()))?;
        Ok(Cut { file, ..cut })
    }

    fn last_checkpoint(&self, key: &SignerKey) -> Result<Option<SignedCheckpoint>, LedgerError> {
        let Some(bytes) = self.directory().read(CHECKPOINT)? else { return Ok(None) };
        let last = SignedCheckpoint::parse(&bytes)?;
        let verifier = key.verifier();
        last.note.verify(&[&verifier])?;
        if last.checkpoint.origin == verifier.name() {
            return Ok(Some(last));
        }
        Err(self.damaged(CHECKPOINT, "line 1", last.checkpoint.origin, verifier.name().to_owned()))
    }

    /// Steps 2 and 3.
    fn extend(&self, key: &SignerKey, cut: &Cut, mut edge: Edge, old: u64) -> Result<SignedCheckpoint, LedgerError> {
        let mut written: Vec<PathBuf> = Vec::new();
        let mut out = |tile: Tile, bytes: &[u8]| {
            let path = self.path().join(tile.path());
            files::replace(&path, &[bytes])?;
            written.push(path);
            Ok(())
        };
        let mut index = cut.first;
        let range = HEADER_BYTES as u64..cut.end;
        scan(&cut.file, &self.path().join(JOURNAL), range, |record| {
            // After a crash between steps 3 and 4 the journal begins with entries that are sealed.
            if index >= old {
                edge.push(record.leaf, record.entry, &mut out)?;
            }
            index += 1;
            Ok(())
        })?;
        edge.finish(old, &mut out)?;
        if edge.size() != cut.next {
            let found = format!("{} whole entries", edge.size());
            return Err(self.damaged(JOURNAL, "entries", found, cut.next.to_string()));
        }
        files::remove_unfinished(&written)?;
        files::sync_names(self.path(), &written)?;
        let origin = key.verifier().name().to_owned();
        let checkpoint = Checkpoint { origin, size: edge.size(), root: edge.root(), extensions: Vec::new() };
        let mut note = Note::new(checkpoint.to_text())?;
        note.sign(key, Seal::Plain)?;
        let signed = SignedCheckpoint { checkpoint, note };
        self.write_checkpoint(&signed)?;
        self.drop_partials(old, edge.size());
        Ok(signed)
    }

    fn write_checkpoint(&self, checkpoint: &SignedCheckpoint) -> Result<(), LedgerError> {
        files::replace(&self.path().join(CHECKPOINT), &[checkpoint.note.to_text().as_bytes()])?;
        Ok(sirocco_files::replace::sync_directory(self.path())?)
    }

    /// Partial tiles go whose full tile is there, and those that a sealing left which never came to its checkpoint. The log does not
    /// need them, so that it is no error if they stay.
    fn drop_partials(&self, old: u64, new: u64) {
        for tile in new_tiles(old, new) {
            let folder = self.path().join(tile.partials());
            if tile.is_full() {
                let _ = std::fs::remove_dir_all(folder);
                continue;
            }
            let covered = items(tile.kind, old).saturating_sub(tile.index * TILE_WIDTH);
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                let width = entry.file_name().to_str().and_then(crate::tile::decimal);
                if width.is_none_or(|width| width > covered && width != u64::from(tile.width)) {
                    let _ = std::fs::remove_file(entry.path());
                }
            }
        }
    }

    /// Step 4: what was appended since the cut moves to a new journal.
    fn trim(&self, cut: &Cut) -> Result<(), LedgerError> {
        if cut.next == cut.first {
            return Ok(());
        }
        let path = self.path().join(JOURNAL);
        self.changing(|state| {
            // Whoever writes in this directory holds one of the two locks, and both are held here.
            sirocco_files::replace::remove_unfinished(self.path())?;
            let rest = state.journal.rest(cut.end)?;
            Journal::create(&path, cut.next, &rest)?;
            state.journal.refresh().map(drop)
        })
    }

    fn damaged(&self, file: &str, place: &str, found: String, expected: String) -> LedgerError {
        let path: &Path = self.path();
        LedgerError::Damaged { path: path.join(file), place: place.to_owned(), found, expected }
    }
}

impl Directory {
    /// How many entries the journal has beyond `sealed`, read without a lock: those that are whole at this moment.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn pending(&self, sealed: u64) -> Result<u64, LedgerError> {
        let Some(bytes) = self.read(JOURNAL)? else { return Ok(0) };
        let first = crate::record::first_index(&bytes)?;
        let next = first.saturating_add(crate::record::records(&bytes).count() as u64);
        Ok(next.saturating_sub(sealed))
    }
}
