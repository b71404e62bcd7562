//! What a log's files are to others: private, no links, nothing without an end, and no room for what is left of the dead.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use sirocco_files::FilesError;
use sirocco_ledger::LedgerError;
use sirocco_ledger::disk::{Directory, Log};
use sirocco_ledger::source::Source;
use support::{action, author, check, expected, grown, key};
use tempfile::tempdir;

fn all(folder: &Path) -> Vec<PathBuf> {
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { [vec![path.clone()], all(&path)].concat() } else { vec![path] }).collect()
}

#[test]
fn nobody_else_has_any_right_on_a_log() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("runs/log");
    let log = grown(&path, &[10, 300]);
    log.append(&action(0, 300)).unwrap();
    // A torn end, so that there is a file of what was torn.
    let journal = std::fs::read(path.join("journal")).unwrap();
    std::fs::write(path.join("journal"), [&journal, &[1, 2, 3][..]].concat()).unwrap();
    log.append(&action(0, 301)).unwrap();
    let mut seen = 0;
    for path in all(&path).into_iter().chain([path]) {
        let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode, if path.is_dir() { 0o700 } else { 0o600 }, "{}", path.display());
        seen += 1;
    }
    assert!(seen > 12, "{seen}");
}

#[test]
fn links_that_somebody_has_put_in_the_way_are_not_followed() {
    let folder = tempdir().unwrap();
    let (path, other) = (folder.path().join("log"), folder.path().join("other"));
    let log = grown(&path, &[10]);
    std::fs::write(&other, "untouched").unwrap();
    // The name under which unfinished files used to be written, and the files themselves.
    for name in
        [".unfinished-checkpoint", ".unfinished-journal", "tile/entries/000.p/.unfinished-12", "tile/0/000.p/.unfinished-12"]
    {
        symlink(&other, path.join(name)).unwrap();
    }
    symlink(&other, path.join("tile/entries/000.p/12")).unwrap();
    log.append(&action(0, 10)).unwrap();
    log.append(&action(0, 11)).unwrap();
    log.seal(&key()).unwrap();
    assert_eq!(std::fs::read(&other).unwrap(), b"untouched");
    let report = check(&log.directory());
    assert!(report.is_sound() && report.remarks == Default::default(), "what was unfinished is removed: {report:?}");
    for name in ["journal", "lock", "seal.lock"] {
        let kept = folder.path().join("kept");
        std::fs::rename(path.join(name), &kept).unwrap();
        symlink(&kept, path.join(name)).unwrap();
        let Err(error) = Log::open(&path, author()) else { panic!("{name}: opened") };
        assert!(matches!(error, LedgerError::File(FilesError::NotRegular { found: "a symbolic link", .. })), "{name}: {error}");
        std::fs::rename(&kept, path.join(name)).unwrap();
    }
    Log::open(&path, author()).unwrap();
}

#[test]
fn what_has_no_end_or_is_too_long_is_an_error_and_not_waited_for() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("log");
    drop(grown(&path, &[10]));
    for name in ["checkpoint", "journal", "tile/entries/000.p/10", "tile/0/000.p/10"] {
        let kept = folder.path().join("kept");
        std::fs::rename(path.join(name), &kept).unwrap();
        let refused = || match sirocco_ledger::verify::verify(&Directory::new(&path), &expected()) {
            Err(LedgerError::File(error)) => error,
            other => panic!("{name}: {other:?}"),
        };
        assert!(Command::new("mkfifo").arg(path.join(name)).status().unwrap().success());
        assert!(matches!(refused(), FilesError::NotRegular { found: "a pipe", .. }), "{name}");
        std::fs::remove_file(path.join(name)).unwrap();
        symlink("/dev/zero", path.join(name)).unwrap();
        assert!(matches!(refused(), FilesError::NotRegular { found: "a device", .. }), "{name}");
        std::fs::remove_file(path.join(name)).unwrap();
        // Takes no room on the disk.
        std::fs::File::create(path.join(name)).unwrap().set_len(2 << 30).unwrap();
        assert!(matches!(refused(), FilesError::TooLarge { found, .. } if found == 2 << 30), "{name}");
        std::fs::rename(&kept, path.join(name)).unwrap();
    }
    assert!(check(&Directory::new(&path)).is_sound());
    let pipe = path.join("lock");
    std::fs::remove_file(&pipe).unwrap();
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    assert!(matches!(Log::open(&path, author()), Err(LedgerError::File(FilesError::NotRegular { .. }))));
    assert!(Directory::new(&path).read("checkpoint/below").unwrap().is_none());
}
