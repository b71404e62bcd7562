//! Writes a safetensors file whose data is all in memory: one thread writes while another hashes the same bytes.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use sha2::{Digest, Sha256};

use super::TensorSpec;
use super::blocks::Blocks;
use super::writer::{Finished, header_of};
use crate::error::{CheckpointError, Result};
use crate::files;
use crate::pace::Pace;
use crate::partial_file::PartialFile;

/// Bytes between two rests, and between two looks of the hashing whether the writing has failed.
const CHUNK: usize = 4 << 20;

/// Writes `path` (under a temporary name beside it until it is complete) with the given tensors and their data, in order.
///
/// With `durable`, the data is on disk when this returns.
///
/// # Errors
/// Where a name stands twice, data has another size than its tensor, or the system fails to write.
pub(crate) fn write_at_once(path: &Path, specs: &[TensorSpec], data: &[&[u8]], durable: bool, pace: &Pace) -> Result<Finished> {
    let header = header_of(path, specs, &[])?;
    for (spec, data) in specs.iter().zip(data) {
        let expected = spec.bytes().unwrap_or(0);
        if data.len() != expected {
            let (found, expected) = (format!("{} bytes", data.len()), format!("{expected} bytes"));
            return Err(CheckpointError::misuse(path, format!("tensor {}", spec.name), found, expected));
        }
    }
    let parts: Vec<&[u8]> = std::iter::once(header.as_slice()).chain(data.iter().copied()).collect();
    let size = parts.iter().map(|part| part.len() as u64).sum();
    let file = PartialFile::create(path)?;
    file.reserve(size)?;
    let failed = AtomicBool::new(false);
    let (written, sha256) = std::thread::scope(|scope| {
        let hashing = scope.spawn(|| hash(&parts, pace, &failed));
        let place = if durable { PartialFile::place } else { PartialFile::place_unsynced };
        let written = write(Blocks::new(file.file(), durable), &parts, pace);
        let written = written.map_err(|e| CheckpointError::io("write", path, e)).and_then(|()| place(file));
        failed.store(written.is_err(), Ordering::Relaxed);
        (written, hashing.join())
    });
    written?;
    let sha256 = sha256.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    Ok(Finished { size, sha256 })
}

/// SHA-256 (hex) of all parts; gives up where the writing has failed.
fn hash(parts: &[&[u8]], pace: &Pace, failed: &AtomicBool) -> String {
    let (mut hash, mut work) = (Sha256::new(), pace.begin());
    for chunk in parts.iter().flat_map(|part| part.chunks(CHUNK)) {
        if failed.load(Ordering::Relaxed) {
            break;
        }
        hash.update(chunk);
        work.rest();
    }
    files::hex(&hash.finalize())
}

fn write(mut file: Blocks<'_>, parts: &[&[u8]], pace: &Pace) -> io::Result<()> {
    let mut work = pace.begin();
    for mut chunk in parts.iter().flat_map(|part| part.chunks(CHUNK)) {
        while !chunk.is_empty() {
            chunk = &chunk[file.take(chunk)?..];
        }
        work.rest();
    }
    file.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use safetensors::Dtype;

    #[test]
    fn the_file_is_what_a_stream_of_tensors_makes() {
        let dir = tempfile::tempdir().unwrap();
        let (once, stream) = (dir.path().join("once"), dir.path().join("stream"));
        let sizes = [3, 0, CHUNK + 1, 5, 9 * CHUNK + 7];
        let data: Vec<Vec<u8>> = sizes.iter().enumerate().map(|(i, size)| vec![i as u8; *size]).collect();
        let specs: Vec<_> = sizes.iter().enumerate().map(|(i, n)| TensorSpec::new(format!("t{i}"), Dtype::U8, [*n])).collect();
        let mut writer = super::super::TensorFileWriter::create(&stream, specs.clone(), &[]).unwrap();
        specs.iter().zip(&data).for_each(|(spec, data)| writer.write(&spec.name, data).unwrap());
        let expected = writer.finish().unwrap();
        let data: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
        for durable in [true, false] {
            let done = write_at_once(&once, &specs, &data, durable, &Pace::full()).unwrap();
            assert_eq!((done.size, done.sha256), expected);
            assert_eq!(files::digest(&once).unwrap(), expected);
        }
    }

    #[test]
    fn what_is_wrong_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let spec = TensorSpec::new("w", Dtype::F32, [1]);
        let path = dir.path().join("a");
        let short = write_at_once(&path, std::slice::from_ref(&spec), &[&[0; 3]], true, &Pace::full()).unwrap_err();
        assert!(short.to_string().contains("tensor w: found 3 bytes, expected 4 bytes"), "{short}");
        let twice = write_at_once(&path, &[spec.clone(), spec], &[&[0; 4], &[0; 4]], true, &Pace::full()).unwrap_err();
        assert!(twice.to_string().contains("the name twice"), "{twice}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
