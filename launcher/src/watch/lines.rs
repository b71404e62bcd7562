//! A run as plain lines, for a file, a pipe, or a terminal that cannot move its cursor.
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::chain::history::{Job, current};
use crate::chain::record::Outcome;
use crate::failure::{Failure, Kind};
use crate::output::{self, duration};
use crate::train::metrics::{Record, Step};
use crate::watch::shown::{Memory, Shown};
use crate::watch::source::{News, Source};
use crate::watch::state::State;
use crate::watch::words::{one_line, what_next};
use crate::watch::{PAUSE, Stop, now};

/// A run directory may be out of sight for so long, as on a file system that is busy.
const GONE: Duration = Duration::from_secs(60);

/// What is wanted, and what was said.
#[derive(Debug)]
pub(crate) struct Lines {
    /// At least between two lines about steps.
    pub(crate) every: Option<Duration>,
    pub(crate) json: bool,
    said: Option<Instant>,
    /// Of the newest line about a step.
    step: Option<u64>,
    state: Option<State>,
    gone: Option<Instant>,
    /// Each with what was said of it.
    jobs: Vec<(String, String)>,
}

/// The fields of `--json`, in their order: one step, or where the run has ended.
#[derive(Debug, Serialize)]
pub(crate) struct Line<'a> {
    state: Option<State>,
    step: u64,
    steps: Option<u64>,
    loss: Option<f64>,
    valid_loss: Option<f64>,
    learning_rate: Option<f64>,
    grad_norm: Option<f64>,
    tokens_per_s: Option<f64>,
    share_of_peak: Option<f64>,
    peak_memory_bytes: Option<u64>,
    peak_memory_rank: Option<u64>,
    checkpoint: Option<u64>,
    next_checkpoint_s: Option<f64>,
    left_s: Option<f64>,
    job: Option<&'a str>,
    job_left_s: Option<f64>,
    slowest_rank: Option<u64>,
    warnings: &'a [String],
}

impl Lines {
    pub(crate) fn new(every: Option<Duration>, json: bool) -> Lines {
        Lines { every, json, said: None, step: None, state: None, gone: None, jobs: Vec::new() }
    }

    /// Writes lines until the run has ended, or somebody asks to stop.
    pub(crate) fn run(mut self, mut source: Source, stop: &Stop) -> Result<(), Failure> {
        let mut quiet = false;
        while !stop.is_asked() {
            let news = source.poll();
            let shown = source.shown(now());
            self.say(&news, &shown)?;
            let is_over = shown.state.is_some_and(State::is_over);
            // A second look: what was written before the end may have come between.
            if is_over && quiet && news.records.is_empty() {
                return self.end(&shown);
            }
            quiet = is_over;
            self.expect_there(&shown)?;
            output::sleep_while_read(PAUSE)?;
        }
        Ok(())
    }

