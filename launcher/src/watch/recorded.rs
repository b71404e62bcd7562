//! What the metrics of a run amount to for somebody who watches: curves, speed of the newest steps, warnings.
use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use sirocco_config::Run;

use crate::train::alarms::Alarms;
use crate::train::metrics::{Curve, Follower, Record};
use crate::watch::shown::{Coming, Series};

/// Warnings kept.
const KEPT: usize = 100;

/// Everything up to now.
#[derive(Debug)]
pub(crate) struct Recorded {
    pub(crate) curve: Curve,
    pub(crate) losses: Series,
    pub(crate) held_out: Series,
    pub(crate) warnings: VecDeque<String>,
    /// A running mean, so that one slow step does not upset the time left.
    seconds_per_step: Option<f64>,
    /// Of the newest evaluation whose length was written down.
    seconds_per_evaluation: Option<f64>,
    alarms: Alarms,
    /// When the newest step ended, counted from an arbitrary moment by the lengths of the steps.
    clock: Instant,
}

impl Recorded {
    pub(crate) fn new() -> Recorded {
        Recorded {
            curve: Curve::default(),
            losses: Series::default(),
            held_out: Series::default(),
            warnings: VecDeque::new(),
            seconds_per_step: None,
            seconds_per_evaluation: None,
            alarms: Alarms::default(),
            clock: Instant::now(),
        }
    }

    /// Adds one line of the metrics. Returns the warnings that it gives rise to.
    pub(crate) fn add(&mut self, record: Record) -> Vec<String> {
        let mut warnings = Vec::new();
        match &record {
            Record::Valid { step, valid_loss, seconds } => {
                self.held_out.add(*step as f64, *valid_loss);
                self.seconds_per_evaluation = seconds.or(self.seconds_per_evaluation);
            }
            Record::Step(step) => {
                if let Some(loss) = step.loss {
                    self.losses.add(step.step as f64, loss);
                }
                let is_same = self.curve.last.as_ref().is_some_and(|last| last.mesh == step.mesh);
                let mean = self.seconds_per_step.filter(|_| is_same);
                self.seconds_per_step = Some(mean.map_or(step.seconds, |mean| 0.9 * mean + 0.1 * step.seconds));
                let length = Duration::try_from_secs_f64(step.seconds).unwrap_or_default();
                self.clock = self.clock.checked_add(length).unwrap_or(self.clock);
                let said = self.alarms.of(step, self.clock);
                warnings.extend(said.iter().map(|line| line.trim_start_matches("warning: ").to_owned()));
            }
        }
        self.curve.add(record);
        self.warnings.extend(warnings.iter().cloned());
        self.warnings.drain(..self.warnings.len().saturating_sub(KEPT));
        warnings
    }

    /// Everything in a run's metrics; nothing if there are none yet.
    pub(crate) fn read(path: &Path) -> io::Result<Recorded> {
        let mut recorded = Recorded::new();
        Follower::from_start(path).poll()?.into_iter().for_each(|record| drop(recorded.add(record)));
        Ok(recorded)
    }

    /// Seconds to the end of a run of `steps`: its steps, as fast as the newest were, and its evaluations, as long as the newest was.
    pub(crate) fn left(&self, run: &Run, steps: u64) -> Option<f64> {
        let (done, every) = (self.curve.step(), run.eval.every_steps);
        // After the last step there is always one.
        let last = u64::from(!run.data.valid.is_empty() && (done < steps || self.curve.lacks_last_evaluation(run, steps)));
        let evaluations = last + self.evaluations_before(run, every, steps);
        Some(self.seconds_of(steps.saturating_sub(done))? + self.seconds_evaluating(evaluations))
    }

    /// The next step after which a checkpoint is written; there is always one at the end. One is written before the step's evaluation.
    pub(crate) fn next_checkpoint(&self, run: &Run, steps: Option<u64>) -> Option<Coming> {
        let (done, every) = (self.curve.step(), run.checkpoint.every_steps.max(1));
        let next = (done / every + 1).checked_mul(every)?;
        let step = steps.map_or(next, |steps| next.min(steps));
        let seconds = self.seconds_of(step.checked_sub(done).filter(|left| *left > 0)?)?;
        Some(Coming {
            step,
            seconds: seconds + self.seconds_evaluating(self.evaluations_before(run, run.eval.every_steps, step)),
        })
    }

    fn seconds_of(&self, steps: u64) -> Option<f64> {
        self.seconds_per_step.map(|seconds| seconds * steps as f64)
    }

    /// Nothing where no evaluation was measured.
    fn seconds_evaluating(&self, evaluations: u64) -> f64 {
        self.seconds_per_evaluation.unwrap_or_default() * evaluations as f64
    }

