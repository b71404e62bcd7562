//! Writes a safetensors file whose data is all in memory: one thread writes while another hashes the same bytes.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::num::NonZeroU64;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{Advice, fadvise};
use sha2::{Digest, Sha256};

use super::TensorSpec;
use super::writer::{Finished, header_of};
use crate::error::{CheckpointError, Result};
use crate::files;
use crate::partial_file::PartialFile;

/// What is handed to the kernel in one call; small tensors are gathered to it.
const CHUNK: usize = 8 << 20;
/// Small tensors are copied together up to this many bytes; larger ones are written from where they lie.
const GATHER: usize = 1 << 20;
const WRITE_BEHIND: bool = true;

/// Writes `path` (under a temporary name beside it until it is synced) with the given tensors and their data, in order.
///
/// With `durable`, the data is on disk when this returns.
///
/// # Errors
/// Where a name stands twice, data has another size than its tensor, or the system fails to write.
pub(crate) fn write_at_once(path: &Path, specs: &[TensorSpec], data: &[&[u8]], durable: bool) -> Result<Finished> {
    let header = header_of(path, specs, &[])?;
    for (spec, data) in specs.iter().zip(data) {
        let expected = spec.bytes().unwrap_or(0);
        if data.len() != expected {
            let (found, expected) = (format!("{} bytes", data.len()), format!("{expected} bytes"));
            return Err(CheckpointError::misuse(path, format!("tensor {}", spec.name), found, expected));
        }
    }
    let parts: Vec<&[u8]> = std::iter::once(header.as_slice()).chain(data.iter().copied()).collect();
    let file = PartialFile::create(path)?;
    let failed = AtomicBool::new(false);
    let (written, sha256) = std::thread::scope(|scope| {
        let hashing = scope.spawn(|| hash(&parts, &failed));
        let place = if durable { PartialFile::place } else { PartialFile::place_unsynced };
        let written = write(file.file(), &parts).map_err(|e| CheckpointError::io("write", path, e)).and_then(|()| place(file));
        failed.store(written.is_err(), Ordering::Relaxed);
        (written, hashing.join())
    });
    written?;
    let sha256 = sha256.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    let size = parts.iter().map(|part| part.len() as u64).sum();
    Ok(Finished { size, sha256 })
}

/// SHA-256 (hex) of all parts; gives up where the writing has failed.
fn hash(parts: &[&[u8]], failed: &AtomicBool) -> String {
    let mut hash = Sha256::new();
    for chunk in parts.iter().flat_map(|part| part.chunks(CHUNK)) {
        if failed.load(Ordering::Relaxed) {
            break;
        }
        hash.update(chunk);
    }
    files::hex(&hash.finalize())
}

fn write(file: &File, parts: &[&[u8]]) -> std::io::Result<()> {
    let mut buffered = BufWriter::with_capacity(GATHER, file);
    let mut written = 0u64;
    for chunk in parts.iter().flat_map(|part| part.chunks(CHUNK)) {
        buffered.write_all(chunk)?;
        if WRITE_BEHIND && chunk.len() == CHUNK {
            // Advice: a file system that does not know it writes back when it is synced.
            let _ = fadvise(file, written, NonZeroU64::new(CHUNK as u64), Advice::DontNeed);
        }
        written += chunk.len() as u64;
    }
    buffered.flush()
}
