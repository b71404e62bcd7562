//! A run directory as somebody sees it who only reads: files may be half written, cut off, not there yet or not any more, and each look says what
//! can be said.
use std::fs;
use std::io;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use sirocco_config::{Run, RunFile};

use crate::chain::history::{JobState, current, jobs};
use crate::chain::record::{self, Event};
use crate::plan::peak_tokens_per_s;
use crate::train::directory::RunDirectory;
use crate::train::ended::{End, last_end};
use crate::train::metrics::Record;
use crate::watch::recorded::Recorded;
use crate::watch::shown::{Memory, Shown};
use crate::watch::state::{State, is_done, whole_steps};
use crate::watch::tail::{Change, Tail};

/// What is followed, and what it said so far.
#[derive(Debug)]
pub(crate) struct Source {
    directory: RunDirectory,
    metrics: Tail,
    jobs: Tail,
    recorded: Recorded,
    events: Vec<Event>,
    run: Option<Run>,
    /// When the run file was written that `run` is of.
    run_file: Option<SystemTime>,
    /// Tokens per second at which its devices would be at their peak.
    peak: Option<f64>,
    steps: Option<u64>,
    /// What could not be read at the last look, in words.
    trouble: Option<String>,
}

/// What is new since the last look.
#[derive(Debug, Default)]
pub(crate) struct News {
    pub(crate) records: Vec<Record>,
    pub(crate) warnings: Vec<String>,
    /// The metrics were cut off or replaced: the records are all there are.
    pub(crate) is_anew: bool,
}

impl Source {
    pub(crate) fn new(directory: RunDirectory) -> Source {
        Source {
            metrics: Tail::from_start(&directory.metrics()),
            jobs: Tail::from_start(&directory.path().join(record::FILE)),
            recorded: Recorded::new(),
            events: Vec::new(),
            run: None,
            run_file: None,
            peak: None,
            steps: None,
            trouble: None,
            directory,
        }
    }

    /// Reads what is new. What cannot be read stays as it was, and is told by the next [`Source::shown`].
    pub(crate) fn poll(&mut self) -> News {
        self.trouble = None;
        self.read_run_file();
        self.read_jobs();
        let mut records = Vec::new();
        let change = self.metrics.poll(|line| records.extend(serde_json::from_slice::<Record>(line).ok()));
        let is_anew = self.noted("metrics.jsonl", change) == Some(Change::Anew);
        if is_anew {
            self.recorded = Recorded::new();
        }
        let warnings = records.iter().flat_map(|record| self.recorded.add(record.clone())).collect();
        News { records, warnings, is_anew }
    }

    fn read_jobs(&mut self) {
        let mut events = Vec::new();
        let change = self.jobs.poll(|line| events.extend(serde_json::from_slice::<Event>(line).ok()));
        if self.noted(record::FILE, change) == Some(Change::Anew) {
            self.events.clear();
        }
        self.events.extend(events);
    }

    fn read_run_file(&mut self) {
        let written = fs::metadata(self.directory.run_file()).and_then(|metadata| metadata.modified()).ok();
        if written.is_some() && written != self.run_file {
            // The one that was read before holds until this one can be.
            if let Some(run) = RunFile::read(&self.directory.run_file()).ok().and_then(|file| file.check(Path::new("/")).ok()) {
                self.peak = peak_tokens_per_s(&run);
                (self.run, self.run_file, self.steps) = (Some(run), written, None);
            }
        }
        if self.steps.is_none() {
            self.steps = self.run.as_ref().and_then(|run| whole_steps(run, &self.directory));
        }
    }

    fn last_end(&self, state: Option<State>) -> Option<String> {
        let run = self.run.as_ref().filter(|_| state == Some(State::Stopped))?;
        let End { words, record } = last_end(&self.directory, run.ranks())?;
        Some(format!("{words} ({})", record.display()))
    }

    fn noted<T>(&mut self, file: &str, result: io::Result<T>) -> Option<T> {
        result.map_err(|error| self.trouble = Some(format!("{file} cannot be read: {error}"))).ok()
    }

    /// The run as it is now; `now` in seconds since 1970.
    pub(crate) fn shown(&self, now: f64) -> Shown {
        let Recorded { curve, .. } = &self.recorded;
        let checkpoint = self.directory.newest_checkpoint().ok().flatten();
        let is_done = self.run.as_ref().is_some_and(|run| is_done(run, curve, self.steps, checkpoint));
        let jobs = jobs(self.events.iter().cloned());
        let job = current(&jobs);
        let is_there = self.directory.run_file().is_file();
        let state = is_there.then(|| State::of(self.directory.at_work().is_some(), job, is_done, curve.step()));
        let last = curve.last.as_ref();
        let ends = job.filter(|job| matches!(job.state, JobState::Starting | JobState::Running)).and_then(|job| job.ends);
        let last_end = self.last_end(state.filter(|_| job.is_none()));
        let mut warnings: Vec<String> = self.recorded.warnings.iter().cloned().collect();
        warnings.extend(last_end.clone());
        warnings.extend(self.trouble.clone());
        Shown {
            directory: self.directory.shown().to_string(),
            name: self.run.as_ref().map_or_else(String::new, |run| run.name.clone()),
            state,
            step: curve.step(),
            steps: self.steps,
            loss: curve.last_loss,
            losses: self.recorded.losses.points(),
            held_out: self.recorded.held_out.points(),
            valid_loss: curve.evaluated.zip(curve.last_valid),
            learning_rate: last.and_then(|step| step.learning_rate),
            grad_norm: last.and_then(|step| step.grad_norm),
            tokens_per_s: last.map(|step| step.tokens_per_s),
            share_of_peak: last.zip(self.peak).map(|(step, peak)| step.tokens_per_s / peak),
            memory: last.map(|_| Memory { bytes: curve.on_mesh.peak_memory_bytes, rank: curve.on_mesh.peak_memory_rank }),
            checkpoint,
            next_checkpoint: self.run.as_ref().and_then(|run| self.recorded.next_checkpoint(run, self.steps)),
            run_left: self.run.as_ref().zip(self.steps).and_then(|(run, steps)| self.recorded.left(run, steps)),
            job_left: ends.map(|ends| (ends - now).max(0.0)),
            slowest: last.and_then(|step| step.slowest_rank),
            skipped_steps: curve.skipped_steps,
            last_end,
            silent: changed(&self.directory.metrics()).map(|time| (now - time).max(0.0)),
            warnings,
            jobs,
        }
    }
}

