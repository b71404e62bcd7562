//! `metrics.jsonl`: read whole, or followed line by line while the trainer writes it.
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sirocco_config::Run;

/// One line: an optimizer step, or an evaluation.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub(crate) enum Record {
    Step(Step),
    Valid {
        step: u64,
        valid_loss: f64,
        /// That the evaluation took; a trainer of the first versions did not write it down.
        seconds: Option<f64>,
    },
}

/// The lengths of a mesh's axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Axes {
    pp: u64,
    dp: u64,
    fsdp: u64,
    tp: u64,
}

/// One optimizer step.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(crate) struct Step {
    /// Counted from 1: the steps that are done.
    pub(crate) step: u64,
    /// Mean over the target tokens of the global batch; none where it was not finite, which JSON cannot hold.
    pub(crate) loss: Option<f64>,
    pub(crate) tokens: u64,
    /// Before clipping; none where it was not finite.
    pub(crate) grad_norm: Option<f64>,
    pub(crate) learning_rate: Option<f64>,
    pub(crate) seconds: f64,
    pub(crate) tokens_per_s: f64,
    /// Of the rank that has most.
    #[serde(default)]
    pub(crate) peak_memory_bytes: u64,
    pub(crate) peak_memory_rank: Option<u64>,
    /// The weights stayed as they were: the loss or the gradients were not finite.
    #[serde(default)]
    pub(crate) skipped: bool,
    /// The loss was far above those before it.
    #[serde(default)]
    pub(crate) loss_spike: bool,
    /// Spent waiting for data.
    pub(crate) data_seconds: Option<f64>,
    /// The slowest rank, if it is much slower than the others.
    pub(crate) slowest_rank: Option<SlowRank>,
    /// Under which it was done.
    pub(crate) mesh: Option<Axes>,
}

/// A rank that needs much longer to compute its share than the others.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct SlowRank {
    pub(crate) rank: u64,
    /// Of its own computing, without waiting for others.
    pub(crate) seconds: f64,
    /// The same of the ranks in the middle.
    pub(crate) median_seconds: f64,
}

/// What a run's metrics amount to.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Curve {
    pub(crate) last: Option<Step>,
    /// Losses of the first and the last step that has one.
    pub(crate) first_loss: Option<f64>,
    pub(crate) last_loss: Option<f64>,
    pub(crate) losses: u64,
    pub(crate) first_valid: Option<f64>,
    pub(crate) last_valid: Option<f64>,
    pub(crate) evaluations: u64,
    /// Steps that were done at the last evaluation.
    pub(crate) evaluated: Option<u64>,
    /// Tokens of every step.
    pub(crate) tokens: u64,
    /// Seconds of every step.
    pub(crate) seconds: f64,
    pub(crate) skipped_steps: u64,
    /// Speed and memory since the mesh last changed: those of two meshes have nothing in common.
    pub(crate) on_mesh: OnMesh,
}

/// Speed and memory of the steps on one mesh.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct OnMesh {
    /// The first of these steps.
    pub(crate) from: u64,
    /// Whether there are steps before it, on another mesh.
    pub(crate) is_later: bool,
    pub(crate) tokens: u64,
    pub(crate) seconds: f64,
    pub(crate) peak_memory_bytes: u64,
    pub(crate) peak_memory_rank: Option<u64>,
}

impl OnMesh {
    fn add(&mut self, step: &Step) {
        self.tokens += step.tokens;
        self.seconds += step.seconds;
        if step.peak_memory_bytes > self.peak_memory_bytes {
            (self.peak_memory_bytes, self.peak_memory_rank) = (step.peak_memory_bytes, step.peak_memory_rank);
        }
    }

    pub(crate) fn tokens_per_s(&self) -> f64 {
        if self.seconds > 0.0 { self.tokens as f64 / self.seconds } else { 0.0 }
    }
}

impl Curve {
    /// Adds one line.
    pub(crate) fn add(&mut self, record: Record) {
        match record {
            Record::Valid { step, valid_loss, .. } => {
                self.evaluated = Some(step);
                self.first_valid.get_or_insert(valid_loss);
                self.last_valid = Some(valid_loss);
                self.evaluations += 1;
            }
            Record::Step(step) => {
                self.tokens += step.tokens;
                self.seconds += step.seconds;
                self.skipped_steps += u64::from(step.skipped);
                let is_later = self.last.as_ref().is_some_and(|last| last.mesh != step.mesh);
                if is_later || self.last.is_none() {
                    self.on_mesh = OnMesh { from: step.step, is_later, ..OnMesh::default() };
                }
                self.on_mesh.add(&step);
                self.losses += u64::from(step.loss.is_some());
                self.first_loss = self.first_loss.or(step.loss);
                self.last_loss = step.loss.or(self.last_loss);
                self.last = Some(step);
            }
        }
    }

    /// Everything in a run's metrics; nothing if there are none yet.
    pub(crate) fn read(path: &Path) -> io::Result<Curve> {
        let mut curve = Curve::default();
        let mut follower = Follower::from_start(path);
        follower.poll()?.into_iter().for_each(|record| curve.add(record));
        Ok(curve)
    }

    /// The steps that are done.
    pub(crate) fn step(&self) -> u64 {
        self.last.as_ref().map_or(0, |step| step.step)
    }

    /// Whether every step of `run` was done and only its last evaluation was not: a stop was asked for before or during it. A run
    /// whose metrics are gone has nothing left to do.
    pub(crate) fn lacks_last_evaluation(&self, run: &Run, steps: u64) -> bool {
        !run.data.valid.is_empty() && self.step() == steps && self.evaluated != Some(steps)
    }
}

