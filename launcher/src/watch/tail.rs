//! A file that somebody else writes: its whole lines as they come, whatever happens to the file. It may appear later, grow, be cut off,
//! be replaced by another of the same name, or vanish.
use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Bytes read at once.
const CHUNK: u64 = 1 << 20;

/// A line without an end that is longer is no line.
const LONGEST: usize = 16 << 20;

/// How much of what was read last is compared with what stands there now.
const KNOWN: usize = 64;

/// What became of a file since it was last looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// It is not there.
    Missing,
    /// What was given out still holds.
    Grown,
    /// It was cut off, rewritten or replaced: what is given out now is all of it.
    Anew,
}

/// A place in a file.
#[derive(Debug)]
pub(crate) struct Tail {
    path: PathBuf,
    /// Device and number of the file that was read.
    file: Option<(u64, u64)>,
    /// Bytes read.
    offset: u64,
    /// The last bytes before `offset`, [`KNOWN`] of them.
    known: Vec<u8>,
    /// The beginning of a line.
    rest: Vec<u8>,
    /// Of the next line, nothing is given out: its beginning is not known, or it is too long.
    skip: bool,
}

impl Tail {
    /// From the first line.
    pub(crate) fn from_start(path: &Path) -> Tail {
        Tail { path: path.to_owned(), file: None, offset: 0, known: Vec::new(), rest: Vec::new(), skip: false }
    }

    /// From the first of the last `count` whole lines, and what comes after them.
    pub(crate) fn from_last(path: &Path, count: usize) -> io::Result<Tail> {
        let mut tail = Tail::from_start(path);
        match File::open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            file => {
                let mut file = file?;
                tail.file = Some(identity(&file)?);
                tail.offset = start_of_last(&mut file, count)?;
                tail.remember(&mut file)?;
            }
        }
        Ok(tail)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The beginning of a line whose end has not come.
    pub(crate) fn rest(&self) -> &[u8] {
        &self.rest
    }

    /// The whole lines since the last call, one by one, without their ends.
    pub(crate) fn poll(&mut self, mut each: impl FnMut(&[u8])) -> io::Result<Change> {
        let mut file = match File::open(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Change::Missing),
            file => file?,
        };
        let identity = identity(&file)?;
        let is_anew = self.file.is_some_and(|known| known != identity) || !self.is_as_known(&mut file)?;
        self.file = Some(identity);
        if is_anew {
            (self.offset, self.skip) = (0, false);
            self.known.clear();
            self.rest.clear();
        }
        file.seek(SeekFrom::Start(self.offset))?;
        loop {
            let mut bytes = Vec::new();
            let read = Read::by_ref(&mut file).take(CHUNK).read_to_end(&mut bytes)?;
            if read == 0 {
                break;
            }
            self.offset += read as u64;
            self.take(&bytes, &mut each);
        }
        Ok(if is_anew { Change::Anew } else { Change::Grown })
    }

    fn take(&mut self, bytes: &[u8], each: &mut impl FnMut(&[u8])) {
        self.known.extend_from_slice(&bytes[bytes.len().saturating_sub(KNOWN)..]);
        self.known.drain(..self.known.len().saturating_sub(KNOWN));
        let mut lines = bytes.split(|byte| *byte == b'\n');
        let last = lines.next_back().unwrap_or_default();
        for line in lines {
            self.rest.extend_from_slice(line);
            if !self.skip {
                each(&self.rest);
            }
            self.skip = false;
            self.rest.clear();
        }
        self.rest.extend_from_slice(last);
        if self.rest.len() > LONGEST {
            self.rest = Vec::new();
            self.skip = true;
        }
    }

    /// Whether what was read last still stands where it stood.
    fn is_as_known(&self, file: &mut File) -> io::Result<bool> {
        if file.metadata()?.len() < self.offset {
            return Ok(false);
        }
        let mut now = vec![0; self.known.len()];
        file.seek(SeekFrom::Start(self.offset - self.known.len() as u64))?;
        match file.read_exact(&mut now) {
            // Cut off this very moment.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
            read => read.map(|()| now == self.known),
        }
    }

    fn remember(&mut self, file: &mut File) -> io::Result<()> {
        let known = self.offset.min(KNOWN as u64);
        file.seek(SeekFrom::Start(self.offset - known))?;
        self.known = vec![0; known as usize];
        file.read_exact(&mut self.known)
    }
}

