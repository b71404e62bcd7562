//! Whose signatures are believed: those of a directory of keys, and above it those of the machine.

use std::io::ErrorKind;
use std::path::Path;

use sirocco_signing::trust::Trust;

use crate::error::{CustodyError, io};

/// The keys that this machine believes. It belongs to whoever runs the machine.
const MACHINE: &str = "/etc/sirocco/trust";

/// Reads a directory of keys. A role that the machine gives to somebody is the machine's to give: who names the directory cannot make an
/// officer of himself.
///
/// # Errors
/// A directory without a public key, or with something else in it; the same for the machine's.
pub fn believed(directory: &Path) -> Result<Trust, CustodyError> {
    let own = Trust::read(directory)?;
    Ok(match by_machine()? {
        Some(machine) => own.under(&machine),
        None => own,
    })
}

/// The keys that this machine believes, if it names any.
///
/// # Errors
/// Those of [`believed`].
pub fn by_machine() -> Result<Option<Trust>, CustodyError> {
    let path = Path::new(MACHINE);
    if is_there(path)? { Ok(Some(Trust::read(path)?)) } else { Ok(None) }
}

/// Whether the machine says something there. A link that leads nowhere, or a directory that cannot be looked into, is no silence.
pub(crate) fn is_there(path: &Path) -> Result<bool, CustodyError> {
    for path in path.parent().into_iter().chain([path]) {
        match std::fs::symlink_metadata(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            _ => std::fs::metadata(path).map_err(io("read", path))?,
        };
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_not_there_says_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        assert!(!is_there(&place("sirocco/trust")).unwrap() && !is_there(&place("trust")).unwrap());
        std::os::unix::fs::symlink(place("gone"), place("sirocco")).unwrap();
        assert!(is_there(&place("sirocco/trust")).is_err() && is_there(&place("sirocco")).is_err());
        std::fs::create_dir(place("trust")).unwrap();
        assert!(is_there(&place("trust")).unwrap() && !is_there(&place("trust/more")).unwrap());
    }
}
