//! How far a run is: a bar on a terminal, a line every ten seconds elsewhere.
use std::io::{IsTerminal as _, stderr};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::output::{duration, say};
use crate::train::alarms::Alarms;
use crate::train::metrics::{Record, Step};

/// Between two lines where there is no terminal.
const PAUSE: Duration = Duration::from_secs(10);

/// The bar or the lines of a run.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    steps: u64,
    last_line: Option<Instant>,
    valid_loss: Option<f64>,
    /// A running mean, so that one slow step does not upset the time left.
    seconds_per_step: Option<f64>,
    alarms: Alarms,
}

impl Progress {
    /// Of a run that has done `done` of `steps` steps.
    pub(crate) fn new(done: u64, steps: u64) -> Progress {
        let bar = stderr().is_terminal().then(|| {
            let style =
                ProgressStyle::with_template("{bar:16} {pos}/{len}  {msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
            let bar = ProgressBar::new(steps).with_style(style).with_position(done).with_message("starting");
            bar.enable_steady_tick(Duration::from_millis(500));
            bar
        });
        Progress { bar, steps, last_line: None, valid_loss: None, seconds_per_step: None, alarms: Alarms::default() }
    }

    /// Takes in one line of the metrics.
    pub(crate) fn show(&mut self, record: &Record) {
        match record {
            Record::Valid { step, valid_loss, .. } => {
                self.valid_loss = Some(*valid_loss);
                if self.bar.is_none() {
                    say(format_args!("step {step}/{}  held-out loss {valid_loss:.4}", self.steps));
                }
            }
            Record::Step(step) => self.step(step),
        }
    }

    /// A line that must not disturb the bar.
    pub(crate) fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| say(format_args!("{line}"))),
            None => say(format_args!("{line}")),
        }
    }

    /// Leaves the terminal as it was.
    pub(crate) fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    fn step(&mut self, step: &Step) {
        let mean = self.seconds_per_step.map_or(step.seconds, |mean| 0.9 * mean + 0.1 * step.seconds);
        self.seconds_per_step = Some(mean);
        let message = self.message(step, mean);
        self.alarms.of(step, Instant::now()).iter().for_each(|line| self.say(line));
        match &self.bar {
            Some(bar) => {
                bar.set_position(step.step);
                bar.set_message(message);
            }
            None if step.step == self.steps || self.last_line.is_none_or(|last| last.elapsed() >= PAUSE) => {
                self.last_line = Some(Instant::now());
                say(format_args!("step {}/{}  {message}", step.step, self.steps));
            }
            None => {}
        }
    }

    fn message(&self, step: &Step, seconds_per_step: f64) -> String {
        let left = self.steps.saturating_sub(step.step) as f64 * seconds_per_step;
        let held_out = self.valid_loss.map_or_else(String::new, |loss| format!("  held-out loss {loss:.4}"));
        let loss = step.loss.map_or_else(|| "not finite".to_owned(), |loss| format!("{loss:.4}"));
        format!("loss {loss}{held_out}  {} left  {:.0} tokens/s", duration(left), step.tokens_per_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_has_loss_speed_and_time_left() {
        let mut progress = Progress::new(0, 60);
        progress.valid_loss = Some(1.5);
        let text = r#"{"step":12,"loss":2.34567,"tokens":100,"seconds":2.0,"tokens_per_s":185.4}"#;
        let step: Step = serde_json::from_str(text).unwrap();
        assert_eq!(progress.message(&step, 2.0), "loss 2.3457  held-out loss 1.5000  1:36 min left  185 tokens/s");
        let skipped = Step { loss: None, ..step };
        assert!(progress.message(&skipped, 2.0).starts_with("loss not finite  "));
    }
}
