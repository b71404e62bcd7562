//! `sirocco policy`: what is allowed, and which rule said so; sets of rules made, tried and signed; approvals.
mod approve;
mod check;
mod explain;
mod sets;

use std::path::Path;

use sirocco_config::Run;
use sirocco_policy::Action;

use crate::cli::{Overrides, PolicyAction};
use crate::failure::Failure;
use crate::gate::{DataFile, RunPolicy, next_action};
use crate::train::directory::RunDirectory;
use crate::train::{here, read_run_file, run_to_resume};

/// Gives the exit code, which is 0 for all but `test`.
pub(crate) fn run(action: &PolicyAction) -> Result<u8, Failure> {
    match action {
        PolicyAction::Check(arguments) => check::run(arguments)?,
        PolicyAction::Explain(arguments) => explain::run(arguments)?,
        PolicyAction::Test(arguments) => return sets::test(arguments),
        PolicyAction::Init(arguments) => sets::init(arguments)?,
        PolicyAction::Sign(arguments) => sets::sign(arguments)?,
        PolicyAction::Approve(arguments) => approve::run(arguments)?,
    }
    Ok(0)
}

pub(crate) use check::words;

/// A run that is asked about.
struct Subject {
    policy: RunPolicy,
    data: Vec<DataFile>,
    /// That it is there already.
    directory: Option<RunDirectory>,
}

impl Subject {
    /// Reads what was typed, and measures the data.
    fn read(typed: &Path, overrides: &Overrides) -> Result<Subject, Failure> {
        let (run, directory) = run_of(typed, overrides)?;
        let policy = RunPolicy::open(&run)?;
        let tokens = directory.as_ref().map(RunDirectory::tokens);
        let data = policy.measure(&run, tokens.as_deref())?;
        Ok(Subject { policy, data, directory })
    }

    /// What is usually done with it.
    fn usual(&self) -> Action {
        self.path().map_or(Action::Train, next_action)
    }

    fn path(&self) -> Option<&Path> {
        self.directory.as_ref().map(RunDirectory::path)
    }
}

fn run_of(typed: &Path, overrides: &Overrides) -> Result<(Run, Option<RunDirectory>), Failure> {
    if typed.is_dir() {
        let directory = RunDirectory::existing(typed)?;
        let run = run_to_resume(&directory, overrides)?.1;
        return Ok((run, Some(directory)));
    }
    Ok((read_run_file(typed, overrides)?.check(&here()?)?, None))
}
