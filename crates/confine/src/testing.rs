//! What tests of several modules need.

use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Says of a test that it did not look at something, past the test harness, which keeps what a passing test says to itself.
pub(crate) fn skipped(what: &str, why: &str) {
    let _ = writeln!(std::io::stderr(), "skipped: {what}: {why}");
}

/// A temporary directory for AF_UNIX sockets, whose paths have 107 bytes (unix(7)): elsewhere when the usual place is too long.
pub(crate) fn place_for_sockets() -> tempfile::TempDir {
    let usual = std::env::temp_dir();
    let short = |path: &Path| path.as_os_str().len() <= 40;
    let places = [usual, PathBuf::from("/tmp"), "/var/tmp".into(), "/dev/shm".into()];
    places
        .iter()
        .filter(|path| short(path))
        .find_map(|path| tempfile::tempdir_in(path).ok())
        .expect("a short temporary directory")
}
