//! The journal on disk: where writers put entries first. Everything here happens under the log's lock.

use std::fs::File;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::LedgerError;
use crate::disk::files;
use crate::record::{self, HEADER_BYTES, Next, Record};

/// Bytes read at a time.
const CHUNK: usize = 1 << 20;

/// What a handle knows of the journal.
pub(super) struct Journal {
    path: PathBuf,
    pub(super) file: Arc<File>,
    inode: (u64, u64),
    /// Index of its first entry.
    pub(super) first: u64,
    /// Where the whole records end that this handle has seen.
    pub(super) end: u64,
    /// Index of the entry that comes there.
    pub(super) next: u64,
    /// After a write that failed and could not be taken back: how long it left the file.
    left: Option<u64>,
}

impl Journal {
    /// Writes a journal whose first entry has index `first`, with `records` that are whole.
    pub(super) fn create(path: &Path, first: u64, records: &[u8]) -> Result<(), LedgerError> {
        files::replace(path, &[&record::header(first), records])?;
        Ok(sirocco_files::replace::sync_directory(sirocco_files::replace::directory(path))?)
    }

    /// Opens it; nothing but the header has been read.
    pub(super) fn open(path: &Path) -> Result<Self, LedgerError> {
        let refused = |error| LedgerError::io("open", path, error);
        let file = files::open(path, false)?;
        let about = file.metadata().map_err(refused)?;
        let mut header = [0; HEADER_BYTES];
        let read = read_at(&file, &mut header, 0).map_err(|error| LedgerError::io("read", path, error))?;
        let first = record::first_index(header.get(..read).unwrap_or_default()).map_err(|error| LedgerError::Damaged {
            path: path.to_path_buf(),
            place: "header".to_owned(),
            found: error.to_string(),
            expected: "a journal".to_owned(),
        })?;
        let inode = (about.dev(), about.ino());
        Ok(Self {
            path: path.to_path_buf(),
            file: Arc::new(file),
            inode,
            first,
            end: HEADER_BYTES as u64,
            next: first,
            left: None,
        })
    }

    /// Sees what others have done: another journal in its place, or new records. Returns how many bytes after the last whole record are
    /// no record.
    pub(super) fn refresh(&mut self) -> Result<u64, LedgerError> {
        let about = std::fs::metadata(&self.path).map_err(|error| LedgerError::io("read", &self.path, error))?;
        if (about.dev(), about.ino()) != self.inode {
            *self = Self::open(&self.path)?;
        }
        self.take_back()?;
        let mut seen = 0;
        let length = self.length()?;
        if length > self.end {
            self.end = scan(&self.file, &self.path, self.end..length, |_| {
                seen += 1;
                Ok(())
            })?;
            self.next += seen;
        }
        if length < self.end {
            // Whoever cut whole records off did not do it under the lock.
            return Err(LedgerError::Damaged {
                path: self.path.clone(),
                place: "length".to_owned(),
                found: format!("{length} bytes"),
                expected: format!("the {} that were written", self.end),
            });
        }
        Ok(length - self.end)
    }

    /// Cuts off what a failed write left, if nobody has written since: none of it was reported as written.
    fn take_back(&mut self) -> Result<(), LedgerError> {
        let Some(left) = self.left else { return Ok(()) };
        if self.length()? == left {
            self.file.set_len(self.end).map_err(|error| LedgerError::io("shorten", &self.path, error))?;
        }
        self.left = None;
        Ok(())
    }

    fn length(&self) -> Result<u64, LedgerError> {
        Ok(self.file.metadata().map_err(|error| LedgerError::io("read", &self.path, error))?.len())
    }

    /// Writes `count` records after the last one. After an error there is none of them.
    pub(super) fn append(&mut self, records: &[u8], count: u64) -> Result<(), LedgerError> {
        if let Err(error) = self.file.write_all_at(records, self.end) {
            if self.file.set_len(self.end).is_err() {
                // Some of the records may be whole: before this handle looks for records again they go.
                self.left = self.length().ok();
            }
            return Err(LedgerError::io("write", &self.path, error));
        }
        self.end += records.len() as u64;
        self.next += count;
        Ok(())
    }

    /// The bytes from `from` to the end of the file.
    pub(super) fn rest(&self, from: u64) -> Result<Vec<u8>, LedgerError> {
        let refused = |error| LedgerError::io("read", &self.path, error);
        let length = self.file.metadata().map_err(refused)?.len().saturating_sub(from);
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
        let read = read_at(&self.file, &mut bytes, from).map_err(refused)?;
        bytes.truncate(read);
        Ok(bytes)
    }

    /// Takes away what stands after the last whole record.
    pub(super) fn cut_torn(&self) -> Result<(), LedgerError> {
        let cut = self.file.set_len(self.end).and_then(|()| self.file.sync_all());
        cut.map_err(|error| LedgerError::io("shorten", &self.path, error))
    }
}

/// Calls `each` with the records in `range` of the file and returns where the whole ones end.
pub(super) fn scan(
    file: &File,
    path: &Path,
    range: std::ops::Range<u64>,
    mut each: impl FnMut(Record<'_>) -> Result<(), LedgerError>,
) -> Result<u64, LedgerError> {
    let mut end = range.start;
    let mut buffer: Vec<u8> = Vec::new();
    let mut read_to = range.start;
    loop {
        let more = usize::try_from(range.end.saturating_sub(read_to)).unwrap_or(CHUNK).min(CHUNK);
        let old = buffer.len();
        buffer.resize(old + more, 0);
        let got = read_at(file, buffer.get_mut(old..).unwrap_or_default(), read_to);
        let got = got.map_err(|error| LedgerError::io("read", path, error))?;
        buffer.truncate(old + got);
        read_to += got as u64;
        let mut used = 0;
        let short = loop {
            match record::next(buffer.get(used..).unwrap_or_default()) {
                Next::Whole(record) => {
                    used += record.bytes();
                    each(record)?;
                }
                Next::Short => break true,
                Next::Wrong => break false,
            }
        };
        buffer.drain(..used);
        end += used as u64;
        if !short || got == 0 {
            return Ok(end);
        }
    }
}

/// As many bytes as there are, up to the buffer's length.
fn read_at(file: &File, buffer: &mut [u8], at: u64) -> std::io::Result<usize> {
    let mut done = 0;
    while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, at + done as u64) {
            Ok(0) => break,
            Ok(got) => done += got,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(path: &Path, entry: &[u8]) -> u64 {
        let mut bytes = std::fs::read(path).unwrap();
        record::push(&mut bytes, entry).unwrap();
        std::fs::write(path, &bytes).unwrap();
        bytes.len() as u64
    }

    #[test]
    fn what_a_failed_write_left_is_taken_back_before_anybody_counts_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        Journal::create(&path, 7, &[]).unwrap();
        let mut journal = Journal::open(&path).unwrap();
        let mut records = Vec::new();
        record::push(&mut records, b"one").unwrap();
        journal.append(&records, 1).unwrap();
        // As if the first of two records had been written, and cutting it off again had failed.
        journal.left = Some(written(&path, b"two"));
        assert_eq!(journal.refresh().unwrap(), 0);
        assert_eq!((journal.next, std::fs::metadata(&path).unwrap().len()), (8, journal.end));

        // Somebody else has taken it for an entry and gone on: now it is one.
        journal.left = Some(written(&path, b"two"));
        written(&path, b"three");
        assert_eq!((journal.refresh().unwrap(), journal.next), (0, 10));
    }
}
