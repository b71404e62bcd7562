//! SHA-256 of many pieces of files at once: one piece a core, with one buffer each.

use std::io::{ErrorKind, Read, Seek, SeekFrom};

use rayon::prelude::*;
use sirocco_files::Digester;

use crate::Digest;
use crate::error::{Error, Result, io_error};
use crate::files::open;
use crate::manifest::walk::Found;

/// Bytes read at once. All the memory that hashing takes is this, times the number of cores.
const BUFFER: usize = 1 << 20;

/// Some bytes of a file: from `start` up to and without `end`.
#[derive(Clone, Copy)]
pub(super) struct Piece<'a> {
    pub(super) file: &'a Found,
    pub(super) start: u64,
    pub(super) end: u64,
}

/// The digests of the pieces, in their order.
pub(super) fn digests(pieces: &[Piece<'_>]) -> Result<Vec<Digest>> {
    pieces.par_iter().with_max_len(1).map(digest).collect()
}

fn digest(piece: &Piece<'_>) -> Result<Digest> {
    let path = &piece.file.path;
    let length = piece.end.saturating_sub(piece.start);
    let changed = |found: u64| Error::ChangedMeanwhile { path: path.clone(), found, expected: length };
    let (mut file, _) = open(path, || io_error("read", path)(ErrorKind::NotFound.into()))?;
    if piece.start > 0 {
        file.seek(SeekFrom::Start(piece.start)).map_err(io_error("read", path))?;
    }
    let mut buffer = vec![0; usize::try_from(length).unwrap_or(BUFFER).clamp(1, BUFFER)];
    let (mut state, mut read) = (Digester::new(), 0_u64);
    let mut source = (&mut file).take(length);
    loop {
        let count = source.read(&mut buffer).map_err(io_error("read", path))?;
        let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else { break };
        state.update(bytes);
        read = read.saturating_add(bytes.len() as u64);
    }
    if read != length {
        return Err(changed(read));
    }
    let ends_here = piece.end == piece.file.size;
    if ends_here && file.read(&mut [0]).map_err(io_error("read", path))? > 0 {
        return Err(changed(length.saturating_add(1)));
    }
    Ok(Digest::from(state.finish()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: std::path::PathBuf, size: u64) -> Found {
        Found { name: "w".into(), path, size }
    }

    #[test]
    fn pieces_are_digested_in_order_and_across_buffers() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("w");
        let bytes: Vec<u8> = (0..BUFFER + 12_345).map(|index| (index % 251) as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        let size = bytes.len() as u64;
        let file = found(path, size);
        let all = [(0, size), (7, 9), (BUFFER as u64 - 1, size), (5, 5)];
        let pieces: Vec<_> = all.iter().map(|&(start, end)| Piece { file: &file, start, end }).collect();
        let expected: Vec<_> = all.iter().map(|&(start, end)| Digest::of(&bytes[start as usize..end as usize])).collect();
        assert_eq!(digests(&pieces).unwrap(), expected);
    }

    #[test]
    fn a_file_that_shrinks_or_grows_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("w");
        std::fs::write(&path, "12345").unwrap();
        for size in [4, 6] {
            let file = found(path.clone(), size);
            let error = digests(&[Piece { file: &file, start: 0, end: size }]).unwrap_err();
            assert!(matches!(error, Error::ChangedMeanwhile { found: 5, .. }), "{error}");
        }
    }
}
