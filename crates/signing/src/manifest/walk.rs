//! The files of a directory that a signature covers, in the order of their names.

use std::collections::BTreeSet;
use std::fs::{self, DirEntry, FileType};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result, io_error};
use crate::manifest::ALWAYS_IGNORED;

/// A regular file.
pub(super) struct Found {
    /// Path relative to the root, with `/`.
    pub(super) name: String,
    /// Where it lies.
    pub(super) path: PathBuf,
    /// Bytes when it was listed.
    pub(super) size: u64,
}

/// What a directory holds.
#[derive(Default)]
pub(super) struct Listing {
    /// The files that are covered, by name.
    pub(super) files: Vec<Found>,
    /// What is there and left out; a directory ends with `/`. Not the signature itself.
    pub(super) uncovered: Vec<String>,
    /// Links that lead out of the directory.
    pub(super) outside: Vec<String>,
}

/// Which paths are left out.
pub(super) struct Ignored {
    listed: BTreeSet<String>,
    own: BTreeSet<String>,
}

impl Ignored {
    /// `listed` and those that are always left out; `own` besides, without a word about it.
    pub(super) fn new(listed: &[String], own: &[String]) -> Self {
        let always = ALWAYS_IGNORED.iter().map(|name| (*name).to_owned());
        Self { listed: listed.iter().cloned().chain(always).collect(), own: own.iter().cloned().collect() }
    }

    /// Looks at signed files although they lie where others are left out: the reference can be told to sign `.gitattributes`.
    pub(super) fn but_for<'a>(mut self, signed: impl Iterator<Item = &'a str>) -> Self {
        for file in signed {
            let ends = file.match_indices('/').map(|(at, _)| at).chain([file.len()]);
            for entry in ends.filter_map(|end| file.get(..end)) {
                self.listed.remove(entry);
            }
        }
        self
    }
}

/// Lists a directory and all below it.
pub(super) fn list(root: &Path, ignored: &Ignored, follow_links: bool) -> Result<Listing> {
    if !fs::metadata(root).map_err(io_error("list", root))?.is_dir() {
        return Err(Error::NotADirectory { path: root.to_owned() });
    }
    let inside = root.canonicalize().map_err(io_error("list", root))?;
    let mut listing = Listing::default();
    let mut open = vec![(root.to_owned(), String::new())];
    while let Some((folder, prefix)) = open.pop() {
        for entry in fs::read_dir(&folder).map_err(io_error("list", &folder))? {
            let entry = entry.map_err(io_error("list", &folder))?;
            let (path, kind) = (entry.path(), entry.file_type().map_err(io_error("list", &entry.path()))?);
            let name = format!("{prefix}{}", text_of(&entry, &path)?);
            if ignored.own.contains(&name) && !kind.is_dir() {
                continue;
            }
            if ignored.listed.contains(&name) {
                listing.uncovered.push(if kind.is_dir() { name + "/" } else { name });
            } else if kind.is_dir() {
                open.push((path, name + "/"));
            } else {
                if kind.is_symlink() && leads_outside(&path, &inside, follow_links)? {
                    listing.outside.push(name.clone());
                }
                let size = size_of(&path, kind)?;
                listing.files.push(Found { name, path, size });
            }
        }
    }
    listing.files.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    listing.uncovered.sort_unstable();
    listing.outside.sort_unstable();
    Ok(listing)
}

/// A name as text: one that is not UTF-8 cannot stand in a signature (section 6.1.2).
fn text_of(entry: &DirEntry, path: &Path) -> Result<String> {
    entry.file_name().into_string().map_err(|_| Error::BadFile {
        path: path.to_owned(),
        found: "a name that is not UTF-8".to_owned(),
        expected: "a name that can be written into a signature",
    })
}

/// Checks a link, and says whether it leads out of the directory.
fn leads_outside(path: &Path, inside: &Path, follow_links: bool) -> Result<bool> {
    let bad = |found: &str, expected| Error::BadFile { path: path.to_owned(), found: found.to_owned(), expected };
    if !follow_links {
        return Err(bad("a symbolic link", "a regular file: links are only followed where the signature says so"));
    }
    let target = path.canonicalize().map_err(|error| match error.kind() {
        ErrorKind::NotFound => bad("a symbolic link that leads nowhere", "a link to a file"),
        _ => io_error("follow", path)(error),
    })?;
    if target.is_dir() {
        return Err(bad("a symbolic link to a directory", "a link to a file"));
    }
    Ok(!target.starts_with(inside))
}

/// Bytes of a regular file, where links have been dealt with; anything else is an error.
fn size_of(path: &Path, kind: FileType) -> Result<u64> {
    let metadata = fs::metadata(path).map_err(io_error("read", path))?;
    if metadata.is_file() {
        return Ok(metadata.len());
    }
    let what = if kind.is_symlink() { "a link to a pipe, socket or device" } else { "a pipe, socket or device" };
    Err(Error::BadFile { path: path.to_owned(), found: what.to_owned(), expected: "a regular file" })
}
