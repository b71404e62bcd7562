//! Optimizer steps as `metrics.jsonl` tells them, and how near those of two runs are.

use std::path::Path;

use serde_json::Value;

/// The project's bound in fp32 for a run on one mesh against the same run on another: relative, for losses and gradient norms.
pub const RELATIVE: f64 = 1e-5;

/// One optimizer step.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// From 1.
    pub step: u64,
    /// Mean over the step's target tokens; NaN where it was not finite.
    pub loss: f64,
    /// Before clipping; NaN where it was not finite.
    pub grad_norm: f64,
    /// Tokens whose loss counts.
    pub target_tokens: u64,
    /// All tokens.
    pub tokens: u64,
    /// The whole line.
    pub record: Value,
}

impl Step {
    /// What a run on the same mesh repeats to the last bit.
    pub fn exactly(&self) -> (u64, u64, u64, u64, u64) {
        (self.step, self.loss.to_bits(), self.grad_norm.to_bits(), self.target_tokens, self.tokens)
    }

    /// What the step's samples amount to.
    pub fn samples(&self) -> (u64, u64, u64) {
        (self.step, self.target_tokens, self.tokens)
    }
}

/// The steps in a file; none where there is no file yet. Evaluations are left out, and a line that is being written.
///
/// # Panics
/// When a whole line is not JSON.
#[track_caller]
pub fn read_steps(path: &Path) -> Vec<Step> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let rows = whole.lines().map(|line| serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error}: {line}")));
    rows.filter(|row| row.get("target_tokens").is_some()).map(step).collect()
}

fn step(record: Value) -> Step {
    let whole = |name: &str| record[name].as_u64().unwrap_or_else(|| panic!("no {name} in {record}"));
    let number = |name: &str| record[name].as_f64().unwrap_or(f64::NAN);
    let (loss, grad_norm) = (number("loss"), number("grad_norm"));
    Step { step: whole("step"), loss, grad_norm, target_tokens: whole("target_tokens"), tokens: whole("tokens"), record }
}

/// Asserts that two runs saw the same samples at every step, with losses and gradient norms within [`RELATIVE`] of each other.
///
/// # Panics
/// When they did not.
#[track_caller]
pub fn assert_near(what: &str, expected: &[Step], found: &[Step]) {
    assert_eq!(
        expected.iter().map(Step::samples).collect::<Vec<_>>(),
        found.iter().map(Step::samples).collect::<Vec<_>>(),
        "{what}: step, target tokens and tokens of each step"
    );
    for (a, b) in expected.iter().zip(found) {
        for (name, a, b, step) in [("loss", a.loss, b.loss, a.step), ("gradient norm", a.grad_norm, b.grad_norm, a.step)] {
            let difference = (a - b).abs() / a.abs();
            assert!(difference <= RELATIVE, "{what}, step {step}: {name} {b} against {a}, relative difference {difference:e}");
        }
    }
}

/// Asserts that two runs were the same to the last bit.
///
/// # Panics
/// When they were not.
#[track_caller]
pub fn assert_equal(what: &str, expected: &[Step], found: &[Step]) {
    let exactly = |steps: &[Step]| steps.iter().map(Step::exactly).collect::<Vec<_>>();
    assert!(exactly(expected) == exactly(found), "{what}: not bit for bit\n{expected:#?}\n{found:#?}");
}
