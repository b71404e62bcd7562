//! `metrics.jsonl` as curves: every step and every evaluation in order, and what is wrong with the file in words. A run that was killed may
//! leave half a line; a report says so and goes on.
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use crate::failure::{Failure, Kind};
use crate::output::count;
use crate::train::metrics::{Curve, Record, Step};

/// Lines that are named one by one.
const NAMED: usize = 3;

/// A held-out loss after that many steps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Evaluation {
    pub(crate) step: u64,
    pub(crate) loss: f64,
}

impl Evaluation {
    fn record(self) -> Record {
        Record::Valid { step: self.step, valid_loss: self.loss, seconds: None }
    }
}

/// What a run measured of itself.
#[derive(Debug, Default)]
pub(crate) struct Series {
    /// Each step once, rising.
    pub(crate) steps: Vec<Step>,
    /// Each once, rising.
    pub(crate) evaluations: Vec<Evaluation>,
    /// What it amounts to.
    pub(crate) curve: Curve,
    /// What is wrong with the file.
    pub(crate) notes: Vec<String>,
}

impl Series {
    /// Of the file at `path`; empty if it is not there.
    pub(crate) fn read(path: &Path) -> Result<Series, Failure> {
        let bytes = match fs::read(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Series::default()),
            bytes => {
                bytes.map_err(|error| Failure::new(Kind::Failed, format_args!("{}: cannot be read: {error}", path.display())))?
            }
        };
        Ok(Series::of(&bytes))
    }

    fn of(bytes: &[u8]) -> Series {
        let mut series = Series::default();
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let mut strange = Vec::new();
        let mut again = 0;
        for (index, line) in bytes[..whole].split(|byte| *byte == b'\n').enumerate().filter(|(_, line)| !line.is_empty()) {
            match serde_json::from_slice(line) {
                Ok(record) => again += series.add(record),
                Err(_) => strange.push((index + 1).to_string()),
            }
        }
        series.notes.extend(no_records(&strange));
        if again > 0 {
            let lines = count(again, "line");
            series.notes.push(format!("metrics.jsonl: {lines} of steps that stand again further down: the later ones count"));
        }
        if whole < bytes.len() {
            series.notes.push("metrics.jsonl: the last line is cut off in the middle: it was left out".to_owned());
        }
        series.notes.extend(series.missing());
        // In the order of time: the evaluation after a step stands behind it.
        let mut evaluations = series.evaluations.iter().peekable();
        let mut curve = Curve::default();
        for step in &series.steps {
            while let Some(evaluation) = evaluations.next_if(|evaluation| evaluation.step < step.step) {
                curve.add(evaluation.record());
            }
            curve.add(Record::Step(step.clone()));
        }
        evaluations.for_each(|rest| curve.add(rest.record()));
        series.curve = curve;
        series
    }

    /// Adds one record; the number of older ones that it replaces.
    fn add(&mut self, record: Record) -> u64 {
        match record {
            Record::Step(step) => {
                let keep = self.steps.partition_point(|before| before.step < step.step);
                let replaced = self.steps.drain(keep..).count();
                self.steps.push(step);
                replaced as u64
            }
            Record::Valid { step, valid_loss, .. } => {
                let keep = self.evaluations.partition_point(|before| before.step < step);
                let replaced = self.evaluations.drain(keep..).count();
                self.evaluations.push(Evaluation { step, loss: valid_loss });
                replaced as u64
            }
        }
    }

    /// Steps that the file passes over.
    fn missing(&self) -> Option<String> {
        let numbers = std::iter::once(0).chain(self.steps.iter().map(|step| step.step));
        let gaps: Vec<(u64, u64)> = numbers
            .clone()
            .zip(numbers.skip(1))
            .filter(|(from, to)| to - from > 1)
            .map(|(from, to)| (from + 1, to - 1))
            .collect();
        let (first, last) = *gaps.first()?;
        let which = if first == last { format!("step {first}") } else { format!("steps {first} to {last}") };
        let more = if gaps.len() > 1 { format!(", and {} more gaps", gaps.len() - 1) } else { String::new() };
        Some(format!("metrics.jsonl: no line for {which}{more}"))
    }

    /// The evaluation with the lowest loss, the first of equal ones.
    pub(crate) fn best(&self) -> Option<Evaluation> {
        let mut known = self.evaluations.iter().filter(|evaluation| evaluation.loss.is_finite());
        let first = *known.next()?;
        Some(known.fold(first, |best, next| if next.loss < best.loss { *next } else { best }))
    }
}

fn no_records(lines: &[String]) -> Option<String> {
    let named = lines.get(..NAMED.min(lines.len())).filter(|named| !named.is_empty())?.join(", ");
    let more = if lines.len() > NAMED { format!(" and {} more", lines.len() - NAMED) } else { String::new() };
    let (line, is) = if lines.len() == 1 { ("line", "is no record: it was") } else { ("lines", "are no records: they were") };
    Some(format!("metrics.jsonl: {line} {named}{more} {is} left out"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(number: u64, loss: f64) -> String {
        format!("{{\"step\":{number},\"loss\":{loss},\"tokens\":20,\"seconds\":0.5,\"tokens_per_s\":40.0}}\n")
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said_and_the_rest_counts() {
        let text =
            ["{\"step\":0,\"valid_loss\":5.0}\n", &step(1, 4.0), "what\n", &step(2, 3.0), &step(2, 2.5), &step(5, 2.0)].concat();
        let series = Series::of((text + "{\"step\":5,\"valid_loss\":2.25}\n{\"step\":6,\"lo").as_bytes());
        assert_eq!(series.steps.iter().map(|step| step.loss.unwrap()).collect::<Vec<_>>(), [4.0, 2.5, 2.0]);
        assert_eq!(
            series.notes,
            [
                "metrics.jsonl: line 3 is no record: it was left out",
                "metrics.jsonl: 1 line of steps that stand again further down: the later ones count",
                "metrics.jsonl: the last line is cut off in the middle: it was left out",
                "metrics.jsonl: no line for steps 3 to 4",
            ]
        );
        assert_eq!(series.best(), Some(Evaluation { step: 5, loss: 2.25 }));
        assert_eq!((series.curve.first_valid, series.curve.last_valid, series.curve.evaluated), (Some(5.0), Some(2.25), Some(5)));
        assert_eq!((series.curve.tokens, series.curve.losses), (60, 3));
    }

    #[test]
    fn nothing_is_not_wrong() {
        let series = Series::read(Path::new("nowhere/metrics.jsonl")).unwrap();
        assert!(series.steps.is_empty() && series.notes.is_empty() && series.best().is_none());
    }
}
