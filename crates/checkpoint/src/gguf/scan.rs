//! Reads numbers and strings in order and never beyond the end of the file, whatever a length field claims.

use std::io::{ErrorKind, Read};
use std::path::Path;

use crate::error::{CheckpointError, Result};

/// A bounded reader that knows its position.
pub(super) struct Scanner<'p, R> {
    path: &'p Path,
    reader: R,
    size: u64,
    position: u64,
}

impl<'p, R: Read> Scanner<'p, R> {
    pub(super) fn new(path: &'p Path, reader: R, size: u64) -> Self {
        Self { path, reader, size, position: 0 }
    }

    pub(super) fn path(&self) -> &'p Path {
        self.path
    }

    pub(super) fn position(&self) -> u64 {
        self.position
    }

    pub(super) fn remaining(&self) -> u64 {
        self.size.saturating_sub(self.position)
    }

    pub(super) fn error(&self, part: &str, found: impl Into<String>, expected: impl Into<String>) -> CheckpointError {
        CheckpointError::malformed(self.path, format!("{part} at byte {}", self.position), found, expected)
    }

    fn fill(&mut self, part: &str, buffer: &mut [u8]) -> Result<()> {
        let cut = |s: &Self| {
            s.error(part, format!("{} bytes before the end of the file", s.remaining()), format!("{} bytes", buffer.len()))
        };
        if buffer.len() as u64 > self.remaining() {
            return Err(cut(self));
        }
        match self.reader.read_exact(buffer) {
            Ok(()) => {
                self.position += buffer.len() as u64;
                Ok(())
            }
            Err(e) if e.kind() == ErrorKind::UnexpectedEof => Err(self.error(part, "the end of the file", "more data")),
            Err(e) => Err(CheckpointError::io("read", self.path, e)),
        }
    }

    fn array<const N: usize>(&mut self, part: &str) -> Result<[u8; N]> {
        let mut buffer = [0u8; N];
        self.fill(part, &mut buffer)?;
        Ok(buffer)
    }

    pub(super) fn bytes(&mut self, part: &str, n: u64) -> Result<Vec<u8>> {
        if n > self.remaining() {
            return Err(self.error(part, format!("a length of {n} bytes"), format!("at most {} bytes", self.remaining())));
        }
        let mut buffer = vec![0u8; n as usize];
        self.fill(part, &mut buffer)?;
        Ok(buffer)
    }

    pub(super) fn u8(&mut self, part: &str) -> Result<u8> {
        Ok(self.array::<1>(part)?[0])
    }

    pub(super) fn u16(&mut self, part: &str) -> Result<u16> {
        Ok(u16::from_le_bytes(self.array(part)?))
    }

    pub(super) fn u32(&mut self, part: &str) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array(part)?))
    }

    pub(super) fn u64(&mut self, part: &str) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array(part)?))
    }

    /// A string: its length in bytes as u64, then UTF-8.
    pub(super) fn string(&mut self, part: &str) -> Result<String> {
        let length = self.u64(part)?;
        let bytes = self.bytes(part, length)?;
        String::from_utf8(bytes).map_err(|_| self.error(part, "bytes that are not UTF-8", "UTF-8 text"))
    }
}
