//! What Slurm has given to this job.
use std::time::{Duration, Instant};

use sirocco_config::environment;

use crate::chain::record::now;
use crate::chain::{hosts, slurm};
use crate::failure::{Failure, Kind};

/// The job that this program runs in.
pub(crate) struct Allocation {
    /// Its number.
    pub(crate) id: String,
    /// In the order of Slurm; the first is the one that this program runs on.
    pub(crate) nodes: Vec<String>,
    /// CPUs of this node that the job may use.
    pub(crate) cpus: u64,
    /// CPUs of each rank, where the script asked for them.
    pub(crate) cpus_per_task: Option<u64>,
    /// How often Slurm had started it before.
    pub(crate) restarts: u64,
    end: Option<Instant>,
}

impl Allocation {
    /// Asks the environment, and Slurm for the time that is left.
    pub(crate) fn here() -> Result<Allocation, Failure> {
        let said = |variable: environment::Variable| std::env::var(variable.name).ok().filter(|value| !value.is_empty());
        let (Some(id), Some(nodes)) = (said(environment::JOB_ID), said(environment::JOB_NODES)) else {
            let message =
                format!("no job of Slurm here: expected {} and {}", environment::JOB_ID.name, environment::JOB_NODES.name);
            return Err(Failure::new(Kind::Usage, message).help("sirocco submit RUN_DIR submits a job that runs this command"));
        };
        let number = |variable| said(variable).and_then(|value| value.parse::<u64>().ok());
        // A task of an array has a number of its own, too; this one is what everybody calls it.
        let task = said(environment::ARRAY_JOB).zip(said(environment::ARRAY_TASK)).map(|(array, task)| format!("{array}_{task}"));
        let id = task.unwrap_or(id);
        let left = slurm::job(&id).ok().flatten().and_then(|job| job.left).or_else(|| {
            let ends = number(environment::JOB_END)?;
            Some(Duration::from_secs_f64((ends as f64 - now()).max(0.0)))
        });
        Ok(Allocation {
            nodes: hosts::expand(&nodes).map_err(|error| Failure::new(Kind::Failed, error))?,
            cpus: number(environment::JOB_CPUS).unwrap_or(1),
            cpus_per_task: number(environment::JOB_CPUS_PER_TASK),
            restarts: number(environment::JOB_RESTARTS).unwrap_or(0),
            end: left.and_then(|left| Instant::now().checked_add(left)),
            id,
        })
    }

    /// Asks Slurm again for the time that is left, which an operator may have changed. What was known stays where it does not say.
    pub(crate) fn refresh(&mut self) {
        if let Ok(Some(left)) = slurm::job(&self.id).map(|job| job.and_then(|job| job.left)) {
            self.end = Instant::now().checked_add(left);
        }
    }

    /// Until Slurm ends the job; `None` where it has no end.
    pub(crate) fn left(&self) -> Option<Duration> {
        self.end.map(|end| end.saturating_duration_since(Instant::now()))
    }

    /// The same as a time, in seconds since 1970.
    pub(crate) fn ends(&self) -> Option<f64> {
        self.left().map(|left| (now() + left.as_secs_f64()).round())
    }
}
