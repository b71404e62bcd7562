//! Keys as files: a private one for its owner's eyes only, and the public one beside it.

use std::path::{Path, PathBuf};

use sirocco_files::secret::{self, New};
use zeroize::Zeroizing;

use crate::LedgerError;
use crate::key::{KeyType, SECRET_BYTES, SignerKey, VerifierKey};

/// Longer than any key's line.
const LONGEST: u64 = 4096;

/// Makes a new key: the private half at `path`, access mode 0600, the public half at `path` with `.pub` after it. Neither may exist.
///
/// # Errors
/// [`LedgerError::Malformed`] for the name; [`LedgerError::File`] when a file exists; [`LedgerError::Io`] when one cannot be written. Then
/// there is neither.
pub fn create_keys(path: &Path, name: &str, kind: KeyType) -> Result<VerifierKey, LedgerError> {
    let mut secret = Zeroizing::new([0; SECRET_BYTES]);
    random(path, &mut *secret)?;
    let key = SignerKey::new(name, kind, &secret)?;
    let verifier = key.verifier();
    let mut text = key.secret_text();
    text.push('\n');
    let public = format!("{verifier}\n");
    secret::create_pair(New { path, text: &text }, New { path: &public_path(path), text: &public })?;
    Ok(verifier)
}

/// The path of the public half.
fn public_path(path: &Path) -> PathBuf {
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

/// A file has one line, with a newline or without.
fn line(text: &str) -> &str {
    text.strip_suffix('\n').unwrap_or(text)
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
/// [`LedgerError::KeyReadable`] when group or others have any right on the file; [`LedgerError::File`] when it is no regular file, or longer
/// than a key; [`LedgerError::Malformed`]; [`LedgerError::Io`].
pub fn read_private_key(path: &Path) -> Result<SignerKey, LedgerError> {
    let text = secret::text(path, LONGEST)?;
    SignerKey::parse(line(&text)).map_err(|error| of_file(path, error))
}

/// Reads a public key.
///
/// # Errors
/// [`LedgerError::File`] when it is no regular file, or longer than a key; [`LedgerError::Malformed`]; [`LedgerError::Io`].
pub fn read_verifier_key(path: &Path) -> Result<VerifierKey, LedgerError> {
    let text = sirocco_files::read::text(path, LONGEST)?;
    VerifierKey::parse(line(&text)).map_err(|error| of_file(path, error))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use sirocco_files::FilesError;

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
        assert!(matches!(again, LedgerError::File(FilesError::Exists(_))), "{again}");
        assert_eq!(read_private_key(&path).unwrap().verifier(), verifier, "the key that was there is untouched");
    }

    #[test]
    fn where_the_public_half_cannot_be_written_there_is_no_private_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(public_path(&path), "another").unwrap();
        assert!(create_keys(&path, "w", KeyType::Cosignature).is_err());
        assert!(!path.exists());
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
    fn long_files_and_pipes_are_no_keys() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        create_keys(&path, "w", KeyType::Ed25519).unwrap();
        for file in [&path, &public_path(&path)] {
            let mut text = std::fs::read_to_string(file).unwrap();
            text.extend(std::iter::repeat_n('\n', 5000));
            std::fs::write(file, text).unwrap();
        }
        let long = |error| matches!(error, LedgerError::File(FilesError::TooLarge { limit: LONGEST, .. }));
        assert!(long(read_private_key(&path).unwrap_err()) && long(read_verifier_key(&public_path(&path)).unwrap_err()));
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").args(["-m", "600"]).arg(&pipe).status().unwrap().success());
        let no_file = |error| matches!(error, LedgerError::File(FilesError::NotRegular { .. }));
        assert!(no_file(read_private_key(&pipe).unwrap_err()) && no_file(read_verifier_key(&pipe).unwrap_err()));
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
