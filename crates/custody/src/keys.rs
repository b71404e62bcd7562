//! The keys that sign: one pair for what is published, one for ledgers.
//!
//! ```text
//! KEYS/release.key, release.pub      ECDSA on P-256, PEM: model.sig, provenance
//! KEYS/roles.json                     what the public half may sign where this directory is trusted: checkpoints and exports
//! KEYS/ledger/log, log.pub            Ed25519, a line of text: the checkpoints of ledgers
//! ```

use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use sirocco_files::replace;
use sirocco_ledger::disk::{create_keys, read_private_key};
use sirocco_ledger::key::{KeyType, SignerKey};
use sirocco_signing::keys::{PrivateKey, PublicKey};
use sirocco_signing::trust::{ROLES, Trust, role};

use crate::error::{CustodyError, io};

/// The pair that signs what is published, without the endings.
const RELEASE: &str = "release";
/// The pair that signs ledgers.
const LEDGER: &str = "ledger/log";

/// A directory with both pairs.
#[derive(Debug)]
pub struct Keys {
    path: PathBuf,
    /// Signs what is published.
    pub release: PrivateKey,
    /// Signs ledgers.
    pub ledger: SignerKey,
}

impl Keys {
    /// Reads both pairs.
    ///
    /// # Errors
    /// One that is missing, that others may read, or that is no key.
    pub fn read(path: &Path) -> Result<Keys, CustodyError> {
        let release = PrivateKey::read(&path.join(format!("{RELEASE}.key")))?;
        let ledger = read_private_key(&path.join(LEDGER))?;
        Ok(Keys { path: path.to_owned(), release, ledger })
    }

    /// Makes both pairs in a directory, mode 700, which is made if it is not there. Nothing is replaced. A directory of its own is there with
    /// all of them or not at all, however the process ends.
    ///
    /// # Errors
    /// A pair that is there, a directory that cannot be written.
    pub fn create(path: &Path, owner: &str) -> Result<Keys, CustodyError> {
        if !is_empty(path)? {
            fill(path, owner)?;
            return Keys::read(path);
        }
        let above = replace::directory(path);
        private_directory(above)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let half = above.join(format!(".{name}.{}.unfinished", std::process::id()));
        let made = fill(&half, owner).and_then(|()| std::fs::rename(&half, path).map_err(io("create", path)));
        if made.is_err() {
            // The error that is on its way matters more.
            let _ = std::fs::remove_dir_all(&half);
        }
        made?;
        replace::sync_directory(above)?;
        Keys::read(path)
    }

    /// Reads both pairs; where there is none of either, makes them first. `true`: they were made now.
    ///
    /// # Errors
    /// Those of [`read`](Self::read) and [`create`](Self::create).
    pub fn read_or_create(path: &Path, owner: &str) -> Result<(Keys, bool), CustodyError> {
        if !is_empty(path)? {
            return Ok((Keys::read(path)?, false));
        }
        match Keys::create(path, owner) {
            Ok(keys) => Ok((keys, true)),
            // Another command was first.
            Err(_) if path.join(LEDGER).exists() => Ok((Keys::read(path)?, false)),
            Err(error) => Err(error),
        }
    }

    /// Whose signatures a run believes: the keys in `directory` if there is one, or else those that sign here.
    ///
    /// # Errors
    /// A directory without a public key, or with something else in it.
    pub fn trust(&self, directory: Option<&Path>) -> Result<Trust, CustodyError> {
        Ok(Trust::read(directory.unwrap_or(&self.path))?)
    }

    /// Where they lie.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The half that others verify with.
    pub fn public(&self) -> &PublicKey {
        self.release.public()
    }
}

/// Whether nothing is there, or an empty directory.
fn is_empty(path: &Path) -> Result<bool, CustodyError> {
    match std::fs::read_dir(path) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(true),
        Err(error) => Err(io("list", path)(error)),
    }
}

fn private_directory(path: &Path) -> Result<(), CustodyError> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io("create", path))
}

fn fill(path: &Path, owner: &str) -> Result<(), CustodyError> {
    let ledger = path.join(LEDGER);
    private_directory(replace::directory(&ledger))?;
    PrivateKey::generate()?.write_pair(path, RELEASE)?;
    let roles = serde_json::json!({RELEASE: [role::CHECKPOINT, role::RELEASE]}).to_string();
    replace::new_file(&path.join(ROLES), roles.as_bytes(), 0o644)?;
    create_keys(&ledger, owner, KeyType::Ed25519)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_made_once_and_only_for_their_owner() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        let (first, made) = Keys::read_or_create(&path, "amal").unwrap();
        assert!(made);
        let (again, made) = Keys::read_or_create(&path, "amal").unwrap();
        assert!(!made);
        assert_eq!(first.public().pem(), again.public().pem());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        assert!(Keys::create(&path, "amal").is_err());
        assert_eq!(again.path(), path);
    }

    #[test]
    fn what_a_killed_process_left_is_in_nobodys_way() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        std::fs::create_dir(folder.path().join(".keys.1.unfinished")).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(Keys::read_or_create(&path, "amal").unwrap().1);
        std::fs::write(folder.path().join("notes"), "").unwrap();
        // Beside something else, at the wish of who typed it.
        assert!(Keys::create(folder.path(), "amal").is_ok());
    }

    #[test]
    fn several_that_come_first_have_the_same_keys() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        // Of one process: of several, each has a sibling of its own.
        let (first, second) = (Keys::create(&path, "amal").unwrap(), Keys::read_or_create(&path, "amal").unwrap());
        assert_eq!((first.public().pem(), second.1), (second.0.public().pem(), false));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_lost_key_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        Keys::create(&path, "amal").unwrap();
        std::fs::remove_file(path.join("release.key")).unwrap();
        let error = Keys::read_or_create(&path, "amal").unwrap_err().to_string();
        assert!(error.contains("release.key"), "{error}");
    }
}