    /// What is new. Of what was done before the watch began only the newest step is told.
    fn say(&mut self, news: &News, shown: &Shown) -> Result<(), Failure> {
        self.say_state(shown)?;
        let is_first = self.step.is_none() || news.is_anew;
        if !is_first && !self.json {
            news.warnings.iter().try_for_each(|warning| output::line(format_args!("warning: {warning}")))?;
        }
        let newest = |is: fn(&Record) -> bool| news.records.iter().rposition(is);
        let (step, evaluation) = (newest(|record| as_step(record).is_some()), newest(|record| as_evaluation(record).is_some()));
        let all = !is_first && self.every.is_none();
        for (at, record) in news.records.iter().enumerate() {
            match (as_step(record), as_evaluation(record)) {
                (Some(record), _) if (all || Some(at) == step) && self.is_due() => {
                    self.step(record, shown, if Some(at) == step { &news.warnings } else { &[] })?;
                }
                (_, Some((step, loss))) if !self.json && (all || Some(at) == evaluation) => {
                    output::line(format_args!("step {step}  held-out loss {loss:.4}"))?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn say_state(&mut self, shown: &Shown) -> Result<(), Failure> {
        let words = |job: &Job| match what_next(job).filter(|_| job.outcome == Some(Outcome::Failed)) {
            Some(why) => format!("{}  {why}", job.state.word()),
            None => job.state.word().to_owned(),
        };
        let jobs: Vec<_> = shown.jobs.iter().map(|job| (job.job.clone(), words(job))).collect();
        // Of what was before the watch began, only where the chain is.
        let begins = self.jobs.is_empty();
        let now = current(&shown.jobs).map(|job| job.job.as_str());
        let is_news = |job: &&(String, String)| !self.jobs.contains(job) && (!begins || Some(job.0.as_str()) == now);
        let changed: Vec<_> = jobs.iter().filter(is_news).cloned().collect();
        self.jobs = jobs;
        if self.json {
            return Ok(());
        }
        changed.iter().try_for_each(|(job, state)| output::line(format_args!("job {}  {state}", one_line(job))))?;
        if shown.state != self.state && shown.state.is_some_and(|state| !state.is_over()) {
            output::line(format_args!("{}: {}, {}", one_line(&shown.directory), shown.state_word(), shown.step_words()))?;
        }
        self.state = shown.state;
        Ok(())
    }

    fn is_due(&mut self) -> bool {
        let is_due = self.every.is_none_or(|every| self.said.is_none_or(|said| said.elapsed() >= every));
        if is_due {
            self.said = Some(Instant::now());
        }
        is_due
    }

    fn step(&mut self, step: &Step, shown: &Shown, warnings: &[String]) -> Result<(), Failure> {
        self.step = Some(step.step);
        if self.json {
            return output::json(&line(step, shown, warnings));
        }
        output::line(words(step, shown))
    }

    /// The last line.
    fn end(&self, shown: &Shown) -> Result<(), Failure> {
        if self.json {
            return output::json(&whole(shown));
        }
        output::line(summary(shown))
    }

    fn expect_there(&mut self, shown: &Shown) -> Result<(), Failure> {
        if shown.state.is_some() {
            self.gone = None;
            return Ok(());
        }
        let since = *self.gone.get_or_insert_with(Instant::now);
        if since.elapsed() < GONE {
            return Ok(());
        }
        Err(Failure::new(
            Kind::Input,
            format_args!("{}: the run directory has been gone for {}", shown.directory, duration(GONE.as_secs_f64())),
        ))
    }
}

fn as_step(record: &Record) -> Option<&Step> {
    if let Record::Step(step) = record { Some(step) } else { None }
}

fn as_evaluation(record: &Record) -> Option<(u64, f64)> {
    if let Record::Valid { step, valid_loss, .. } = record { Some((*step, *valid_loss)) } else { None }
}

/// `done: runs/demo, step 60 of 60, loss 4.5083, held-out loss 4.5647`
pub(crate) fn summary(shown: &Shown) -> String {
    let loss = shown.loss.map_or_else(String::new, |loss| format!(", loss {loss:.4}"));
    let held_out = shown.valid_loss.map_or_else(String::new, |(_, loss)| format!(", held-out loss {loss:.4}"));
    let end = shown.last_end.as_ref().map_or_else(String::new, |end| format!("; {}", one_line(end)));
    format!("{}: {}, {}{loss}{held_out}{end}", shown.state_word(), one_line(&shown.directory), shown.step_words())
}

/// `step 12/60  loss 2.3457  rate 2.00e-4  norm 1.020  185 tokens/s  1.68 GB on rank 3  1:36 min left`
fn words(step: &Step, shown: &Shown) -> String {
    let steps = shown.steps.map_or_else(|| "?".to_owned(), |steps| steps.to_string());
    let loss = step.loss.map_or_else(|| "not finite".to_owned(), |loss| format!("{loss:.4}"));
    let rate = step.learning_rate.map(|rate| format!("rate {rate:.2e}"));
    let norm = step.grad_norm.map(|norm| format!("norm {norm:.3}"));
    let share = shown.share_of_peak.map(|share| format!("{:.1} % of peak", 100.0 * share));
    let memory = Some(Memory { bytes: step.peak_memory_bytes, rank: step.peak_memory_rank }.words());
    let left = shown.run_left.map(|left| format!("{} left", duration(left)));
    let job = shown.job_left.map(|left| format!("{} in the job", duration(left)));
    let parts = [rate, norm, Some(format!("{:.0} tokens/s", step.tokens_per_s)), share, memory, left, job];
    let parts: String = parts.into_iter().flatten().map(|part| format!("  {part}")).collect();
    format!("step {}/{steps}  loss {loss}{parts}", step.step)
}

fn line<'a>(step: &Step, shown: &'a Shown, warnings: &'a [String]) -> Line<'a> {
    Line {
        step: step.step,
        loss: step.loss,
        learning_rate: step.learning_rate,
        grad_norm: step.grad_norm,
        tokens_per_s: Some(step.tokens_per_s),
        peak_memory_bytes: Some(step.peak_memory_bytes),
        peak_memory_rank: step.peak_memory_rank,
        slowest_rank: step.slowest_rank.map(|slow| slow.rank),
        warnings,
        ..whole(shown)
    }
}

/// The run as it is.
pub(crate) fn whole(shown: &Shown) -> Line<'_> {
    Line {
        state: shown.state,
        step: shown.step,
        steps: shown.steps,
        loss: shown.loss,
        valid_loss: shown.valid_loss.map(|(_, loss)| loss),
        learning_rate: shown.learning_rate,
        grad_norm: shown.grad_norm,
        tokens_per_s: shown.tokens_per_s,
        share_of_peak: shown.share_of_peak,
        peak_memory_bytes: shown.memory.map(|memory| memory.bytes),
        peak_memory_rank: shown.memory.and_then(|memory| memory.rank),
        checkpoint: shown.checkpoint,
        next_checkpoint_s: shown.next_checkpoint.map(|next| next.seconds),
        left_s: shown.run_left,
        job: current(&shown.jobs).map(|job| job.job.as_str()),
        job_left_s: shown.job_left,
        slowest_rank: shown.slowest.map(|slow| slow.rank),
        warnings: &[],
    }
}
