//! What a person sees of a run at one moment: plain values, of which a frame is drawn or a line is written.
use crate::chain::history::Job;
use crate::output::{bytes, duration};
use crate::train::metrics::SlowRank;
use crate::watch::state::State;

/// A run at one moment. Lengths of time are seconds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Shown {
    /// The run directory as typed.
    pub(crate) directory: String,
    pub(crate) name: String,
    /// None while the run directory is not there.
    pub(crate) state: Option<State>,
    /// Steps done, and those of the whole run where they are known.
    pub(crate) step: u64,
    pub(crate) steps: Option<u64>,
    pub(crate) loss: Option<f64>,
    /// (step, loss), thinned out where there are many.
    pub(crate) losses: Vec<(f64, f64)>,
    pub(crate) held_out: Vec<(f64, f64)>,
    /// The newest of them, as it is: step and loss.
    pub(crate) valid_loss: Option<(u64, f64)>,
    pub(crate) learning_rate: Option<f64>,
    pub(crate) grad_norm: Option<f64>,
    pub(crate) tokens_per_s: Option<f64>,
    /// From 0 to 1, of what the devices could do; none where nobody knows what they could.
    pub(crate) share_of_peak: Option<f64>,
    pub(crate) memory: Option<Memory>,
    /// Step of the newest checkpoint.
    pub(crate) checkpoint: Option<u64>,
    pub(crate) next_checkpoint: Option<Coming>,
    /// Until the last step, as fast as the newest steps were.
    pub(crate) run_left: Option<f64>,
    /// Until Slurm ends the job that runs.
    pub(crate) job_left: Option<f64>,
    /// Of the newest step, if one was much slower than the others.
    pub(crate) slowest: Option<SlowRank>,
    pub(crate) skipped_steps: u64,
    /// Why the ranks of a run without jobs ended that nobody asked to, and where more stands, on one line.
    pub(crate) last_end: Option<String>,
    /// Since the metrics last grew.
    pub(crate) silent: Option<f64>,
    /// The newest last.
    pub(crate) warnings: Vec<String>,
    pub(crate) jobs: Vec<Job>,
}

/// The most memory that a rank had.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Memory {
    pub(crate) bytes: u64,
    pub(crate) rank: Option<u64>,
}

impl Memory {
    pub(crate) fn words(self) -> String {
        let on = self.rank.map_or_else(String::new, |rank| format!(" on rank {rank}"));
        format!("{}{on}", bytes(self.bytes))
    }
}

/// A step that is to come, and in how many seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Coming {
    pub(crate) step: u64,
    pub(crate) seconds: f64,
}

