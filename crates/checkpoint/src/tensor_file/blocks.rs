//! Writes a file in large blocks; past the page cache, where that is wanted and the file system allows it: a shard is not read again soon,
//! and copying it into the cache takes processor time from those who compute (benches/tried.md).

use std::fs::File;
use std::io::{self, ErrorKind, Write};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;

/// What memory, offsets and sizes must be multiples of: no device in use asks for more (`statx(2)`, `stx_dio_mem_align`).
const ALIGNMENT: usize = 4096;
/// Bytes written at once.
const BLOCK: usize = 8 << 20;

/// A file being written from its beginning.
pub(super) struct Blocks<'a> {
    file: &'a File,
    /// A block and room to begin it at an aligned address.
    memory: Vec<u8>,
    begin: usize,
    filled: usize,
    direct: bool,
}

impl<'a> Blocks<'a> {
    /// A writer of an empty file; past the page cache, if `direct` and if that can be.
    pub(super) fn new(file: &'a File, direct: bool) -> Self {
        let memory = vec![0; BLOCK + ALIGNMENT];
        let begin = memory.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        let direct = direct && set_direct(file, true).is_ok();
        Self { file, memory, begin, filled: 0, direct }
    }

    /// Takes as many of `bytes` as fit, at least one, and writes the block once it is full. Returns their number.
    pub(super) fn take(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(BLOCK - self.filled);
        let at = self.begin + self.filled;
        self.memory[at..at + count].copy_from_slice(&bytes[..count]);
        self.filled += count;
        if self.filled == BLOCK {
            self.write_block()?;
        }
        Ok(count)
    }

    /// Writes what is left. The file is complete, but not synced.
    pub(super) fn finish(mut self) -> io::Result<()> {
        if !self.filled.is_multiple_of(ALIGNMENT) {
            self.through_the_cache()?;
        }
        self.write_block()
    }

    fn write_block(&mut self) -> io::Result<()> {
        let end = self.begin + self.filled;
        let mut from = self.begin;
        while from < end {
            let mut file = self.file;
            match file.write(&self.memory[from..end]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => from += count,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                // Some file systems allow it and then do not, or only up to a part of a block.
                Err(e) if self.direct && e.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => self.through_the_cache()?,
                Err(e) => return Err(e),
            }
        }
        self.filled = 0;
        Ok(())
    }

    fn through_the_cache(&mut self) -> io::Result<()> {
        if self.direct {
            set_direct(self.file, false)?;
            self.direct = false;
        }
        Ok(())
    }
}

fn set_direct(file: &File, direct: bool) -> io::Result<()> {
    let mut flags = fcntl_getfl(file)?;
    flags.set(OFlags::DIRECT, direct);
    Ok(fcntl_setfl(file, flags)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::tests::{mount_small, unmount};

    fn write(writer: &mut Blocks<'_>, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            bytes = &bytes[writer.take(bytes)?..];
        }
        Ok(())
    }

    fn numbers(size: usize) -> Vec<u8> {
        (0..size).map(|i| (i % 251) as u8).collect()
    }

    #[test]
    fn files_of_all_sizes_are_what_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        for size in [0, 1, ALIGNMENT, ALIGNMENT + 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + ALIGNMENT] {
            let bytes = numbers(size);
            for direct in [true, false] {
                let file = File::create(&path).unwrap();
                let mut writer = Blocks::new(&file, direct);
                // Whatever this file system allows is what is done, until the tail.
                assert_eq!(fcntl_getfl(&file).unwrap().contains(OFlags::DIRECT), writer.direct);
                assert!(direct || !writer.direct);
                bytes.chunks(3_000_001).try_for_each(|part| write(&mut writer, part)).unwrap();
                writer.finish().unwrap();
                assert!(std::fs::read(&path).unwrap() == bytes, "{size} bytes");
            }
        }
    }

    #[test]
    fn a_file_system_that_refuses_in_the_middle_is_written_through_the_cache() {
        let dir = tempfile::tempdir().unwrap();
        let (path, bytes) = (dir.path().join("file"), numbers(3 * BLOCK + 5));
        let file = File::create(&path).unwrap();
        let mut writer = Blocks::new(&file, true);
        write(&mut writer, &bytes[..BLOCK]).unwrap();
        // Memory that is not aligned is what most of them refuse.
        writer.begin += 1;
        write(&mut writer, &bytes[BLOCK..]).unwrap();
        writer.finish().unwrap();
        assert!(std::fs::read(&path).unwrap() == bytes);
    }

    #[test]
    fn a_full_disk_is_an_error_in_the_first_block_and_in_the_tail() {
        for (direct, size) in [(true, 2 * BLOCK), (false, 2 * BLOCK), (true, (1 << 20) + 1), (false, (1 << 20) + 1)] {
            let mount = tempfile::tempdir().unwrap();
            if !mount_small(mount.path()) {
                return;
            }
            let file = File::create(mount.path().join("file")).unwrap();
            let mut writer = Blocks::new(&file, direct);
            let written = write(&mut writer, &numbers(size)).and_then(|()| writer.finish());
            drop(file);
            unmount(mount.path());
            assert_eq!(written.unwrap_err().raw_os_error(), Some(Errno::NOSPC.raw_os_error()), "{size} bytes, direct: {direct}");
        }
    }
}