/// When a file was last written to, in seconds since 1970.
pub(crate) fn changed(path: &Path) -> Option<f64> {
    let time = fs::metadata(path).and_then(|metadata| metadata.modified()).ok()?;
    time.duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::history::tests::two_jobs;

    const RUN: &str = "name = 'x'\nmodel.path = 'm'\ndata.train = ['a']\ntrain.steps = 60\ncheckpoint.every_steps = 20\n";

    fn step(number: u64, loss: f64) -> String {
        format!(
            r#"{{"step":{number},"loss":{loss},"tokens":20,"grad_norm":1.5,"learning_rate":0.1,"seconds":2.0,"tokens_per_s":10.0,"peak_memory_bytes":7,"peak_memory_rank":1}}"#
        ) + "\n"
    }

    fn source(path: &Path) -> Source {
        fs::create_dir_all(path.join("logs")).unwrap();
        fs::write(path.join("run.toml"), RUN).unwrap();
        Source::new(RunDirectory::existing(path).unwrap())
    }

    #[test]
    fn a_run_is_followed_from_before_its_first_step() {
        let dir = tempfile::tempdir().unwrap();
        let mut source = source(dir.path());
        source.poll();
        let shown = source.shown(0.0);
        assert_eq!((shown.name.as_str(), shown.state, shown.step, shown.steps), ("x", Some(State::Ready), 0, Some(60)));
        let metrics = dir.path().join("metrics.jsonl");
        fs::write(&metrics, "{\"step\":0,\"valid_loss\":4.5}\n".to_owned() + &step(1, 4.0) + &step(2, 3.5) + "{\"step\":3,\"lo")
            .unwrap();
        assert_eq!(source.poll().records.len(), 3);
        let shown = source.shown(0.0);
        assert_eq!((shown.state, shown.step, shown.loss, shown.run_left), (Some(State::Stopped), 2, Some(3.5), Some(116.0)));
        assert_eq!((shown.losses.len(), shown.held_out.as_slice()), (2, &[(0.0, 4.5)][..]));
        assert_eq!(shown.next_checkpoint.map(|next| (next.step, next.seconds)), Some((20, 36.0)));
        assert_eq!(
            (shown.memory.and_then(|memory| memory.rank), shown.grad_norm, shown.share_of_peak),
            (Some(1), Some(1.5), None)
        );
    }

    #[test]
    fn metrics_that_are_cut_off_take_their_steps_with_them() {
        let dir = tempfile::tempdir().unwrap();
        let mut source = source(dir.path());
        let metrics = dir.path().join("metrics.jsonl");
        fs::write(&metrics, step(1, 4.0) + &step(2, 3.5) + &step(3, 3.0)).unwrap();
        assert!(!source.poll().is_anew);
        fs::write(&metrics, step(1, 4.0) + &step(2, 3.25)).unwrap();
        let news = source.poll();
        assert!(news.is_anew && news.records.len() == 2, "{news:?}");
        let shown = source.shown(0.0);
        assert_eq!((shown.step, shown.loss, shown.losses.len()), (2, Some(3.25), 2));
    }

    #[test]
    fn files_that_vanish_or_hold_something_else_are_survived() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run");
        let mut source = source(&path);
        fs::write(path.join("metrics.jsonl"), b"\xff\xfe\n[]\n{\"step\":\"two\"}\n\n").unwrap();
        fs::write(path.join("jobs.jsonl"), "{\"time\":1,\"job\":\"7\",\"event\":\"of a later version\"}\nnothing\n").unwrap();
        source.poll();
        assert_eq!((source.shown(0.0).step, source.shown(0.0).jobs.len()), (0, 0));
        fs::write(path.join("run.toml"), "not = [toml").unwrap();
        source.poll();
        assert_eq!(source.shown(0.0).name, "x");
        fs::remove_dir_all(&path).unwrap();
        source.poll();
        assert_eq!((source.shown(0.0).state, source.shown(0.0).steps), (None, Some(60)));
        fs::create_dir_all(path.join("metrics.jsonl")).unwrap();
        source.poll();
        assert!(source.shown(0.0).warnings.iter().any(|line| line.contains("metrics.jsonl cannot be read")));
    }

    #[test]
    fn the_record_says_when_the_job_ends_and_what_is_queued() {
        let dir = tempfile::tempdir().unwrap();
        let mut source = source(dir.path());
        let events = two_jobs();
        for event in &events[..5] {
            record::add(dir.path(), event).unwrap();
        }
        source.poll();
        let shown = source.shown(100.0);
        assert_eq!((shown.state, shown.job_left, shown.jobs.len()), (Some(State::Running), Some(520.0), 2));
        record::add(dir.path(), &events[5]).unwrap();
        source.poll();
        let shown = source.shown(605.0);
        assert_eq!((shown.state, shown.job_left), (Some(State::Queued), None));
    }
}