impl Shown {
    /// `running`, or that there is nothing to see.
    pub(crate) fn state_word(&self) -> &'static str {
        self.state.map_or("not there", State::word)
    }

    /// Whether something may still happen by itself.
    pub(crate) fn is_going(&self) -> bool {
        self.state.is_none_or(|state| !state.is_over())
    }

    /// `step 12 of 60`
    pub(crate) fn step_words(&self) -> String {
        let steps = self.steps.map_or_else(|| "?".to_owned(), |steps| steps.to_string());
        format!("step {} of {steps}", self.step)
    }

    /// From 0 to 1.
    pub(crate) fn progress(&self) -> Option<f64> {
        let steps = self.steps.filter(|steps| *steps > 0)?;
        Some((self.step as f64 / steps as f64).min(1.0))
    }

    /// Names and values, what matters most first; without what is not known.
    pub(crate) fn rows(&self) -> Vec<(&'static str, String)> {
        let is_going = self.is_going();
        let going = |value: Option<String>| value.filter(|_| is_going);
        let rows = [
            ("loss", self.loss.map(|loss| format!("{loss:.4}"))),
            ("held-out loss", self.valid_loss.map(|(step, loss)| format!("{loss:.4} at step {step}"))),
            ("speed", self.tokens_per_s.map(|speed| format!("{speed:.0} tokens/s"))),
            ("left in the run", going(self.run_left.map(duration))),
            ("left in the job", going(self.job_left.map(duration))),
            (
                "next checkpoint",
                going(self.next_checkpoint.map(|next| format!("{} (step {})", duration(next.seconds), next.step))),
            ),
            ("checkpoint", Some(self.checkpoint.map_or_else(|| "none yet".to_owned(), |step| format!("step {step}")))),
            ("peak memory", self.memory.map(Memory::words)),
            ("share of peak", self.share_of_peak.map(|share| format!("{:.1} %", 100.0 * share))),
            ("learning rate", self.learning_rate.map(|rate| format!("{rate:.2e}"))),
            ("gradient norm", self.grad_norm.map(|norm| format!("{norm:.3}"))),
            ("slowest rank", self.slowest.map(slow_words)),
            ("skipped steps", (self.skipped_steps > 0).then(|| self.skipped_steps.to_string())),
        ];
        rows.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

/// `rank 3, 1.8 × median`
pub(crate) fn slow_words(slow: SlowRank) -> String {
    if slow.median_seconds > 0.0 {
        format!("rank {}, {:.1} × median", slow.rank, slow.seconds / slow.median_seconds)
    } else {
        format!("rank {}, {:.2} s", slow.rank, slow.seconds)
    }
}

/// Points of a curve, at most [`Series::MOST`]: when they are more, each two become their mean.
#[derive(Clone, Debug, Default)]
pub(crate) struct Series {
    points: Vec<(f64, f64)>,
    /// Points that each of `points` stands for; 0 is 1.
    stride: u32,
    /// Sum and count of those that wait for company.
    waiting: (f64, f64, u32),
}

impl Series {
    /// Finer than any terminal.
    const MOST: usize = 4096;

    /// Points come in the order of their first value.
    pub(crate) fn add(&mut self, x: f64, y: f64) {
        let (sum_x, sum_y, count) = self.waiting;
        let (sum_x, sum_y, count) = (sum_x + x, sum_y + y, count + 1);
        if count < self.stride.max(1) {
            self.waiting = (sum_x, sum_y, count);
            return;
        }
        self.points.push((sum_x / f64::from(count), sum_y / f64::from(count)));
        self.waiting = (0.0, 0.0, 0);
        if self.points.len() >= Series::MOST {
            let mean = |pair: &[(f64, f64)]| {
                let count = pair.len() as f64;
                (pair.iter().map(|point| point.0).sum::<f64>() / count, pair.iter().map(|point| point.1).sum::<f64>() / count)
            };
            self.points = self.points.chunks(2).map(mean).collect();
            self.stride = self.stride.max(1).saturating_mul(2);
        }
    }

    pub(crate) fn points(&self) -> Vec<(f64, f64)> {
        self.points.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_curve_keeps_its_shape_and_not_its_length() {
        let mut series = Series::default();
        (1..=100_000).for_each(|step| series.add(f64::from(step), 2.0 * f64::from(step)));
        let points = series.points();
        assert!((1024..4096).contains(&points.len()), "{}", points.len());
        assert!(points.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert!(points.iter().all(|(x, y)| (y - 2.0 * x).abs() < 1e-6));
        assert!(points[points.len() - 1].0 > 99_000.0 && points[0].0 < 100.0);
        let mut short = Series::default();
        [(1.0, 5.0), (2.0, 4.0)].iter().for_each(|(x, y)| short.add(*x, *y));
        assert_eq!(short.points(), [(1.0, 5.0), (2.0, 4.0)]);
    }

    #[test]
    fn a_slow_rank_is_put_in_words_whatever_the_median() {
        let slow = |median_seconds| slow_words(SlowRank { rank: 3, seconds: 1.8, median_seconds });
        assert_eq!((slow(1.0).as_str(), slow(0.0).as_str()), ("rank 3, 1.8 × median", "rank 3, 1.80 s"));
    }
}
