//! The files of what will be packed, with sizes and digests: each read once, from its beginning to its end.

use std::fs;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use sirocco_files::{BareDigest, Digester, read};
use sirocco_signing::manifest::ALWAYS_IGNORED;

use crate::error::{BundleError, io};
use crate::pulse::{Pulse, beat};

/// Bytes that are read at a time.
pub(crate) const CHUNK: usize = 1 << 18;
/// What can be packed, in words.
const EXPECTED: &str = "regular files only, without links, each with a name that is UTF-8";

/// A file with what was measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// Its path within the part, with `/`; empty where the part is one file.
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
    pub(crate) sha256: BareDigest,
}

/// Lists a directory and all below it, and measures every file. What signatures always leave out at the top, files of git, is left out.
pub(crate) fn directory(root: &Path, pulse: &mut Pulse<'_>) -> Result<Vec<Found>, BundleError> {
    let mut files = Vec::new();
    let mut open = vec![(root.to_owned(), String::new())];
    while let Some((folder, prefix)) = open.pop() {
        for entry in fs::read_dir(&folder).map_err(io("list", &folder))? {
            let entry = entry.map_err(io("list", &folder))?;
            let (path, kind) = (entry.path(), entry.file_type().map_err(io("read", &entry.path()))?);
            let refused =
                |found: &str| BundleError::NotPacked { path: path.clone(), found: found.to_owned(), expected: EXPECTED };
            let name = entry.file_name().into_string().map_err(|_| refused("a name that is not UTF-8"))?;
            let name = format!("{prefix}{name}");
            if ALWAYS_IGNORED.contains(&name.as_str()) {
                continue;
            }
            if kind.is_dir() {
                open.push((path, name + "/"));
            } else if kind.is_file() {
                files.push(file(&path, name, pulse)?);
            } else {
                return Err(refused(read::kind(kind)));
            }
        }
    }
    files.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(files)
}

/// Measures one file.
pub(crate) fn file(path: &Path, name: String, pulse: &mut Pulse<'_>) -> Result<Found, BundleError> {
    let (source, _) = read::open(path)?;
    let mut digester = Digester::new();
    let bytes = chunks((path, path.display().to_string().as_str()), source, pulse, |chunk| {
        digester.update(chunk);
        Ok(())
    })?;
    Ok(Found { name, path: path.to_owned(), bytes, sha256: digester.finish().into() })
}

/// Hands over everything that a file holds, piece by piece; how many bytes that were.
pub(crate) fn chunks(
    (path, shown): (&Path, &str),
    mut source: impl Read,
    pulse: &mut Pulse<'_>,
    mut take: impl FnMut(&[u8]) -> Result<(), BundleError>,
) -> Result<u64, BundleError> {
    let (mut buffer, mut bytes) = (vec![0; CHUNK], 0_u64);
    loop {
        let got = match source.read(&mut buffer) {
            Ok(0) => return Ok(bytes),
            Ok(got) => got,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(io("read", path)(error)),
        };
        take(buffer.get(..got).unwrap_or_default())?;
        bytes = bytes.saturating_add(got as u64);
        beat(pulse, shown, got)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pulse::silent;

    #[test]
    fn a_directory_is_listed_in_the_order_of_names() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b", "a/c", "a/b/d", ".gitignore"] {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, name).unwrap();
        }
        let files = directory(folder.path(), &mut silent).unwrap();
        assert_eq!(files.iter().map(|file| file.name.as_str()).collect::<Vec<_>>(), ["a/b/d", "a/c", "b"]);
        assert_eq!((files[1].bytes, files[1].sha256), (3, BareDigest::of(b"a/c")));
        std::os::unix::fs::symlink("b", folder.path().join("link")).unwrap();
        let error = directory(folder.path(), &mut silent).unwrap_err().to_string();
        assert!(error.contains("link: found a symbolic link"), "{error}");
    }

    #[test]
    fn whoever_watches_can_break_off() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, vec![0; 3 * CHUNK]).unwrap();
        let mut seen = 0;
        let stopped = file(&path, "a".to_owned(), &mut |_, bytes| {
            seen += bytes;
            if seen > CHUNK as u64 { std::ops::ControlFlow::Break(()) } else { std::ops::ControlFlow::Continue(()) }
        });
        assert!(matches!(stopped, Err(BundleError::Stopped)) && seen == 2 * CHUNK as u64);
    }
}