/// A place in a growing file. Only whole lines are given out.
#[derive(Debug)]
pub(crate) struct Follower {
    path: PathBuf,
    offset: u64,
}

impl Follower {
    /// From the first line.
    pub(crate) fn from_start(path: &Path) -> Follower {
        Follower { path: path.to_owned(), offset: 0 }
    }

    /// From the first line that is not there yet.
    pub(crate) fn from_end(path: &Path) -> Follower {
        Follower { path: path.to_owned(), offset: std::fs::metadata(path).map_or(0, |metadata| metadata.len()) }
    }

    /// The records since the last call. Lines that are no records (of a newer version, say) are passed over.
    pub(crate) fn poll(&mut self) -> io::Result<Vec<Record>> {
        let mut file = match File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        // A trainer that resumes cuts off the lines after its checkpoint; what it writes then is new.
        self.offset = self.offset.min(file.metadata()?.len());
        file.seek(SeekFrom::Start(self.offset))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        self.offset += whole as u64;
        Ok(bytes[..whole].split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    const STEP: &str = r#"{"step":1,"loss":2.5,"target_tokens":10,"tokens":20,"grad_norm":1.0,"learning_rate":0.1,"seconds":0.5,"tokens_per_s":40.0,"peak_memory_bytes":7}"#;

    #[test]
    fn half_lines_wait_and_evaluations_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        let mut follower = Follower::from_end(&path);
        assert_eq!(follower.poll().unwrap(), []);
        let mut file = File::create(&path).unwrap();
        write!(file, "{STEP}\n{{\"step\":1,\"valid").unwrap();
        assert!(matches!(follower.poll().unwrap().as_slice(), [Record::Step(step)] if step.loss == Some(2.5)));
        write!(file, "_loss\":1.25}}\nnot json\n").unwrap();
        assert_eq!(follower.poll().unwrap(), [Record::Valid { step: 1, valid_loss: 1.25, seconds: None }]);
        assert_eq!(follower.poll().unwrap(), []);
        let curve = Curve::read(&path).unwrap();
        assert_eq!((curve.step(), curve.last_valid, curve.tokens, curve.on_mesh.peak_memory_bytes), (1, Some(1.25), 20, 7));
    }

    #[test]
    fn steps_without_a_loss_are_counted_and_the_losses_around_them_stay() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        let skipped = STEP
            .replace("2.5", "null")
            .replace("\"peak_memory_bytes\":7", "\"peak_memory_bytes\":9,\"peak_memory_rank\":3,\"skipped\":true");
        let full = STEP.replace(
            "\"step\":1",
            r#""step":3,"data_seconds":0.1,"slowest_rank":{"rank":1,"seconds":2.0,"median_seconds":1.0},"loss_spike":true,"collectives":{"gradients":{"calls":1,"bytes":8,"seconds":0.1,"waited":0.1}}"#,
        );
        std::fs::write(&path, format!("{skipped}\n{STEP}\n{skipped}\n")).unwrap();
        let curve = Curve::read(&path).unwrap();
        assert_eq!((curve.first_loss, curve.last_loss, curve.skipped_steps), (Some(2.5), Some(2.5), 2));
        assert_eq!((curve.on_mesh.peak_memory_bytes, curve.on_mesh.peak_memory_rank), (9, Some(3)));
        std::fs::write(&path, format!("{full}\n")).unwrap();
        let last = Curve::read(&path).unwrap().last.unwrap();
        assert_eq!(last.slowest_rank, Some(SlowRank { rank: 1, seconds: 2.0, median_seconds: 1.0 }));
        assert_eq!((last.data_seconds, last.loss_spike, last.skipped), (Some(0.1), true, false));
    }

    #[test]
    fn speed_and_memory_are_those_of_the_newest_mesh() {
        let mut curve = Curve::default();
        let step = |number: u64, dp: u64, tokens: u64, memory: u64| {
            let text = format!(
                r#"{{"step":{number},"loss":2.5,"tokens":{tokens},"seconds":1.0,"tokens_per_s":1.0,"peak_memory_bytes":{memory},"mesh":{{"pp":1,"dp":{dp},"fsdp":1,"tp":1}}}}"#
            );
            serde_json::from_str(&text).unwrap()
        };
        [step(1, 2, 100, 9), step(2, 2, 300, 8)].into_iter().for_each(|record| curve.add(record));
        assert_eq!((curve.on_mesh.tokens_per_s(), curve.on_mesh.is_later, curve.on_mesh.peak_memory_bytes), (200.0, false, 9));
        [step(3, 1, 20, 5), step(4, 1, 40, 6)].into_iter().for_each(|record| curve.add(record));
        assert_eq!((curve.on_mesh.tokens_per_s(), curve.on_mesh.from, curve.on_mesh.peak_memory_bytes), (30.0, 3, 6));
        assert_eq!((curve.tokens, curve.on_mesh.is_later, curve.losses), (460, true, 4));
    }

    #[test]
    fn a_file_that_was_cut_is_followed_from_its_new_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        std::fs::write(&path, format!("{STEP}\n{STEP}\n")).unwrap();
        let mut follower = Follower::from_end(&path);
        std::fs::write(&path, format!("{STEP}\n")).unwrap();
        assert_eq!(follower.poll().unwrap(), []);
        std::fs::write(&path, format!("{STEP}\n{STEP}\n")).unwrap();
        assert_eq!(follower.poll().unwrap().len(), 1);
    }
}
