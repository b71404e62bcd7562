//! The keys that sign: one pair for what is published, one for ledgers.
//!
//! ```text
//! KEYS/release.key, release.pub      ECDSA on P-256, PEM: model.sig, provenance
//! KEYS/roles.json                     what the public half may sign where this directory is trusted: checkpoints and exports
//! KEYS/ledger/log, log.pub            Ed25519, a line of text: the checkpoints of ledgers
//! ```

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use sirocco_files::replace;
use sirocco_ledger::disk::{create_keys, read_private_key};
use sirocco_ledger::key::{KeyType, SignerKey};
use sirocco_ledger::tlog_proof::CHECKPOINT;
use sirocco_signing::Error;
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

    /// Makes both pairs in a directory, mode 700, that is not there or is empty. It appears whole: a kill or a full disk leaves at most a
    /// hidden directory beside it, `.NAME.….unfinished`, whose keys nothing has used. Nothing is replaced.
    ///
    /// # Errors
    /// A directory with something in it; one that cannot be made or given its name.
    pub fn create(path: &Path, owner: &str) -> Result<Keys, CustodyError> {
        match make(path, owner)? {
            Some(place) => Keys::read(&place).map(|keys| Keys { path: path.to_owned(), ..keys }),
            None => Err(in_the_way(path)),
        }
    }

    /// Reads both pairs; where there is none of either, makes them first. `true`: they were made now.
    ///
    /// # Errors
    /// Those of [`read`](Self::read) and [`create`](Self::create).
    pub fn read_or_create(path: &Path, owner: &str) -> Result<(Keys, bool), CustodyError> {
        if !is_empty(path)? {
            return Ok((Keys::read(path)?, false));
        }
        // Where another command was quicker, its keys are there whole. The directory may be another one by now: `.` names the old one.
        match make(path, owner)? {
            Some(place) => Ok((Keys::read(&place)?, true)),
            None => Ok((Keys::read(path)?, false)),
        }
    }

    /// The same for keys that are to seal ledgers. None are made where one of those was sealed before: they could not go on with it, and
    /// whoever has lost the old ones has to hear of it.
    ///
    /// # Errors
    /// Those of [`read_or_create`](Self::read_or_create); [`CustodyError::KeysGone`].
    pub fn for_ledgers(path: &Path, ledgers: &[PathBuf], owner: &str) -> Result<(Keys, bool), CustodyError> {
        let sealed = ledgers.iter().find(|ledger| ledger.join(CHECKPOINT).exists());
        match sealed {
            Some(ledger) if is_empty(path)? => Err(CustodyError::KeysGone { path: path.to_owned(), ledger: ledger.clone() }),
            _ => Keys::read_or_create(path, owner),
        }
    }

    /// Whose signatures a run believes: the keys in `directory` if there is one, or else those that sign here; above both, the machine's.
    ///
    /// # Errors
    /// Those of [`believed`](crate::trust::believed).
    pub fn trust(&self, directory: Option<&Path>) -> Result<Trust, CustodyError> {
        crate::trust::believed(directory.unwrap_or(&self.path))
    }

    /// Refuses keys whose checkpoints would not be believed; `named` is where `trust` was read.
    ///
    /// # Errors
    /// [`CustodyError::NotBelieved`].
    pub fn expect_believed(&self, trust: &Trust, named: &Path) -> Result<(), CustodyError> {
        let believed = trust.with_role(role::CHECKPOINT).is_ok_and(|keys| keys.get(&self.public().fingerprint()).is_some());
        let not = || CustodyError::NotBelieved { trust: named.to_owned(), keys: self.path.clone() };
        believed.then_some(()).ok_or_else(not)
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

/// Whether a directory is not there, or has nothing in it.
fn is_empty(path: &Path) -> Result<bool, CustodyError> {
    match std::fs::read_dir(path) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(true),
        Err(error) => Err(io("list", path)(error)),
    }
}

/// Makes both pairs beside the place and gives them its name; where that is. Nothing: there is something at the place already.
fn make(path: &Path, owner: &str) -> Result<Option<PathBuf>, CustodyError> {
    let private = |path: &Path| std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io("create", path));
    // What is there may be a link to an empty directory, or `.`: neither can be renamed over by that name.
    let place = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    private(replace::directory(&place))?;
    let beside = Beside::create(&place)?;
    let ledger = beside.0.join(LEDGER);
    private(replace::directory(&ledger))?;
    PrivateKey::generate()?.write_pair(&beside.0, RELEASE)?;
    let roles = serde_json::json!({RELEASE: [role::CHECKPOINT, role::RELEASE]}).to_string();
    replace::new_file(&beside.0.join(ROLES), roles.as_bytes(), 0o644)?;
    create_keys(&ledger, owner, KeyType::Ed25519)?;
    replace::sync_directory(replace::directory(&ledger))?;
    replace::sync_directory(&beside.0)?;
    // rename(2): an empty directory is replaced, any other is left alone.
    match std::fs::rename(&beside.0, &place) {
        Ok(()) => {}
        Err(error) if matches!(error.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists) => return Ok(None),
        Err(error) => return Err(io("make the keys' directory", &place)(error)),
    }
    replace::sync_directory(replace::directory(&place))?;
    Ok(Some(place))
}