fn identity(file: &File) -> io::Result<(u64, u64)> {
    file.metadata().map(|metadata| (metadata.dev(), metadata.ino()))
}

/// Where the last `count` whole lines begin.
fn start_of_last(file: &mut File, count: usize) -> io::Result<u64> {
    let (mut found, mut end) = (0, file.metadata()?.len());
    while end > 0 {
        let begin = end.saturating_sub(CHUNK);
        let mut bytes = vec![0; (end - begin) as usize];
        file.seek(SeekFrom::Start(begin))?;
        file.read_exact(&mut bytes)?;
        for at in (0..bytes.len()).rev().filter(|at| bytes[*at] == b'\n') {
            // The first is the end of the last line; each one more is the end of the line before.
            if found == count {
                return Ok(begin + at as u64 + 1);
            }
            found += 1;
        }
        end = begin;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Write as _;

    fn lines(tail: &mut Tail) -> (Change, String) {
        let mut all = Vec::new();
        let change = tail.poll(|line| all.push(String::from_utf8_lossy(line).into_owned())).unwrap();
        (change, all.join(" "))
    }

    fn said(change: Change, text: &str) -> (Change, String) {
        (change, text.to_owned())
    }

    #[test]
    fn a_file_appears_grows_is_cut_replaced_and_vanishes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let mut tail = Tail::from_start(&path);
        assert_eq!(lines(&mut tail), said(Change::Missing, ""));
        fs::write(&path, "one\ntwo\nthr").unwrap();
        assert_eq!(lines(&mut tail), said(Change::Grown, "one two"));
        let add = |text: &str| File::options().append(true).open(&path).unwrap().write_all(text.as_bytes()).unwrap();
        add("ee\n");
        assert_eq!(lines(&mut tail), said(Change::Grown, "three"));
        fs::write(&path, "one\n").unwrap();
        assert_eq!(lines(&mut tail), said(Change::Anew, "one"));
        // Cut and grown beyond what was read, between two looks.
        fs::write(&path, "ONE\nTWO\n").unwrap();
        assert_eq!(lines(&mut tail), said(Change::Anew, "ONE TWO"));
        fs::rename(&path, dir.path().join("f.1")).unwrap();
        assert_eq!(lines(&mut tail), said(Change::Missing, ""));
        fs::write(&path, "ONE\nTWO\nTHREE\n").unwrap();
        assert_eq!(lines(&mut tail), said(Change::Anew, "ONE TWO THREE"));
        assert_eq!(lines(&mut tail), said(Change::Grown, ""));
    }

    #[test]
    fn the_last_lines_are_found_and_half_a_line_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let long = "x".repeat(3 << 19);
        fs::write(&path, format!("one\n{long}\n{long}\nfour\n\nfi")).unwrap();
        let last = |count: usize| lines(&mut Tail::from_last(&path, count).unwrap()).1.replace(&long, "long");
        assert_eq!(
            [0, 1, 2, 3, 4, 5, 6].map(last),
            ["", "", "four ", "long four ", "long long four ", "one long long four ", "one long long four "]
        );
        let mut tail = Tail::from_last(&path, 1).unwrap();
        assert_eq!(lines(&mut tail), said(Change::Grown, ""));
        File::options().append(true).open(&path).unwrap().write_all(b"ve\n").unwrap();
        assert_eq!(lines(&mut tail), said(Change::Grown, "five"));
        fs::write(&path, "half").unwrap();
        assert_eq!([0, 3].map(last), ["", ""]);
        let mut missing = Tail::from_last(&dir.path().join("g"), 3).unwrap();
        assert_eq!(lines(&mut missing), said(Change::Missing, ""));
    }
}
