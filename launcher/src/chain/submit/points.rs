//! The settings in which the runs of a sweep differ: a grid (`--sweep` more than once) or a list (`--sweep-file`).
use std::fs;
use std::path::Path;

use crate::failure::{Failure, Kind};
use crate::train::several::SWEEP_FILE;

/// Most runs of a sweep: Slurm's `MaxArraySize` is 1001 by default, and each is held open while it is prepared.
const MOST: usize = 500;

/// The settings of each run beyond those of the run file, each `SECTION.KEY=VALUE`; one empty list without a sweep.
pub(crate) fn points(grid: &[String], list: Option<&Path>) -> Result<Vec<Vec<String>>, Failure> {
    let points = match list {
        Some(path) => of_file(path)?,
        None => vec![vec![]],
    };
    let points = grid.iter().try_fold(points, |points, axis| {
        let settings = axis_of(axis)?;
        let with = |point: &Vec<String>| {
            settings.iter().map(|setting| [&point[..], std::slice::from_ref(setting)].concat()).collect::<Vec<_>>()
        };
        let points: Vec<Vec<String>> = points.iter().flat_map(with).collect();
        if points.len() > MOST {
            return Err(Failure::usage(format!("--sweep: more than {MOST} runs: expected at most that many"))
                .help("sweep fewer values at once"));
        }
        Ok(points)
    })?;
    Ok(points)
}

/// `train.learning_rate=1e-4,2e-4` as two settings. Commas between brackets or quotes separate nothing.
fn axis_of(axis: &str) -> Result<Vec<String>, Failure> {
    let expected = || {
        Failure::usage(format!("--sweep {axis}: expected SECTION.KEY=VALUE,VALUE…"))
            .help("for example --sweep train.learning_rate=1e-4,2e-4")
    };
    let (key, values) = axis.split_once('=').ok_or_else(expected)?;
    let (mut depth, mut quoted, mut found) = (0_i64, None, vec![String::new()]);
    for letter in values.chars() {
        match (quoted, letter) {
            (None, '[' | '{') => depth += 1,
            (None, ']' | '}') => depth -= 1,
            (None, '"' | '\'') => quoted = Some(letter),
            (Some(quote), letter) if letter == quote => quoted = None,
            _ => {}
        }
        match letter {
            ',' if depth == 0 && quoted.is_none() => found.push(String::new()),
            letter => found.iter_mut().last().into_iter().for_each(|value| value.push(letter)),
        }
    }
    if found.iter().any(|value| value.trim().is_empty()) {
        return Err(expected());
    }
    Ok(found.iter().map(|value| format!("{}={}", key.trim(), value.trim())).collect())
}

/// A run on each line, its settings between blanks; empty lines and what follows a `#` say nothing.
fn of_file(path: &Path) -> Result<Vec<Vec<String>>, Failure> {
    let shown = path.display();
    let text = fs::read_to_string(path).map_err(|error| Failure::usage(format!("{shown}: {error}")))?;
    let lines =
        text.lines().map(|line| line.split('#').next().unwrap_or_default().split_whitespace().map(str::to_owned).collect());
    let points: Vec<Vec<String>> = lines.filter(|point: &Vec<String>| !point.is_empty()).collect();
    let odd = points.iter().flatten().find(|setting| !setting.contains('='));
    match (points.len(), odd) {
        (_, Some(setting)) => {
            Err(Failure::usage(format!("{shown}: {setting}: expected SECTION.KEY=VALUE, and a run on each line")))
        }
        (0, _) => Err(Failure::usage(format!("{shown}: no settings: expected a run on each line"))),
        (found, _) if found > MOST => Err(Failure::usage(format!("{shown}: {found} runs: expected at most {MOST}"))),
        _ => Ok(points),
    }
}

/// Writes what a sweep is, for people and for `sirocco report`: the settings of each run.
pub(crate) fn write(directory: &Path, points: &[Vec<String>]) -> Result<(), Failure> {
    let mut text = String::from("# A sweep: the settings in which its runs differ. sirocco report compares them.\n");
    for (number, point) in points.iter().enumerate() {
        text.push_str(&format!("{} = {}\n", name(number), serde_json::json!(point)));
    }
    let path = directory.join(SWEEP_FILE);
    fs::write(&path, text)
        .map_err(|error| Failure::new(Kind::Failed, format_args!("{}: cannot be written: {error}", path.display())))
}

/// The directory of a run in its sweep.
pub(crate) fn name(number: usize) -> String {
    format!("{number:04}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grid_is_every_combination() {
        let grid = ["train.learning_rate=1e-4,2e-4".to_owned(), "method.targets=[\"q\",\"v\"],all-linear".to_owned()];
        let found = points(&grid, None).unwrap();
        assert_eq!(found.len(), 4);
        assert_eq!(found[1], ["train.learning_rate=1e-4", "method.targets=all-linear"]);
        assert_eq!(found[2], ["train.learning_rate=2e-4", "method.targets=[\"q\",\"v\"]"]);
        assert_eq!(points(&[], None).unwrap(), [Vec::<String>::new()]);
    }

    #[test]
    fn a_list_is_a_run_on_each_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("points");
        fs::write(&path, "# two\ntrain.learning_rate=1e-4 method.rank=8\n\ntrain.learning_rate=2e-4 # faster\n").unwrap();
        assert_eq!(
            points(&[], Some(&path)).unwrap(),
            [vec!["train.learning_rate=1e-4", "method.rank=8"], vec!["train.learning_rate=2e-4"]]
        );
        for wrong in ["", "method.rank"] {
            fs::write(&path, wrong).unwrap();
            assert!(points(&[], Some(&path)).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn what_is_no_axis_is_refused() {
        for wrong in ["method.rank", "method.rank=", "method.rank=8,", "=,"] {
            assert!(points(&[wrong.to_owned()], None).is_err(), "{wrong}");
        }
        let long = format!("method.rank={}", vec!["8"; MOST + 1].join(","));
        assert!(points(&[long], None).is_err());
    }
}
