//! Which runs are meant: run directories, or a directory of them, as a sweep leaves one.
use std::path::{Path, PathBuf};

use crate::failure::{Failure, Kind};
use crate::train::several::{is_run, runs_in};

/// The runs of a command line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Which {
    /// As typed, or as found; each once.
    pub(crate) runs: Vec<PathBuf>,
    /// Those among them that were found in a directory.
    pub(crate) found: Vec<PathBuf>,
    /// Whether they are compared, even if there is only one yet.
    pub(crate) is_comparison: bool,
    /// Where the page goes unless it is named.
    page: Option<PathBuf>,
}

impl Which {
    /// Where the page goes unless it is named.
    pub(crate) fn page(&self) -> Result<PathBuf, Failure> {
        self.page.clone().ok_or_else(|| {
            let message = "the runs lie in different directories: expected --to, which names the page that compares them";
            Failure::usage(message).help("sirocco report RUN_DIR RUN_DIR --to comparison.html")
        })
    }
}

/// Finds the runs that `typed` means.
pub(crate) fn find(typed: &[PathBuf]) -> Result<Which, Failure> {
    let (mut runs, mut found): (Vec<PathBuf>, Vec<PathBuf>) = (Vec::new(), Vec::new());
    for path in typed {
        let inside = if is_run(path) { Vec::new() } else { inside(path)? };
        found.extend(inside.iter().cloned());
        let meant = if inside.is_empty() { vec![path.clone()] } else { inside };
        // By the place itself: the same run may be typed in two ways.
        let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        for run in meant {
            if !runs.iter().any(|other| real(other) == real(&run)) {
                runs.push(run);
            }
        }
    }
    let page = match typed {
        [one] => Some(one.join("report.html")),
        several => {
            let mut parents = several.iter().map(|path| path.parent().unwrap_or(Path::new("")));
            let first = parents.next();
            first.filter(|first| parents.all(|parent| parent == *first)).map(|parent| parent.join("report.html"))
        }
    };
    Ok(Which { is_comparison: runs.len() > 1 || !found.is_empty(), runs, found, page })
}

/// The run directories in a directory, in the order of their names; none where it holds none, for whoever reads it as a run to say so.
fn inside(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    if !path.is_dir() {
        let what = if path.exists() { "is a file" } else { "is not there" };
        let message = format!("{} {what}: expected a run directory, or a directory of them", path.display());
        return Err(Failure::usage(message).help("sirocco train RUN.toml starts a run, in runs/NAME unless --dir says otherwise"));
    }
    runs_in(path).map_err(|error| Failure::new(Kind::Failed, format_args!("{}: cannot be read: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_sweep_is_its_runs_and_a_run_that_is_typed_twice_is_one() {
        let dir = tempfile::tempdir().unwrap();
        let run = |name: &str| {
            let path = dir.path().join(name);
            fs::create_dir_all(&path).unwrap();
            fs::write(path.join("run.toml"), "").unwrap();
            path
        };
        let (second, first, other) = (run("sweep/0001"), run("sweep/0000"), run("other"));
        fs::write(dir.path().join("sweep/sweep.toml"), "").unwrap();
        let sweep = dir.path().join("sweep");
        let which = find(std::slice::from_ref(&sweep)).unwrap();
        assert_eq!((which.runs.as_slice(), which.is_comparison), ([first.clone(), second.clone()].as_slice(), true));
        assert_eq!(which.page().unwrap(), sweep.join("report.html"));
        let one = find(std::slice::from_ref(&other)).unwrap();
        assert_eq!((one.is_comparison, one.page().unwrap()), (false, other.join("report.html")));
        assert!(!find(&[other.clone(), sweep.join("../other")]).unwrap().is_comparison);
        assert_eq!(find(&[first.clone(), second]).unwrap().page().unwrap(), sweep.join("report.html"));
        assert!(find(&[first, other]).unwrap().page().unwrap_err().message.contains("expected --to"));
        assert!(find(&[dir.path().join("nothing")]).unwrap_err().message.contains("is not there"));
    }
}
