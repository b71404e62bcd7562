//! Keys as files: a private one for its owner's eyes only, and the public one beside it.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use crate::LedgerError;
use crate::disk::files::sync_folder;
use crate::key::{KeyType, SECRET_BYTES, SignerKey, VerifierKey};

/// Longer than any key's line.
const LONGEST: u64 = 4096;

/// Makes a new key: the private half at `path`, access mode 0600, the public half at `path` with `.pub` after it. Neither may exist.
///
/// # Errors
/// [`LedgerError::Malformed`] for the name; [`LedgerError::Io`] when a file exists or cannot be written.
pub fn create_keys(path: &Path, name: &str, kind: KeyType) -> Result<VerifierKey, LedgerError> {
    let mut secret = [0; SECRET_BYTES];
    random(path, &mut secret)?;
    let key = SignerKey::new(name, kind, &secret);
    secret.fill(0);
    let key = key?;
    let verifier = key.verifier();
    let public = public_path(path);
    write(path, &format!("{}\n", key.secret_text()), 0o600)?;
    write(&public, &format!("{verifier}\n"), 0o644)?;
    sync_folder(path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")))?;
    Ok(verifier)
}

/// The path of the public half.
fn public_path(path: &Path) -> std::path::PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".pub");
    name.into()
}

fn random(path: &Path, mut rest: &mut [u8]) -> Result<(), LedgerError> {
    while !rest.is_empty() {
        let flags = rustix::rand::GetRandomFlags::empty();
        let got =
            rustix::rand::getrandom(&mut *rest, flags).map_err(|error| LedgerError::io("make a key for", path, error.into()))?;
        rest = rest.get_mut(got..).unwrap_or_default();
    }
    Ok(())
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), LedgerError> {
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let written = file.and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    written.map_err(|error| LedgerError::io("write", path, error))
}

fn line(path: &Path, file: File) -> Result<String, LedgerError> {
    let mut text = String::new();
    let read = file.take(LONGEST).read_to_string(&mut text);
    read.map_err(|error| LedgerError::io("read", path, error))?;
    Ok(text.strip_suffix('\n').map(str::to_owned).unwrap_or(text))
}

/// A key's error with the file's name.
fn of_file(path: &Path, error: LedgerError) -> LedgerError {
    match error {
        LedgerError::Malformed { what, place, found, expected } => {
            LedgerError::Malformed { what, place: format!("{}, {place}", path.display()), found, expected }
        }
        other => other,
    }
}

/// Reads a private key.
///
/// # Errors
/// [`LedgerError::KeyReadable`] when group or others have any right on the file; [`LedgerError::Malformed`]; [`LedgerError::Io`].
pub fn read_private_key(path: &Path) -> Result<SignerKey, LedgerError> {
    let refused = |error| LedgerError::io("read", path, error);
    let file = File::open(path).map_err(refused)?;
    // The open file is asked, not its name: what is read is what was looked at.
    let mode = file.metadata().map_err(refused)?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(LedgerError::KeyReadable { path: path.to_path_buf(), mode });
    }
    SignerKey::parse(&line(path, file)?).map_err(|error| of_file(path, error))
}

/// Reads a public key.
///
/// # Errors
/// [`LedgerError::Malformed`]; [`LedgerError::Io`].
pub fn read_verifier_key(path: &Path) -> Result<VerifierKey, LedgerError> {
    let file = File::open(path).map_err(|error| LedgerError::io("read", path, error))?;
    VerifierKey::parse(&line(path, file)?).map_err(|error| of_file(path, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_key_is_private_and_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.key");
        let verifier = create_keys(&path, "sirocco.example/runs", KeyType::Ed25519).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(read_private_key(&path).unwrap().verifier(), verifier);
        assert_eq!(read_verifier_key(&folder.path().join("log.key.pub")).unwrap(), verifier);
        let again = create_keys(&path, "sirocco.example/runs", KeyType::Ed25519).unwrap_err();
        assert!(matches!(again, LedgerError::Io { action: "write", .. }), "{again}");
        assert_eq!(read_private_key(&path).unwrap().verifier(), verifier, "the key that was there is untouched");
    }

    #[test]
    fn two_keys_differ() {
        let folder = tempfile::tempdir().unwrap();
        let key = |name: &str| create_keys(&folder.path().join(name), "w", KeyType::Cosignature).unwrap();
        assert_ne!(key("a").public(), key("b").public());
    }

    #[test]
    fn a_private_key_that_others_may_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        create_keys(&path, "w", KeyType::Cosignature).unwrap();
        for mode in [0o640, 0o604, 0o620, 0o601] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let error = read_private_key(&path).unwrap_err();
            assert!(matches!(error, LedgerError::KeyReadable { mode: found, .. } if found == mode), "{error}");
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).unwrap();
        assert!(read_private_key(&path).is_ok());
    }

    #[test]
    fn an_error_names_the_file_and_nothing_of_the_secret() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        create_keys(&path, "w", KeyType::Ed25519).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("+w+", "+x+")).unwrap();
        let error = read_private_key(&path).unwrap_err().to_string();
        let secret = text.trim().rsplit('+').next().unwrap();
        assert!(error.contains(&path.display().to_string()) && !error.contains(secret), "{error}");
    }
}
