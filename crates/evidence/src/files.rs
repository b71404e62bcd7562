//! The files of a bundle, wherever they lie: a directory or a tar file.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use sirocco_files::read;
use sirocco_ledger::source::Memory;

use crate::error::{EvidenceError, io, malformed};
use crate::layout::{LEDGER, RECORD};
use crate::tar;

/// No bundle has more files.
const MOST_FILES: usize = 100_000;
/// No bundle has more bytes, and so no file.
const MOST_BYTES: u64 = 1 << 30;

/// Something in a bundle's directory that is no file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Odd {
    /// Where.
    pub file: String,
    /// What it is.
    pub found: String,
}

/// The files, by their paths with `/`.
#[derive(Clone, Debug, Default)]
pub struct Files {
    /// Where they were read.
    pub path: PathBuf,
    /// Their bytes.
    pub files: BTreeMap<String, Vec<u8>>,
    /// What is there besides and cannot be read.
    pub odd: Vec<Odd>,
}

impl Files {
    /// Reads a bundle.
    ///
    /// # Errors
    /// [`EvidenceError::NoBundle`]; a tar file that is none, or has names that lead out of it; more than a bundle may have.
    pub fn read(path: &Path) -> Result<Files, EvidenceError> {
        let about = fs::metadata(path);
        match about {
            Ok(about) if about.is_dir() => Files::of_directory(path),
            Ok(about) if about.is_file() => Files::of_tar(path, &read::bytes(path, MOST_BYTES)?),
            Ok(_) => Err(EvidenceError::NoBundle { path: path.to_owned(), found: "neither file nor directory" }),
            Err(_) => Err(EvidenceError::NoBundle { path: path.to_owned(), found: "nothing" }),
        }
    }

    fn of_directory(root: &Path) -> Result<Files, EvidenceError> {
        let mut bundle = Files { path: root.to_owned(), ..Files::default() };
        let mut total = 0_u64;
        let mut open = vec![(root.to_owned(), String::new())];
        while let Some((folder, prefix)) = open.pop() {
            let mut is_empty = true;
            for entry in fs::read_dir(&folder).map_err(io("list", &folder))? {
                let entry = entry.map_err(io("list", &folder))?;
                is_empty = false;
                let kind = entry.file_type().map_err(io("read", &entry.path()))?;
                let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
                if kind.is_dir() && entry.file_name().to_str().is_some() {
                    open.push((entry.path(), name + "/"));
                } else if !kind.is_file() || entry.file_name().to_str().is_none() {
                    bundle.odd.push(Odd { file: name, found: read::kind(kind).to_owned() });
                } else {
                    let bytes = read::bytes(&entry.path(), MOST_BYTES.saturating_sub(total))?;
                    total = total.saturating_add(bytes.len() as u64);
                    bundle.files.insert(name, bytes);
                }
                bundle.check_count()?;
            }
            // No signature speaks of folders: one that holds nothing says something that nobody signed.
            if is_empty {
                bundle.odd.push(Odd { file: prefix, found: "an empty directory".to_owned() });
            }
        }
        Ok(bundle)
    }

    /// Reads a bundle from the bytes of a tar file; `path` is for messages. A folder around everything is taken off.
    ///
    /// # Errors
    /// Those of [`Files::read`].
    pub fn of_tar(path: &Path, bytes: &[u8]) -> Result<Files, EvidenceError> {
        let members = tar::read(path, bytes)?;
        let around = members.iter().find_map(|(name, _)| name.strip_suffix(RECORD)).unwrap_or_default().to_owned();
        let around = if around.matches('/').count() == 1 { around } else { String::new() };
        let mut bundle = Files { path: path.to_owned(), ..Files::default() };
        for (name, bytes) in members {
            let inner = name.strip_prefix(&around).filter(|inner| is_inside(inner));
            let inner = inner
                .ok_or_else(|| malformed(path, &format!("{name:?}"), "a name that leads elsewhere", "a path in the bundle"))?;
            if bundle.files.insert(inner.to_owned(), bytes).is_some() {
                return Err(malformed(path, &format!("{name:?}"), "the name twice", "each file once"));
            }
            bundle.check_count()?;
        }
        Ok(bundle)
    }

    fn check_count(&self) -> Result<(), EvidenceError> {
        let count = self.files.len() + self.odd.len();
        if count <= MOST_FILES {
            return Ok(());
        }
        let (found, limit) = (format!("{count} files"), format!("{MOST_FILES}"));
        Err(EvidenceError::TooLarge { path: self.path.clone(), found, limit })
    }

    /// The bytes of a file, if it is there.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.files.get(name).map(Vec::as_slice)
    }

    /// The files of a folder (with `/` at its end), by their names in it.
    pub fn in_folder<'a>(&'a self, folder: &'a str) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        self.files.iter().filter_map(move |(name, bytes)| Some((name.strip_prefix(folder)?, bytes.as_slice())))
    }

    /// The ledger.
    pub fn ledger(&self) -> Memory {
        Memory(self.in_folder(LEDGER).map(|(name, bytes)| (name.to_owned(), bytes.to_vec())).collect())
    }
}

/// Is this a path that stays where it begins?
fn is_inside(name: &str) -> bool {
    let plain = |part: &str| {
        !part.is_empty() && part != "." && part != ".." && !part.contains(['\\', '\0']) && !part.contains(char::is_control)
    };
    name.split('/').all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tar_of(names: &[&str]) -> Result<Files, EvidenceError> {
        let files = names.iter().map(|name| ((*name).to_owned(), b"x".to_vec())).collect();
        let path = Path::new("b.tar");
        Files::of_tar(path, &tar::write(path, &files).unwrap())
    }

    #[test]
    fn names_that_lead_out_of_a_tar_are_refused() {
        for name in ["../a", "/a", "a/../b", "a//b", "a/./b", "a\\b", "a\nb", ".."] {
            let error = tar_of(&["evidence.json", name]).unwrap_err().to_string();
            assert!(error.contains("leads elsewhere"), "{name}: {error}");
        }
    }

    #[test]
    fn a_folder_around_a_bundle_is_taken_off() {
        let bundle = tar_of(&["demo/evidence.json", "demo/ledger/checkpoint"]).unwrap();
        assert_eq!(bundle.files.keys().collect::<Vec<_>>(), ["evidence.json", "ledger/checkpoint"]);
        assert!(tar_of(&["demo/evidence.json", "other"]).is_err(), "a file beside the folder belongs to nothing");
    }

    #[test]
    fn a_name_twice_is_refused() {
        let path = Path::new("b.tar");
        let one = tar::write(path, &BTreeMap::from([("a".to_owned(), b"1".to_vec())])).unwrap();
        let twice = [&one[..1024], &one[..]].concat();
        assert!(Files::of_tar(path, &twice).unwrap_err().to_string().contains("the name twice"));
    }

    #[test]
    fn links_in_a_directory_are_odd_and_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a"), "1").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", folder.path().join("b")).unwrap();
        let bundle = Files::read(folder.path()).unwrap();
        assert_eq!(bundle.files.len(), 1);
        assert_eq!(bundle.odd, [Odd { file: "b".to_owned(), found: "a symbolic link".to_owned() }]);
    }

    #[test]
    fn nothing_is_no_bundle() {
        assert!(matches!(Files::read(Path::new("/nowhere/b")), Err(EvidenceError::NoBundle { found: "nothing", .. })));
    }
}
