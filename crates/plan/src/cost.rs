//! What a whole run comes to: hours, energy, checkpoints, jobs.

use serde::Serialize;

use crate::held::held;
use crate::model::Model;
use crate::work::Work;
use sirocco_config::Parallel;

/// How long a run is and what it asks of its jobs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Saving {
    /// Optimizer steps.
    pub steps: u64,
    /// Steps between checkpoints.
    pub every_steps: u64,
    /// Seconds that a job may take, if there is a limit.
    pub job_seconds: Option<u64>,
    /// Bytes per second at which a rank writes, where that is known.
    pub disk: Option<f64>,
    /// Watts of a rank's device, where they are known.
    pub watts: Option<f64>,
}

/// What it comes to. `None` is what is not known.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Cost {
    /// Of all steps.
    pub hours: Option<f64>,
    /// Times ranks.
    pub rank_hours: Option<f64>,
    /// Kilowatt hours of the devices alone, at the most they take.
    pub kwh: Option<f64>,
    /// Of one checkpoint, over all ranks.
    pub checkpoint_bytes: u64,
    /// Of the largest part that one rank writes.
    pub shard_bytes: u64,
    /// Checkpoints, the last one included.
    pub checkpoints: u64,
    /// Seconds until the rank with the largest part has written it.
    pub checkpoint_seconds: Option<f64>,
    /// Jobs of the chain, at least.
    pub jobs: Option<u64>,
}

/// Adds up a run whose steps take `step_seconds`.
pub fn cost(model: &Model, work: &Work, parallel: &Parallel, (saving, step_seconds): (&Saving, Option<f64>)) -> Cost {
    let stages = held(model, work, parallel);
    // Master copy and two moments of each trained element, which its first holder writes.
    let shard_bytes = stages.iter().map(|held| held.trained * 12).max().unwrap_or(0);
    let checkpoint_bytes = checkpoint_bytes(model, work, parallel);
    let seconds = step_seconds.map(|each| each * saving.steps as f64);
    let hours = seconds.map(|seconds| seconds / 3600.0);
    let rank_hours = hours.map(|hours| hours * parallel.ranks() as f64);
    Cost {
        hours,
        rank_hours,
        kwh: rank_hours.zip(saving.watts).map(|(hours, watts)| hours * watts / 1000.0),
        checkpoint_bytes,
        shard_bytes,
        checkpoints: saving.steps.div_ceil(saving.every_steps.max(1)),
        checkpoint_seconds: saving.disk.map(|rate| shard_bytes as f64 / rate),
        jobs: seconds.zip(saving.job_seconds).map(|(seconds, limit)| ((seconds / limit.max(1) as f64).ceil() as u64).max(1)),
    }
}

/// Bytes of one checkpoint, over all ranks: the same on every mesh.
pub fn checkpoint_bytes(model: &Model, work: &Work, parallel: &Parallel) -> u64 {
    // Factors that are held whole along tp are written once.
    let alone = Parallel { pp: 1, dp: 1, fsdp: 1, tp: 1, ..parallel.clone() };
    held(model, work, &alone).iter().map(|held| held.trained * 12).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::tests::mesh;
    use crate::model::tests::SMALL;
    use crate::work::tests::{full, lora};

    const SAVING: Saving = Saving { steps: 60, every_steps: 20, job_seconds: Some(100), disk: Some(1e8), watts: Some(500.0) };

    #[test]
    fn a_run_adds_up() {
        let found = cost(&SMALL, &full(), &mesh(1, 2, 2, 1), (&SAVING, Some(6.0)));
        assert_eq!((found.hours, found.rank_hours, found.kwh), (Some(0.1), Some(0.4), Some(0.2)));
        // `make bench` counts 1614 MB for the whole of it.
        assert_eq!(found.checkpoint_bytes / 1_000_000, 1614);
        assert_eq!((found.shard_bytes / 1_000_000, found.checkpoints, found.jobs), (807, 3, Some(4)));
        assert!(found.checkpoint_seconds.is_some_and(|seconds| (seconds - 8.07).abs() < 0.01));
        let adapter = cost(&SMALL, &lora(), &mesh(1, 1, 1, 1), (&SAVING, None));
        assert_eq!((adapter.checkpoint_bytes / 1_000_000, adapter.hours, adapter.jobs), (58, None, None));
        let shared = cost(&SMALL, &lora(), &mesh(1, 1, 1, 3), (&SAVING, None));
        assert_eq!(shared.checkpoint_bytes, adapter.checkpoint_bytes);
    }
}
