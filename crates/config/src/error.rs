//! What can be wrong with a run file, and which class of exit code each fault belongs to.
use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::place::Place;

/// Why a refusal happened; programs map it to an exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorClass {
    /// What was typed is wrong.
    Usage,
    /// What was typed is right, but this version or machine cannot do it.
    Machine,
    /// What was typed is right and possible, but must not be done.
    Policy,
}

/// A fault in the run file or in a `--set`. Each variant names the place, what was found and what was expected.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The run file cannot be read.
    #[error("{}: cannot read the run file: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The text is not TOML.
    #[error("{at}: not valid TOML: {message}")]
    Syntax {
        /// The line.
        at: Place,
        /// What the parser said.
        message: String,
    },
    /// A section that does not exist.
    #[error("{at}: unknown section [{section}]{}", did_you_mean(nearest, "sections", valid))]
    UnknownSection {
        /// Where.
        at: Place,
        /// As typed.
        section: String,
        /// The nearest valid name, if one is near.
        nearest: Option<String>,
        /// Every valid name.
        valid: String,
    },
    /// A setting that does not exist.
    #[error("{at}: unknown setting {setting}{}", did_you_mean(nearest, "settings", valid))]
    UnknownSetting {
        /// Where.
        at: Place,
        /// Section and name as typed.
        setting: String,
        /// The nearest valid name, if one is near.
        nearest: Option<String>,
        /// Every valid name of the section.
        valid: String,
    },
    /// A `--set` without the form SECTION.KEY=VALUE.
    #[error("--set {text}: expected SECTION.KEY=VALUE, such as --set train.steps=80")]
    Override {
        /// As typed.
        text: String,
    },
    /// A value of the wrong type or out of its range.
    #[error("{at}: {setting} = {found}: expected {expected}")]
    Value {
        /// Where.
        at: Place,
        /// Section and name.
        setting: String,
        /// The value as TOML.
        found: String,
        /// What it may be.
        expected: String,
    },
    /// A setting without a default is absent.
    #[error("{at}: {setting} is missing: expected {expected}")]
    Missing {
        /// The run file.
        at: Place,
        /// Section and name.
        setting: String,
        /// What it may be.
        expected: String,
    },
    /// Both `steps` and `epochs`.
    #[error("{at}: [train] epochs and [train] steps ({other}) are both set: expected exactly one of them")]
    TwoLengths {
        /// Where `epochs` stands.
        at: Place,
        /// Where `steps` stands.
        other: Place,
    },
    /// The global batch does not divide into whole micro-batches.
    #[error(
        "{at}: [train] global_batch = {global_batch}: expected a multiple of dp × micro_batch = {dp} × {micro_batch} = {}",
        dp * micro_batch
    )]
    GlobalBatch {
        /// Where `global_batch` stands.
        at: Place,
        /// Sequences per optimizer step over all ranks.
        global_batch: u64,
        /// Data-parallel ranks.
        dp: u64,
        /// Sequences per forward on one rank.
        micro_batch: u64,
    },
    /// The warm-up would never end.
    #[error("{at}: [train] warmup_steps = {warmup_steps}: expected fewer than the {steps} steps of the run")]
    Warmup {
        /// Where `warmup_steps` stands.
        at: Place,
        /// Steps of linear warm-up.
        warmup_steps: u64,
        /// Steps of the run.
        steps: u64,
    },
    /// A value that the design knows and this version does not have yet.
    #[error("{at}: {setting} = {found}: {because}")]
    NotInThisVersion {
        /// Where.
        at: Place,
        /// Section and name.
        setting: String,
        /// The value as TOML.
        found: String,
        /// What this version does instead.
        because: &'static str,
        /// [`ErrorClass::Usage`] or [`ErrorClass::Machine`].
        class: ErrorClass,
    },
    /// A policy set that would have to be enforced.
    #[error(
        "{at}: [policy] set = {found}: this version enforces no policy and will not pretend to: it takes only \"{}\"",
        crate::OPEN_POLICY
    )]
    PolicyNotEnforced {
        /// Where.
        at: Place,
        /// The value as TOML.
        found: String,
    },
    /// An override, on resuming, of something that was settled when the run began.
    #[error("{at}: {setting} was settled when the run began and cannot change on resuming")]
    FixedAtStart {
        /// Where.
        at: Place,
        /// Section and name.
        setting: String,
    },
    /// A path that a run file cannot hold.
    #[error("the complete run file cannot be written as TOML: {message}")]
    Write {
        /// What the writer said.
        message: String,
    },
}

impl ConfigError {
    /// The class that decides the exit code.
    pub fn class(&self) -> ErrorClass {
        match self {
            ConfigError::NotInThisVersion { class, .. } => *class,
            ConfigError::PolicyNotEnforced { .. } => ErrorClass::Policy,
            _ => ErrorClass::Usage,
        }
    }
}

/// The end of a message about an unknown name.
fn did_you_mean(nearest: &Option<String>, what: &str, valid: &str) -> String {
    match nearest {
        Some(name) => format!("; did you mean {name}?"),
        None => format!("; the {what} are {valid}"),
    }
}
