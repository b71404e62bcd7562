//! Whether a node sees the run's files, and has room for what the run writes.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sirocco_checkpoint::ModelDir;
use sirocco_config::{NODES_DIRECTORY, NodeReport, Opened, Run, STAMP, Space, environment};

use super::Fill as _;

/// Bytes of the file that is written.
const BYTES: usize = 4096;

/// A file system shared by many nodes may show a new file a little later.
const LATER: Duration = Duration::from_millis(500);
const AGAIN: Duration = Duration::from_millis(50);

/// What was found in the run directory.
pub(super) struct Found {
    /// That the stamp is there, or why it is not.
    stamp: Result<(), String>,
    /// Seconds of a small write.
    write_s: Result<f64, String>,
}

/// Looks for the stamp, and writes beside it. A run directory that is not there is not made.
pub(super) fn look(directory: &Path, stamp: &str) -> Found {
    let tests = directory.join(NODES_DIRECTORY);
    Found { stamp: find(&tests.join(STAMP), stamp), write_s: write(&tests) }
}

impl Found {
    pub(super) fn enter(self, report: &mut NodeReport) {
        report.stamp = Some(self.stamp.is_ok());
        if let Err(reason) = &self.stamp {
            report.lacks("stamp", reason);
        }
        report.finds("write_s", self.write_s, |report, found| report.write_s = found);
    }
}

fn find(path: &Path, stamp: &str) -> Result<(), String> {
    let begun = Instant::now();
    loop {
        let found = fs::read_to_string(path).map(|text| text.trim() == stamp.trim());
        let reason = match found {
            Ok(true) => return Ok(()),
            Ok(false) => format!("{} says something else than this job has written there", path.display()),
            Err(error) => format!("{}: {error}", path.display()),
        };
        if begun.elapsed() >= LATER {
            return Err(reason);
        }
        std::thread::sleep(AGAIN);
    }
}

/// Writes, syncs, renames and reads a file of this process's own.
fn write(tests: &Path) -> Result<f64, String> {
    let begun = Instant::now();
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = format!("{}-{}", host.trim().replace('/', "-"), std::process::id());
    let (part, whole) = (tests.join(format!("{name}.part")), tests.join(name));
    let written: Vec<u8> = (0..BYTES).map(|at| (at * 31 + std::process::id() as usize) as u8).collect();
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::create(&part)?;
        file.write_all(&written)?;
        file.sync_all()?;
        fs::rename(&part, &whole)?;
        fs::read(&whole)
    };
    let found = read();
    let took = begun.elapsed().as_secs_f64();
    // One of the two is there, or neither.
    let _ = (fs::remove_file(&part), fs::remove_file(&whole));
    match found {
        Ok(found) if found == written => Ok(took),
        Ok(_) => Err(format!("{}: what was written there came back as something else", whole.display())),
        Err(error) => Err(format!("{}: {error}", part.display())),
    }
}

/// What is found once the settings are known.
pub(super) struct Needed {
    space: Vec<(&'static str, PathBuf, Result<u64, String>)>,
    files: Vec<Opened>,
}

/// Room where the run writes, and what every rank opens first.
pub(super) fn look_further(directory: &Path, run: Option<&Run>) -> Needed {
    let short_lived = std::env::var_os(environment::TMPDIR.name).map_or_else(|| PathBuf::from("/tmp"), PathBuf::from);
    let staging = run.and_then(|run| run.checkpoint.staging.clone());
    let mut space = vec![("run", directory.to_owned(), free(directory))];
    let made_when_needed = staging.map(|path| ("staging", path)).into_iter().chain([("tmp", short_lived)]);
    space.extend(made_when_needed.map(|(name, path)| (name, path.clone(), free(there(&path)))));
    Needed { space, files: run.map(|run| files(directory, run)).unwrap_or_default() }
}

impl Needed {
    pub(super) fn enter(self, report: &mut NodeReport) {
        for (name, path, found) in self.space {
            let path = path.display().to_string();
            report.finds(&format!("space.{name}"), found, |report, free_bytes| {
                report.space.insert(name.to_owned(), Space { path, free_bytes });
            });
        }
        report.files = self.files;
    }
}

/// The directory itself, or the nearest above it that exists already.
fn there(path: &Path) -> &Path {
    path.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("/"))
}

/// What the file system of a directory has left, in bytes.
fn free(directory: &Path) -> Result<u64, String> {
    let found = rustix::fs::statvfs(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

fn files(directory: &Path, run: &Run) -> Vec<Opened> {
    let model = ModelDir::open(&run.model.path).err().map(|error| error.to_string());
    let mut files = vec![Opened { path: run.model.path.display().to_string(), error: model }];
    let tokens = |name: &str| directory.join("tokens").join(format!("{name}.tokens"));
    let wanted = [Some(tokens("train")), (!run.data.valid.is_empty()).then(|| tokens("valid"))];
    files.extend(wanted.into_iter().flatten().map(|path| Opened { path: path.display().to_string(), error: begin(&path) }));
    files
}

/// Why the beginning of a file cannot be read.
fn begin(path: &Path) -> Option<String> {
    let mut first = [0; 64];
    match File::open(path).and_then(|mut file| file.read(&mut first)) {
        Ok(0) => Some("it is empty".to_owned()),
        Ok(_) => None,
        Err(error) => Some(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stamp_of_this_start_is_told_from_another_one_and_from_none() {
        let run = tempfile::tempdir().unwrap();
        let tests = run.path().join(NODES_DIRECTORY);
        let reason = |stamp: &str| look(run.path(), stamp).stamp.unwrap_err();
        assert!(reason("7").contains("stamp: No such file"), "{}", reason("7"));
        assert!(look(run.path(), "7").write_s.is_err() && !tests.exists(), "a run directory was made");
        fs::create_dir(&tests).unwrap();
        fs::write(tests.join(STAMP), "7\n").unwrap();
        let found = look(run.path(), "7");
        assert!(found.stamp.is_ok() && found.write_s.unwrap() < 5.0);
        assert!(reason("8").ends_with("says something else than this job has written there"));
        let left: Vec<_> = fs::read_dir(&tests).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, [STAMP], "the test leaves nothing");
    }

    #[test]
    fn a_stamp_that_comes_a_little_later_is_found() {
        let run = tempfile::tempdir().unwrap();
        let path = run.path().join(STAMP);
        let late = path.clone();
        let writer = std::thread::spawn(move || {
            std::thread::sleep(AGAIN * 2);
            fs::write(late, "7").unwrap();
        });
        assert_eq!(find(&path, "7"), Ok(()));
        writer.join().unwrap();
    }

    #[test]
    fn room_is_found_for_directories_that_a_run_makes_and_not_for_a_run_that_is_not_there() {
        let place = tempfile::tempdir().unwrap();
        assert!(free(place.path()).unwrap() > 0);
        assert_eq!(there(&place.path().join("not/yet")), place.path());
        let mut report = NodeReport::default();
        look_further(&place.path().join("nothing"), None).enter(&mut report);
        assert!(report.space["run"].free_bytes.is_none() && report.reasons["space.run"].contains("No such file"));
        assert!(report.space["tmp"].free_bytes.unwrap() > 0 && !report.space.contains_key("staging"));
    }

    #[test]
    fn files_that_cannot_be_read_say_why() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("train.tokens");
        assert!(begin(&path).unwrap().contains("No such file"));
        fs::write(&path, "").unwrap();
        assert_eq!(begin(&path).unwrap(), "it is empty");
        fs::write(&path, "x").unwrap();
        assert_eq!(begin(&path), None);
    }
}
