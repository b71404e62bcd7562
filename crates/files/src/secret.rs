//! Secrets as files: for their owner's eyes only, and wiped from memory after use.

use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

pub use zeroize::Zeroizing;

use crate::replace::{directory, new_file, sync_directory};
use crate::{FilesError, read};

/// The text of a secret of at most `limit` bytes. Every copy that this function makes is wiped.
///
/// # Errors
/// [`FilesError::OthersMayRead`] when group or others have any right on the file, before anything of it is read;
/// [`FilesError::NotRegular`], [`FilesError::TooLarge`], [`FilesError::NotText`], [`FilesError::Io`].
pub fn text(path: &Path, limit: u64) -> Result<Zeroizing<String>, FilesError> {
    let (file, length) = read::open(path)?;
    let mode = file.metadata().map_err(FilesError::io("read", path))?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(FilesError::OthersMayRead { path: path.to_path_buf(), mode });
    }
    let too_large = |found| FilesError::TooLarge { path: path.to_path_buf(), found, limit };
    if length > limit {
        return Err(too_large(length));
    }
    // Room for all that may come, so that no smaller buffer is left behind by a larger one.
    let room = usize::try_from(limit).unwrap_or(usize::MAX).saturating_add(64);
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    let read = file.take(limit.saturating_add(1)).read_to_end(&mut bytes);
    let found = read.map_err(FilesError::io("read", path))? as u64;
    if found > limit {
        return Err(too_large(found));
    }
    let text = std::str::from_utf8(&bytes)
        .map_err(|error| FilesError::NotText { path: path.to_path_buf(), byte: error.valid_up_to() })?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// A new file, and what it will hold.
#[derive(Clone, Copy)]
pub struct New<'a> {
    /// Where it will be.
    pub path: &'a Path,
    /// What it will say.
    pub text: &'a str,
}

/// Writes the two halves of a key as new files: the public one, which anybody may read, before the private one, which only the owner may.
/// So there is no private key whose public half is missing. When it returns both survive a power loss.
///
/// # Errors
/// [`FilesError::Exists`] when either is there; [`FilesError::Io`]. Then neither file was made.
pub fn create_pair(private: New<'_>, public: New<'_>) -> Result<(), FilesError> {
    new_file(public.path, public.text.as_bytes(), 0o644)?;
    new_file(private.path, private.text.as_bytes(), 0o600).inspect_err(|_| {
        // Public halves of keys that do not exist are in the way of the next attempt.
        let _ = std::fs::remove_file(public.path);
    })?;
    sync_directory(directory(public.path))?;
    sync_directory(directory(private.path))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_pair_is_written_public_half_first_and_never_over_another() {
        let folder = tempfile::tempdir().unwrap();
        let (key, public) = (folder.path().join("key"), folder.path().join("key.pub"));
        let write = || create_pair(New { path: &key, text: "secret" }, New { path: &public, text: "public" });
        write().unwrap();
        assert_eq!((&**text(&key, 10).unwrap(), fs::read_to_string(&public).unwrap().as_str()), ("secret", "public"));
        assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o7777, 0o600);
        assert!(matches!(write(), Err(FilesError::Exists(path)) if path == public));
        fs::remove_file(&key).unwrap();
        assert!(matches!(write(), Err(FilesError::Exists(path)) if path == public));
        assert!(!key.exists(), "no private key beside a public one that is not its own");
        fs::remove_file(&public).unwrap();
        fs::write(&key, "another").unwrap();
        assert!(matches!(write(), Err(FilesError::Exists(path)) if path == key));
        assert!(!public.exists() && fs::read(&key).unwrap() == b"another");
    }

    #[test]
    fn a_secret_that_others_may_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        new_file(&path, b"secret", 0o600).unwrap();
        for mode in [0o640, 0o604, 0o620, 0o601] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = text(&path, 10).unwrap_err();
            assert!(matches!(error, FilesError::OthersMayRead { mode: found, .. } if found == mode), "{error}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        assert_eq!(&**text(&path, 10).unwrap(), "secret");
    }

    #[test]
    fn long_files_pipes_and_bytes_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        new_file(&path, b"secret\xff", 0o600).unwrap();
        assert!(matches!(text(&path, 6), Err(FilesError::TooLarge { found: 7, limit: 6, .. })));
        assert!(matches!(text(&path, 7), Err(FilesError::NotText { byte: 6, .. })));
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").args(["-m", "600"]).arg(&pipe).status().unwrap().success());
        assert!(matches!(text(&pipe, 6), Err(FilesError::NotRegular { found: "a pipe", .. })));
    }
}
