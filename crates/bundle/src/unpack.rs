//! Unpacking what was verified and admitted: into a directory beside the target, which then gets its name.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use rustix::fs::statvfs;
use sirocco_custody::Custody;
use sirocco_files::replace::{directory, new_file, sync_directory};
use sirocco_files::staging::Staging;
use sirocco_policy::{Admitted, verb};
use sirocco_signing::oms;

use crate::error::{BundleError, io};
use crate::facts::{self, FACTS};
use crate::incoming::Incoming;
use crate::pulse::Pulse;
use crate::read::Bundle;
use crate::record::RECORD;

/// What a file takes besides its bytes, at most: the rest of its last block.
const BLOCK: u64 = 4096;

impl Bundle {
    /// Writes the files of all parts, `bundle.json`, `model.sig` and, where parts have no record of their own, `facts.toml` into the directory
    /// `to`, which is not there yet. The bytes are compared once more while they are written.
    ///
    /// # Errors
    /// [`BundleError::OtherParts`] unless each part was admitted, for this bundle; [`BundleError::Exists`], [`BundleError::DiskFull`]; a bundle
    /// that was changed meanwhile. Nothing is left.
    pub fn unpack(
        &self,
        to: &Path,
        admitted: &[Admitted<verb::Import, Incoming>],
        custody: &Custody,
        pulse: &mut Pulse<'_>,
    ) -> Result<(), BundleError> {
        let parts = &self.record().parts;
        let target = target(to)?;
        let is_admitted = |place: &str| {
            let mut things = admitted.iter().map(Admitted::thing);
            things.any(|thing| thing.bundle == self.digest() && thing.path == target.join(place))
        };
        let found = parts.iter().filter(|part| is_admitted(&part.place)).count();
        if found != parts.len() {
            return Err(BundleError::OtherParts { path: self.path.clone(), found, expected: parts.len() });
        }
        let around = BLOCK.saturating_mul(self.record().files().count() as u64 + 3);
        let small = (self.text.len() as u64).saturating_mul(2).saturating_add(self.signature.len() as u64);
        let needed = self.record().bytes().unwrap_or(u64::MAX);
        expect_room(directory(&target), needed.saturating_add(around).saturating_add(small))?;
        let facts = facts::text(self.record(), self.signer(), &target, custody.gate().facts());
        let facts = facts.map_err(|error| io("write", &target.join(FACTS))(std::io::Error::other(error)))?;

        let staging = Staging::create(&target)?;
        self.write(staging.path(), pulse)?;
        let whole = [
            (RECORD, Some(self.text.as_slice())),
            (oms::FILE, Some(&self.signature)),
            (FACTS, facts.as_deref().map(str::as_bytes)),
        ];
        for (name, bytes) in whole {
            bytes.map_or(Ok(()), |bytes| new_file(&staging.path().join(name), bytes, 0o644))?;
        }
        Ok(staging.publish()?)
    }

    /// Every file of every part below `root`.
    fn write(&self, root: &Path, pulse: &mut Pulse<'_>) -> Result<(), BundleError> {
        let mut open: Option<(PathBuf, File)> = None;
        let mut made = PathBuf::new();
        self.files(pulse, |file, chunk| {
            if open.is_none() {
                let path = root.join(&file.name);
                let folder = directory(&path);
                if folder != made {
                    fs::create_dir_all(folder).map_err(io("create", folder))?;
                    made = folder.to_owned();
                }
                // Nothing is there: names differ, and no link was made.
                let new = OpenOptions::new().write(true).create_new(true).open(&path).map_err(io("create", &path))?;
                open = Some((path, new));
            }
            let Some((path, into)) = &mut open else { return Ok(()) };
            if let Some(chunk) = chunk {
                return into.write_all(chunk).map_err(io("write", path));
            }
            into.sync_all().map_err(io("sync", path))?;
            sync_directory(directory(path))?;
            open = None;
            Ok(())
        })
    }
}

/// The place of a directory that is to be made, in one that is there; absolute, with links resolved.
pub(crate) fn target(to: &Path) -> Result<PathBuf, BundleError> {
    let exists = || BundleError::Exists { path: to.to_owned() };
    let name = to.file_name().ok_or_else(exists)?;
    if fs::symlink_metadata(to).is_ok() {
        return Err(exists());
    }
    let folder = directory(to);
    Ok(fs::canonicalize(folder).map_err(io("list", folder))?.join(name))
}

/// Refuses to begin where there is no room for the end.
pub(crate) fn expect_room(folder: &Path, needed: u64) -> Result<(), BundleError> {
    let found = statvfs(folder).map_err(|error| io("read", folder)(error.into()))?;
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    if free < needed { Err(BundleError::DiskFull { path: folder.to_owned(), free, needed }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_and_place_are_looked_at_before_anything_is_written() {
        let folder = tempfile::tempdir().unwrap();
        assert!(expect_room(folder.path(), 1).is_ok());
        assert!(matches!(expect_room(folder.path(), u64::MAX), Err(BundleError::DiskFull { .. })));
        assert!(target(&folder.path().join("new")).is_ok());
        for bad in [folder.path().to_owned(), folder.path().join("no/where"), PathBuf::from("/"), folder.path().join("..")] {
            assert!(target(&bad).is_err(), "{}", bad.display());
        }
        std::os::unix::fs::symlink("nowhere", folder.path().join("link")).unwrap();
        assert!(matches!(target(&folder.path().join("link")), Err(BundleError::Exists { .. })));
    }
}
