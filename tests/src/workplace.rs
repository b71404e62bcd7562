//! A directory with a tiny model, data and a run file, and the commands that tests give there.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::material;
use crate::program::{Finished, Running, command, run};
use crate::steps::{Step, read_steps};

/// A workplace that is removed with its value. Run directories are names in it.
pub struct Workplace(TempDir);

impl Workplace {
    /// One with the tiny model, sixty-four sums and [`material::RUN_FILE`].
    ///
    /// # Panics
    /// When a file cannot be written.
    pub fn new() -> Self {
        let place = TempDir::new().expect("a temporary directory");
        material::workplace(place.path());
        Self(place)
    }

    /// The same with a model whose embedding is also its output.
    ///
    /// # Panics
    /// When a file cannot be written.
    pub fn tied() -> Self {
        let place = Self::new();
        material::tie(&place.path().join("model"));
        place
    }

    /// The same with a model whose checkpoints take longer to write than its steps to compute.
    ///
    /// # Panics
    /// When a file cannot be written.
    pub fn wide() -> Self {
        let place = Self::new();
        material::widen(&place.path().join("model"));
        place
    }

    /// The same with conversations of which no two have equally many tokens and equally many target tokens.
    ///
    /// # Panics
    /// When a file cannot be written.
    #[must_use]
    pub fn with_lengths(self) -> Self {
        std::fs::write(self.path().join("train.jsonl"), material::lengths()).expect("the data");
        self
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// A file of a run.
    pub fn file(&self, run_directory: &str, name: &str) -> PathBuf {
        self.path().join(run_directory).join(name)
    }

    /// Starts `sirocco train RUN…`: `run.toml --dir DIRECTORY` the first time, DIRECTORY alone from then on. Settings are words such as
    /// `parallel.tp=2`; words that begin with `--` are options, with their value in the word behind them.
    pub fn start(&self, run_directory: &str, words: &str) -> Running {
        Running::start(&mut command("sirocco", &self.arguments(run_directory, words), self.path()))
    }

    fn arguments<'a>(&self, run_directory: &'a str, words: &'a str) -> Vec<&'a str> {
        let begun = self.file(run_directory, "run.toml").is_file();
        let mut arguments = if begun { vec!["train", run_directory] } else { vec!["train", "run.toml", "--dir", run_directory] };
        let mut is_value = false;
        for word in words.split_whitespace() {
            let is_option = word.starts_with("--");
            if !is_option && !is_value {
                arguments.push("--set");
            }
            arguments.push(word);
            is_value = is_option;
        }
        arguments
    }

    /// The same, and waits for the end.
    ///
    /// # Panics
    /// When it takes longer than [`crate::program::LIMIT`].
    #[track_caller]
    pub fn train(&self, run_directory: &str, words: &str) -> Finished {
        self.start(run_directory, words).wait(crate::program::LIMIT)
    }

    /// Makes a run directory as [`Workplace::start`] does, without starting ranks in it.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn prepare(&self, run_directory: &str, words: &str) {
        self.train(run_directory, &format!("--until 0 {words}")).expect_code(0);
    }

    /// The same for a run that shall reach its end.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn trained(&self, run_directory: &str, words: &str) -> Vec<Step> {
        self.train(run_directory, words).expect_code(0);
        self.steps(run_directory)
    }

    /// The optimizer steps in a run's metrics.
    ///
    /// # Panics
    /// When there are none.
    #[track_caller]
    pub fn steps(&self, run_directory: &str) -> Vec<Step> {
        read_steps(&self.file(run_directory, "metrics.jsonl"))
    }

    /// The losses of a run's evaluations.
    ///
    /// # Panics
    /// When there are no metrics.
    #[track_caller]
    pub fn held_out_losses(&self, run_directory: &str) -> Vec<f64> {
        let text = std::fs::read_to_string(self.file(run_directory, "metrics.jsonl")).expect("metrics");
        let rows = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        rows.filter_map(|row| row["valid_loss"].as_f64()).collect()
    }

    /// Copies a run directory.
    ///
    /// # Panics
    /// When a file cannot be copied.
    pub fn copy(&self, from: &str, to: &str) {
        copy_directory(&self.path().join(from), &self.path().join(to));
    }

    /// `sirocco export RUN --to TO` with more options; the files it wrote, by name, but for those that tell of this one export: its record,
    /// its statement and its signature.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn export(&self, run_directory: &str, to: &str, options: &[&str]) -> Vec<(String, Vec<u8>)> {
        run("sirocco", &[&["export", run_directory, "--to", to], options].concat(), self.path()).expect_code(0);
        let entries = std::fs::read_dir(self.path().join(to)).expect("the export");
        let file = |path: PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            (name, std::fs::read(path).expect("a file of the export"))
        };
        let mut files: Vec<_> = entries.map(|entry| file(entry.expect("a file of the export").path())).collect();
        let before = files.len();
        files.retain(|(name, _)| !["origin.json", "provenance.intoto.jsonl", "model.sig"].contains(&name.as_str()));
        assert_eq!(before - files.len(), 3, "every export is signed");
        files.sort();
        files
    }

    /// `sirocco eval … --data valid.jsonl --dtype fp32`: the loss over all files.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn loss(&self, model: &[&str]) -> f64 {
        let arguments = [&["eval"], model, &["--data", "valid.jsonl", "--dtype", "fp32", "--json"]].concat();
        let finished = run("sirocco", &arguments, self.path()).expect_code(0);
        let report: serde_json::Value = serde_json::from_str(&finished.stdout).expect("JSON");
        report["total"]["loss"].as_f64().expect("a loss")
    }
}

impl Default for Workplace {
    fn default() -> Self {
        Self::new()
    }
}

fn copy_directory(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory");
    for entry in std::fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy_directory(&from, &to);
        } else {
            std::fs::copy(from, to).expect("a copy");
        }
    }
}
