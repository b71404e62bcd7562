//! Whose signatures are believed: those of a directory of keys, and above it those of the machine.

use std::path::Path;

use sirocco_signing::trust::Trust;

use crate::error::CustodyError;

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
    if path.is_dir() { Ok(Some(Trust::read(path)?)) } else { Ok(None) }
}