    /// Evaluations after steps that are to come, before `step`.
    fn evaluations_before(&self, run: &Run, every: u64, step: u64) -> u64 {
        if every == 0 || run.data.valid.is_empty() {
            return 0;
        }
        (step.saturating_sub(1) / every).saturating_sub(self.curve.step() / every)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(number: u64, seconds: f64, more: &str) -> Record {
        let text = format!(r#"{{"step":{number},"loss":2.5,"tokens":20,"seconds":{seconds},"tokens_per_s":10.0{more}}}"#);
        serde_json::from_str(&text).unwrap()
    }

    fn run(more: &str) -> Run {
        let text =
            format!("name = 'x'\nmodel.path = 'm'\ndata.train = ['a']\ntrain.steps = 60\ncheckpoint.every_steps = 20\n{more}");
        sirocco_config::RunFile::parse(&text, Path::new("run.toml")).unwrap().check(Path::new("/")).unwrap()
    }

    #[test]
    fn evaluations_that_are_to_come_are_in_the_time_left() {
        let with = |more: &str, done: u64, measured: &str| {
            let mut recorded = Recorded::new();
            recorded.add(step(done, 2.0, ""));
            recorded.add(serde_json::from_str(&format!(r#"{{"step":0,"valid_loss":2.5{measured}}}"#)).unwrap());
            let next = recorded.next_checkpoint(&run(more), Some(60)).map(|next| next.seconds);
            (recorded.left(&run(more), 60).unwrap(), next)
        };
        let measured = r#","seconds":10.0"#;
        // After steps 20, 40 and 60; the checkpoint of step 20 is written before its evaluation.
        assert_eq!(with("data.valid = ['b']\neval.every_steps = 20", 12, measured), (126.0, Some(16.0)));
        // After 15, 30, 45 and 60, and the first of them before the next checkpoint.
        assert_eq!(with("data.valid = ['b']\neval.every_steps = 15", 12, measured), (136.0, Some(26.0)));
        assert_eq!(with("data.valid = ['b']\neval.every_steps = 0", 12, measured), (106.0, Some(16.0)));
        assert_eq!(with("data.valid = ['b']\neval.every_steps = 20", 60, measured), (10.0, None));
        assert_eq!(with("", 12, measured), (96.0, Some(16.0)));
        assert_eq!(with("data.valid = ['b']\neval.every_steps = 20", 12, ""), (96.0, Some(16.0)));
    }

    #[test]
    fn the_next_checkpoint_is_the_next_multiple_or_the_end() {
        let mut recorded = Recorded::new();
        assert_eq!(recorded.next_checkpoint(&run(""), Some(60)), None);
        recorded.add(step(12, 2.0, ""));
        let next = |recorded: &Recorded, steps| recorded.next_checkpoint(&run(""), steps).map(|next| (next.step, next.seconds));
        assert_eq!(next(&recorded, Some(60)), Some((20, 16.0)));
        assert_eq!(next(&recorded, Some(15)), Some((15, 6.0)));
        assert_eq!(next(&recorded, None), Some((20, 16.0)));
        recorded.add(step(60, 2.0, ""));
        assert_eq!(next(&recorded, Some(60)), None);
    }

    #[test]
    fn speed_begins_anew_on_another_mesh() {
        let mut recorded = Recorded::new();
        recorded.add(step(1, 2.0, r#","mesh":{"pp":1,"dp":2,"fsdp":1,"tp":1}"#));
        recorded.add(step(2, 1.0, r#","mesh":{"pp":1,"dp":2,"fsdp":1,"tp":1}"#));
        assert!(recorded.seconds_of(10).is_some_and(|seconds| (seconds - 19.0).abs() < 1e-9));
        recorded.add(step(3, 4.0, r#","mesh":{"pp":1,"dp":1,"fsdp":1,"tp":1}"#));
        assert_eq!(recorded.seconds_of(10), Some(40.0));
    }

    #[test]
    fn slowness_that_lasts_is_told_once_in_a_minute_of_training() {
        let slow = r#","slowest_rank":{"rank":1,"seconds":3.0,"median_seconds":1.0}"#;
        let mut recorded = Recorded::new();
        let said: Vec<usize> = (1..=4).map(|number| recorded.add(step(number, 31.0, slow)).len()).collect();
        assert_eq!((said, recorded.warnings.len()), (vec![1, 0, 1, 0], 2));
        (0..200).for_each(|number| drop(recorded.add(step(number, 1.0, r#","skipped":true"#))));
        assert_eq!(recorded.warnings.len(), KEPT);
    }
}
