//! Where a page may be put, and putting it there whole or not at all.
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use crate::failure::{Failure, Kind};

/// How a page of ours is known: it stands near its beginning.
pub(crate) const MARK: &str = "<meta name=\"generator\" content=\"sirocco report\">";
/// The mark stands before this many bytes.
const NEAR: u64 = 1024;

/// Refuses to put a page over a file that is none of ours.
pub(crate) fn refuse_other_files(path: &Path) -> Result<(), Failure> {
    let shown = path.display();
    if path.is_dir() {
        let message = format!("--to {shown}: is a directory: expected the name of a file");
        return Err(Failure::usage(message).help(format_args!("--to {}", path.join("report.html").display())));
    }
    let mut head = Vec::new();
    let read = File::open(path).and_then(|file| file.take(NEAR).read_to_end(&mut head));
    match read {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Ok(_) if head.is_empty() || String::from_utf8_lossy(&head).contains(MARK) => Ok(()),
        Ok(_) => {
            let message = format!("{shown} is there already and no report of sirocco: expected a new file or an older report");
            Err(Failure::usage(message).help("name another file with --to"))
        }
        Err(error) => Err(Failure::new(Kind::Failed, format_args!("{shown}: cannot be read: {error}"))),
    }
}

/// Puts `bytes` at `path`, in place of what is there.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let temporary = beside(path);
    let write = || -> io::Result<()> {
        let mut file = File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().map_err(|error| {
        // What it leaves would only be in the way; the failure matters more.
        let _ = fs::remove_file(&temporary);
        let failure = Failure::new(Kind::Failed, format_args!("{}: cannot be written: {error}", path.display()));
        failure.help("name a place that can be written with --to, or free some space")
    })
}

/// A hidden name in the same directory, of this process.
fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.partial.{}", std::process::id()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_takes_the_place_of_a_page_and_of_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("report.html");
        refuse_other_files(&path).unwrap();
        replace(&path, format!("<!doctype html>{MARK}").as_bytes()).unwrap();
        refuse_other_files(&path).unwrap();
        fs::write(&path, "my thesis").unwrap();
        assert!(refuse_other_files(&path).unwrap_err().message.contains("no report of sirocco"));
        assert!(refuse_other_files(dir.path()).unwrap_err().message.contains("is a directory"));
        let failure = replace(&dir.path().join("nowhere/report.html"), b"x").unwrap_err();
        assert_eq!(failure.kind, Kind::Failed);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left behind");
    }
}