/// A directory that is still to get its name. Dropped before that, it is removed with all that is in it.
struct Beside(PathBuf);

impl Beside {
    fn create(place: &Path) -> Result<Beside, CustodyError> {
        let name = place.file_name().unwrap_or_default().to_string_lossy();
        // A shared home has processes of many machines, and their numbers meet.
        let other = format!(".{name}.{:016x}.unfinished", RandomState::new().build_hasher().finish());
        let beside = replace::directory(place).join(other);
        std::fs::DirBuilder::new().mode(0o700).create(&beside).map_err(io("create", &beside))?;
        Ok(Beside(beside))
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        // Renamed by now, or left by an error that is on its way.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The error of a place that has something in it: keys, or what is none.
fn in_the_way(path: &Path) -> CustodyError {
    let keys = ["release.key", "release.pub", LEDGER].map(|name| path.join(name));
    let error = match keys.into_iter().find(|key| key.exists()) {
        Some(path) => Error::KeyExists { path },
        None => Error::BadTrust {
            path: path.to_owned(),
            found: "a directory with other files in it".to_owned(),
            expected: "no directory, or an empty one: keys have one to themselves",
        },
    };
    error.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> usize {
        std::fs::read_dir(folder).unwrap().count()
    }

    #[test]
    fn many_first_commands_at_once_make_one_pair_of_each_and_all_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("home/keys");
        let found: Vec<(Keys, bool)> = std::thread::scope(|scope| {
            let first = || Keys::read_or_create(&path, "amal").unwrap();
            let all: Vec<_> = (0..8).map(|_| scope.spawn(first)).collect();
            all.into_iter().map(|one| one.join().unwrap()).collect()
        });
        assert_eq!(found.iter().filter(|(_, made)| *made).count(), 1);
        assert!(found.iter().all(|(keys, _)| keys.public().pem() == found[0].0.public().pem()));
        assert_eq!(names(&folder.path().join("home")), 1, "nothing is left beside them");
    }

    #[test]
    fn an_empty_directory_becomes_theirs_and_any_other_stays_as_it_is() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let (empty, full, link) = (folder.path().join("empty"), folder.path().join("full"), folder.path().join("link"));
        std::fs::create_dir(&empty).unwrap();
        std::os::unix::fs::symlink(&empty, &link).unwrap();
        // What a killed command left is nobody's.
        std::fs::create_dir(folder.path().join(".empty.0.unfinished")).unwrap();
        assert!(Keys::read_or_create(&link, "amal").unwrap().1);
        assert_eq!(std::fs::metadata(&empty).unwrap().permissions().mode() & 0o777, 0o700);
        std::fs::create_dir(&full).unwrap();
        std::fs::write(full.join("notes"), "").unwrap();
        let error = Keys::create(&full, "amal").unwrap_err().to_string();
        assert!(error.contains("other files in it") && names(&full) == 1, "{error}");
        let error = Keys::create(&empty, "amal").unwrap_err();
        assert!(matches!(error, CustodyError::Signing(Error::KeyExists { .. })), "{error}");
        assert_eq!(names(folder.path()), 4, "nothing else is left beside them");
    }

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
    fn a_lost_key_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        Keys::create(&path, "amal").unwrap();
        std::fs::remove_file(path.join("release.key")).unwrap();
        let error = Keys::read_or_create(&path, "amal").unwrap_err().to_string();
        assert!(error.contains("release.key"), "{error}");
    }

    #[test]
    fn lost_keys_are_not_replaced_where_a_ledger_was_sealed_with_them() {
        let folder = tempfile::tempdir().unwrap();
        let (path, ledger) = (folder.path().join("keys"), folder.path().join("ledger"));
        std::fs::create_dir(&ledger).unwrap();
        let read = || Keys::for_ledgers(&path, &[folder.path().join("none"), ledger.clone()], "amal");
        assert!(read().unwrap().1, "a ledger that was not sealed takes any key");
        std::fs::write(ledger.join(CHECKPOINT), "").unwrap();
        assert!(!read().unwrap().1);
        std::fs::remove_dir_all(&path).unwrap();
        let error = read().unwrap_err();
        assert!(matches!(error, CustodyError::KeysGone { .. }), "{error}");
        assert!(!path.exists());
    }
}
