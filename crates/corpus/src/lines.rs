//! A file as numbered lines of checked UTF-8. A wrong line costs only itself.

use crate::error::CorpusError;
use crate::fault::Fault;
use crate::sieve::{Located, Record};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

/// Lines of a file, from 1, without their ends (`\n` or `\r\n`) and without a byte order mark at the start of the file.
pub(crate) struct Lines<R> {
    path: PathBuf,
    reader: R,
    line: u64,
    failed: bool,
}

impl Lines<BufReader<File>> {
    pub(crate) fn open(path: &Path) -> Result<Self, CorpusError> {
        let file = File::open(path).map_err(|source| CorpusError::io(path, "open", source))?;
        Ok(Lines::new(path, BufReader::with_capacity(1 << 16, file)))
    }
}

impl<R: BufRead> Lines<R> {
    pub(crate) fn new(path: &Path, reader: R) -> Self {
        Lines { path: path.to_path_buf(), reader, line: 0, failed: false }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn text(&self, mut bytes: Vec<u8>) -> Record<String> {
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
            if bytes.last() == Some(&b'\r') {
                bytes.pop();
            }
        }
        if self.line == 1 && bytes.starts_with(b"\xEF\xBB\xBF") {
            bytes.drain(..3);
        }
        match String::from_utf8(bytes) {
            Ok(value) => Ok(Located { line: self.line, value }),
            Err(error) => {
                let byte = error.utf8_error().valid_up_to();
                Err(CorpusError::bad(&self.path, self.line, Fault::InvalidUtf8 { byte }))
            }
        }
    }
}

impl<R: BufRead> Iterator for Lines<R> {
    type Item = Record<String>;

    fn next(&mut self) -> Option<Record<String>> {
        if self.failed {
            return None;
        }
        let mut bytes = Vec::new();
        match self.reader.read_until(b'\n', &mut bytes) {
            Ok(0) => None,
            Ok(_) => {
                self.line += 1;
                Some(self.text(bytes))
            }
            Err(source) => {
                self.failed = true; // a broken disk would otherwise be reported for ever
                Some(Err(CorpusError::io(&self.path, "read", source)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(bytes: &[u8]) -> Vec<Result<(u64, String), String>> {
        Lines::new(Path::new("f"), bytes).map(|line| line.map(|l| (l.line, l.value)).map_err(|e| e.to_string())).collect()
    }

    #[test]
    fn ends_byte_order_mark_and_a_missing_final_newline() {
        let found = lines(b"\xEF\xBB\xBFa\r\n\nb");
        assert_eq!(found, [Ok((1, "a".into())), Ok((2, String::new())), Ok((3, "b".into()))]);
    }

    #[test]
    fn a_wrong_line_costs_only_itself() {
        let found = lines(b"a\nx\xFFy\nb\n");
        assert_eq!(found[1], Err("f:2: invalid UTF-8 at byte 1 of the line; expected UTF-8 text".into()));
        assert_eq!(found[2], Ok((3, "b".into())));
    }
}
