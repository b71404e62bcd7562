//! A directory that holds runs, as a sweep leaves one: `runs/NAME/0000`, `0001`, … and `sweep.toml`.
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::failure::{Failure, Kind};

/// What a sweep was made of.
pub(crate) const SWEEP_FILE: &str = "sweep.toml";

/// One of the runs in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    /// As typed.
    pub(crate) path: PathBuf,
    /// The name of its directory.
    pub(crate) label: String,
    /// What it has to itself, without the names of sections: `learning_rate=1e-4 rank=8`; empty where nobody wrote that down.
    pub(crate) settings: String,
}

/// Whether a directory holds a run.
pub(crate) fn is_run(path: &Path) -> bool {
    path.join("run.toml").is_file()
}

/// The run directories in a directory, in the order of their names.
pub(crate) fn runs_in(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut runs: Vec<PathBuf> = fs::read_dir(path)?.flatten().map(|entry| entry.path()).filter(|path| is_run(path)).collect();
    runs.sort();
    Ok(runs)
}

/// The runs that a typed directory holds; none where it is a run itself, or holds no runs: whoever reads it as a run says so.
pub(crate) fn members(path: &Path) -> Result<Vec<Member>, Failure> {
    if is_run(path) || !path.is_dir() {
        return Ok(Vec::new());
    }
    let runs =
        runs_in(path).map_err(|error| Failure::new(Kind::Failed, format_args!("{}: cannot be read: {error}", path.display())))?;
    let settings = settings(path);
    let member = |path: PathBuf| {
        let label = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Member { settings: settings.get(&label).cloned().unwrap_or_default(), label, path }
    };
    Ok(runs.into_iter().map(member).collect())
}

/// By the name of the run. A file that is damaged or not there costs only these words.
fn settings(path: &Path) -> BTreeMap<String, String> {
    let text = fs::read_to_string(path.join(SWEEP_FILE)).unwrap_or_default();
    // As sirocco submit writes it, a run's settings stand on one line, and in JSON.
    let point = |line: &str| {
        let (run, settings) = line.split_once(" = ")?;
        Some((run.to_owned(), serde_json::from_str::<Vec<String>>(settings).ok()?))
    };
    let points = text.lines().filter_map(point);
    let short = |setting: &String| {
        let (name, value) = setting.split_once('=').unwrap_or((setting, ""));
        format!("{}={value}", name.rsplit('.').next().unwrap_or(name))
    };
    points.map(|(run, point)| (run, point.iter().map(short).collect::<Vec<_>>().join(" "))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sweep_is_its_runs_with_what_each_has_to_itself() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(members(dir.path()).unwrap(), []);
        assert_eq!(members(&dir.path().join("nothing")).unwrap(), []);
        for name in ["0001", "0000", "logs"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        for name in ["0001", "0000"] {
            fs::write(dir.path().join(name).join("run.toml"), "").unwrap();
        }
        let said = || -> Vec<(String, String)> {
            members(dir.path()).unwrap().into_iter().map(|member| (member.label, member.settings)).collect()
        };
        let named = |number: &str, settings: &str| (number.to_owned(), settings.to_owned());
        assert_eq!(said(), [named("0000", ""), named("0001", "")]);
        let text =
            "# A sweep\n0000 = [\"train.learning_rate=1e-4\",\"seed=1\"]\n0001 = [\"train.learning_rate=2e-4\",\"seed=1\"]\n";
        fs::write(dir.path().join(SWEEP_FILE), text).unwrap();
        assert_eq!(said(), [named("0000", "learning_rate=1e-4 seed=1"), named("0001", "learning_rate=2e-4 seed=1")]);
        fs::write(dir.path().join(SWEEP_FILE), "0000 = [").unwrap();
        assert_eq!(said().len(), 2);
        fs::write(dir.path().join("run.toml"), "").unwrap();
        assert_eq!(members(dir.path()).unwrap(), []);
    }
}
