//! Small file operations that keep their promises: bounded reads, digests, and writes that survive a power cut.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::error::{CheckpointError, Result};

/// The largest text file (config, index, manifest) that is read whole; tokenizers of large vocabularies are 10–20 MB.
const MAX_TEXT_BYTES: u64 = 256 << 20;
const HASH_CHUNK: usize = 1 << 20;

/// Opens a regular file for reading; its size. Anything else is refused without waiting for it, as opening a pipe would.
pub(crate) fn open(path: &Path) -> Result<(File, u64)> {
    let without_waiting = OFlags::NONBLOCK.bits() as i32;
    let opened = File::options().read(true).custom_flags(without_waiting).open(path);
    let file = opened.map_err(|e| CheckpointError::io("open", path, e))?;
    let metadata = file.metadata().map_err(|e| CheckpointError::io("read", path, e))?;
    if !metadata.is_file() {
        return Err(CheckpointError::malformed(path, "file type", "a directory or special file", "a regular file"));
    }
    Ok((file, metadata.len()))
}

/// Reads a text file of at most [`MAX_TEXT_BYTES`].
pub(crate) fn read_text(path: &Path) -> Result<String> {
    read_text_up_to(path, MAX_TEXT_BYTES)
}

/// The same of a file that need not be there. Only where it is certainly not there is it `None`.
pub(crate) fn read_text_if_there(path: &Path) -> Result<Option<String>> {
    match read_text(path) {
        Err(CheckpointError::Io { action: "open", source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some),
    }
}

/// Reads a text file of at most `limit` bytes.
pub(crate) fn read_text_up_to(path: &Path, limit: u64) -> Result<String> {
    let (file, size) = open(path)?;
    if size > limit {
        return Err(CheckpointError::malformed(path, "size", format!("{size} bytes"), format!("at most {limit} bytes")));
    }
    let mut text = String::new();
    file.take(limit).read_to_string(&mut text).map_err(|e| match e.kind() {
        std::io::ErrorKind::InvalidData => CheckpointError::malformed(path, "content", "bytes that are not UTF-8", "UTF-8 text"),
        _ => CheckpointError::io("read", path, e),
    })?;
    Ok(text)
}

/// Parses JSON text that came from `path`.
pub(crate) fn parse_json<T: serde::de::DeserializeOwned>(path: &Path, text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|e| {
        CheckpointError::malformed(
            path,
            format!("line {} column {}", e.line(), e.column()),
            e.to_string(),
            "valid JSON of this file's kind",
        )
    })
}

pub(crate) fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    parse_json(path, &read_text(path)?)
}

/// Pretty JSON with a final newline, as people and `diff` like it.
pub(crate) fn json_text(value: &Value) -> String {
    let mut text = format!("{value:#}");
    text.push('\n');
    text
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Size and SHA-256 (hex) of a file, read in chunks.
pub(crate) fn digest(path: &Path) -> Result<(u64, String)> {
    let (mut file, _) = open(path)?;
    let mut hash = Sha256::new();
    let mut chunk = vec![0u8; HASH_CHUNK];
    let mut size = 0u64;
    loop {
        let n = file.read(&mut chunk).map_err(|e| CheckpointError::io("read", path, e))?;
        if n == 0 {
            return Ok((size, hex(&hash.finalize())));
        }
        hash.update(&chunk[..n]);
        size += n as u64;
    }
}

/// Makes a rename or a new file in `dir` durable.
pub(crate) fn sync_dir(dir: &Path) -> Result<()> {
    File::open(dir).and_then(|d| d.sync_all()).map_err(|e| CheckpointError::io("sync", dir, e))
}

pub(crate) fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(|e| CheckpointError::io("rename", to, e))
}

/// Lets two directories change places in one step; `false` where the file system cannot.
pub(crate) fn exchange(one: &Path, other: &Path) -> bool {
    let here = rustix::fs::CWD;
    rustix::fs::renameat_with(here, one, here, other, rustix::fs::RenameFlags::EXCHANGE).is_ok()
}

pub(crate) fn create_dir_all(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).map_err(|e| CheckpointError::io("create", dir, e))
}

/// Removes a file; one that is not there is fine.
pub(crate) fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(CheckpointError::io("remove", path, e)),
        _ => Ok(()),
    }
}

/// Removes a directory tree; one that is not there is fine.
pub(crate) fn remove_dir(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(CheckpointError::io("remove", dir, e)),
        _ => Ok(()),
    }
}

/// The name under which `path` is written before it is complete.
pub(crate) fn partial(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".partial");
    path.with_file_name(name)
}

/// The directory that holds `path`.
pub(crate) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    }
}

/// Writes and syncs a file under its final name; for files in a directory that is itself still temporary.
pub(crate) fn write_synced(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || -> std::io::Result<()> {
        let mut file = File::create(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|e| CheckpointError::io("write", path, e))
}

/// Replaces a file as one step: a reader sees the old content or the new, never a part.
pub(crate) fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = partial(path);
    let done = write_synced(&temporary, bytes).and_then(|()| rename(&temporary, path)).and_then(|()| sync_dir(parent(path)));
    if done.is_err() {
        // The first error is the one worth reporting.
        let _ = fs::remove_file(&temporary);
    }
    done
}

/// Refuses a name from inside a file that could lead out of the file's own directory.
pub(crate) fn plain_name(source: &Path, part: &str, name: &str) -> Result<()> {
    let escapes = name.is_empty() || name.starts_with('.') || name.contains(['/', '\\', '\0']);
    if escapes {
        return Err(CheckpointError::malformed(source, part, format!("{name:?}"), "a plain file name in the same directory"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digest_is_sha256() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        write_atomic(&path, b"abc").unwrap();
        let (size, sha) = digest(&path).unwrap();
        assert_eq!(size, 3);
        assert_eq!(sha, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert!(!partial(&path).exists());
    }

    #[test]
    fn a_pipe_is_refused_and_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        let error = read_text(&path).unwrap_err().to_string();
        assert!(error.contains("file type: found a directory or special file"), "{error}");
    }

    #[test]
    fn what_cannot_be_read_is_not_taken_for_absent() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("LATEST");
        assert_eq!(read_text_if_there(&path).unwrap(), None);
        fs::write(&path, "a").unwrap();
        assert_eq!(read_text_if_there(&path).unwrap().as_deref(), Some("a"));
        std::os::unix::fs::symlink("loop", dir.path().join("loop")).unwrap();
        assert!(read_text_if_there(&dir.path().join("loop")).is_err());
        assert!(read_text_if_there(&path.join("below a file")).is_err());
    }

    #[test]
    fn names_that_leave_the_directory_are_refused() {
        let p = Path::new("index.json");
        for bad in ["", ".", "..", "../x", "/etc/passwd", "a/b", ".hidden", "a\\b"] {
            assert!(plain_name(p, "shard", bad).is_err(), "{bad:?}");
        }
        plain_name(p, "shard", "model-00001-of-00002.safetensors").unwrap();
    }
}
