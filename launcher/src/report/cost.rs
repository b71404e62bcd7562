//! What a run has cost: hours of nodes, GPUs and cores, and energy, each with where the figure comes from. What nobody measured is not zero.
use serde::Serialize;
use sirocco_config::{Device, Run};
use sirocco_site::Partition;

use crate::report::accounting::{self, Account};
use crate::report::chain::Stint;
use crate::site::find;

const HOUR: f64 = 3600.0;
const JOULES_IN_A_KWH: f64 = 3.6e6;

/// A figure and its source.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Figure {
    /// None where it is not measured.
    pub(crate) value: Option<f64>,
    /// Where it comes from, or why it is not known.
    pub(crate) source: String,
    /// What a person reads in place of a value.
    #[serde(skip)]
    absent: &'static str,
}

impl Figure {
    fn of(value: f64, source: impl Into<String>) -> Figure {
        Figure { value: Some(value), source: source.into(), absent: "" }
    }

    fn unknown(why: impl Into<String>) -> Figure {
        Figure { value: None, source: why.into(), absent: "not measured" }
    }

    /// There was nothing to measure.
    fn none(why: impl Into<String>) -> Figure {
        Figure { value: None, source: why.into(), absent: "none" }
    }

    /// With two digits behind the point, or more of a small number.
    pub(crate) fn words(&self) -> String {
        match self.value {
            None => self.absent.to_owned(),
            Some(value) if value.abs() >= 1.0 => format!("{value:.2}"),
            Some(value) => format!("{value:.4}"),
        }
    }
}

/// What a run has cost until now.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Cost {
    pub(crate) node_hours: Figure,
    pub(crate) gpu_hours: Figure,
    pub(crate) core_hours: Figure,
    pub(crate) energy_kwh: Figure,
}

/// The cost of `stints`.
pub(crate) fn cost(run: &Run, stints: &[Stint]) -> Cost {
    let on_slurm = stints.iter().any(|stint| stint.job.is_some());
    let account = accounting::of(stints);
    let node_hours = node_hours(stints, account.as_ref().ok());
    if !on_slurm {
        return Cost {
            gpu_hours: gpus_here(run, stints),
            core_hours: cores_here(stints),
            energy_kwh: Figure::unknown("nothing counts the energy of a run without Slurm"),
            node_hours,
        };
    }
    let partition = partition(run);
    let partition = partition.as_ref().map_err(String::as_str);
    Cost {
        gpu_hours: gpu_hours(run, &node_hours, account.as_ref().ok(), partition),
        core_hours: core_hours(&node_hours, partition),
        energy_kwh: match &account {
            Ok(Account { joules: Some(joules), .. }) => Figure::of(
                *joules as f64 / JOULES_IN_A_KWH,
                format!("Slurm's accounting: {joules} joules (ConsumedEnergyRaw of sacct)"),
            ),
            Ok(_) => Figure::unknown("Slurm's accounting counts no energy here (ConsumedEnergyRaw of sacct is empty or 0)"),
            Err(why) => Figure::unknown(why),
        },
        node_hours,
    }
}

fn node_hours(stints: &[Stint], account: Option<&Account>) -> Figure {
    if let Some(account) = account {
        let source = format!("Slurm's accounting: AllocNodes × ElapsedRaw of sacct over {} starts of jobs", account.jobs);
        return Figure::of(account.node_seconds / HOUR, source);
    }
    let seconds = |stint: &Stint| Some(stint.seconds()? * stint.node_count() as f64);
    let known: Vec<f64> = stints.iter().filter_map(seconds).collect();
    if known.is_empty() {
        return Figure::unknown("neither jobs.jsonl nor the log of rank 0 says when the run was at work");
    }
    let from = if stints.iter().any(|stint| stint.job.is_some()) {
        "nodes × time of each job in jobs.jsonl"
    } else {
        "one node, from the first line to the last of each start in the log of rank 0"
    };
    let open = stints.iter().filter(|stint| stint.began.is_some() && !stint.has_end).count();
    let open = if open == 0 {
        String::new()
    } else {
        format!("; at least: of {open} starts nobody recorded the end, the last sign of life counts")
    };
    Figure::of(known.iter().sum::<f64>() / HOUR, format!("{from}{open}"))
}

fn gpu_hours(run: &Run, nodes: &Figure, account: Option<&Account>, partition: Result<&(Partition, String), &str>) -> Figure {
    let is_measured = account.and_then(|account| account.gpu_seconds).is_some_and(|seconds| seconds > 0.0);
    let takes_whole_nodes = partition.is_ok_and(|(partition, _)| partition.shared == Some(false));
    if run.model.device != Device::Cuda && !is_measured && !takes_whole_nodes {
        return Figure::none("the run computed on the CPU, and its jobs asked for no GPUs");
    }
    let computed = if run.model.device == Device::Cuda { "" } else { "; they were allocated, the run computed on the CPU" };
    if let Some(seconds) = account.and_then(|account| account.gpu_seconds) {
        return Figure::of(seconds / HOUR, format!("Slurm's accounting: gres/gpu of AllocTRES × ElapsedRaw of sacct{computed}"));
    }
    let (partition, source) = match partition {
        Ok(known) => known,
        Err(why) => return Figure::unknown(why),
    };
    match (partition.gpus.as_ref().map(|gpus| gpus.count), nodes.value) {
        (Some(0), _) => Figure::none(format!("the nodes have none ({source})")),
        (Some(count), Some(hours)) => {
            Figure::of(hours * count as f64, format!("node-hours × {count} GPUs a node ({source}){computed}"))
        }
        (None, _) => Figure::unknown(format!("GPUs of a node are not known ({source})")),
        (_, None) => Figure::unknown(nodes.source.clone()),
    }
}

fn core_hours(nodes: &Figure, partition: Result<&(Partition, String), &str>) -> Figure {
    match (partition, nodes.value) {
        (Err(why), _) => Figure::unknown(why),
        (Ok((Partition { cores: Some(cores), .. }, source)), Some(hours)) => {
            Figure::of(hours * *cores as f64, format!("node-hours × {cores} cores a node ({source})"))
        }
        (Ok((_, source)), Some(_)) => Figure::unknown(format!("cores of a node are not known ({source})")),
        (_, None) => Figure::unknown(nodes.source.clone()),
    }
}

/// The partition of the run's jobs, with words about who says so.
fn partition(run: &Run) -> Result<(Partition, String), String> {
    let found = find::site(&run.site.profile).map_err(|failure| failure.message)?;
    let name = run.site.partition.as_ref().or(found.site.default_partition.as_ref());
    let name = name.ok_or_else(|| {
        format!(
            "what a node has is not known: neither the run file nor the profile of site {} names a partition",
            found.site.name
        )
    })?;
    let known = found.site.partition(name).cloned();
    let source = format!("site {}, partition {name}", found.site.name);
    known
        .map(|partition| (partition, source))
        .ok_or_else(|| format!("the profile of site {} has no partition {name}", found.site.name))
}

/// Hours of the ranks, each with `each` of something; none where one start does not say how many ranks it had.
fn rank_hours(stints: &[Stint], each: impl Fn(&Stint) -> Option<u64>) -> Option<f64> {
    let of = |stint: &Stint| Some(stint.seconds()? * each(stint)? as f64);
    let sum: Option<f64> = stints.iter().map(of).sum();
    sum.filter(|_| !stints.is_empty()).map(|seconds| seconds / HOUR)
}

fn gpus_here(run: &Run, stints: &[Stint]) -> Figure {
    if run.model.device != Device::Cuda {
        return Figure::none("the run computed on the CPU");
    }
    match rank_hours(stints, |stint| stint.attempts.first()?.ranks) {
        Some(hours) => Figure::of(hours, "one GPU a rank × the time of each start in the log of rank 0"),
        None => Figure::unknown("the log of rank 0 does not say how many ranks there were, and when"),
    }
}

fn cores_here(stints: &[Stint]) -> Figure {
    let cores = |stint: &Stint| stint.attempts.first().and_then(|attempt| Some(attempt.ranks? * attempt.threads?));
    match rank_hours(stints, cores) {
        Some(hours) => Figure::of(hours, "ranks × threads of each × the time of each start in the log of rank 0"),
        None => Figure::unknown("the log of rank 0 does not say how many ranks and threads there were, and when"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::chain::Attempt;
    use std::path::Path;

    fn run(more: &str) -> Run {
        let text = format!("name = 'x'\nmodel.path = 'm'\ndata.train = ['a']\ntrain.steps = 1\n{more}");
        sirocco_config::RunFile::parse(&text, Path::new("run.toml")).unwrap().check(Path::new("/")).unwrap()
    }

    fn stint(job: Option<&str>, seconds: f64, nodes: &[&str]) -> Stint {
        Stint {
            job: job.map(str::to_owned),
            began: Some(1000.0),
            last: Some(1000.0 + seconds),
            has_end: true,
            nodes: nodes.iter().map(|node| (*node).to_owned()).collect(),
            attempts: vec![Attempt { ranks: Some(2), threads: Some(3), ..Attempt::default() }],
            ..Stint::default()
        }
    }

    /// The one of the run below, with or without others on its nodes.
    fn partition_with(shared: Option<bool>) -> (Partition, String) {
        let (partition, source) = partition(&run("site = { profile = 'meluxina', partition = 'gpu' }\n")).unwrap();
        (Partition { shared, ..partition }, source)
    }

    #[test]
    fn a_run_here_costs_the_time_of_its_ranks() {
        let cost = cost(&run(""), &[stint(None, 1800.0, &[]), stint(None, 3600.0, &[])]);
        assert_eq!((cost.node_hours.value, cost.core_hours.value), (Some(1.5), Some(9.0)));
        assert_eq!((cost.gpu_hours.words().as_str(), cost.gpu_hours.source.as_str()), ("none", "the run computed on the CPU"));
        assert_eq!((cost.energy_kwh.value, cost.energy_kwh.words()), (None, "not measured".to_owned()));
        let cuda = run("model.device = 'cuda'\n");
        assert_eq!(super::cost(&cuda, &[stint(None, 3600.0, &[])]).gpu_hours.value, Some(2.0));
    }

    #[test]
    fn gpus_are_those_of_the_partition_where_nobody_counted_them() {
        let cuda = run("model.device = 'cuda'\nsite = { profile = 'meluxina', partition = 'gpu' }\n");
        let run = run("site = { profile = 'meluxina', partition = 'gpu' }\n");
        let stints = [stint(Some("7"), 3600.0, &["mel2001", "mel2002"])];
        let (nodes, partition) = (node_hours(&stints, None), partition(&run).unwrap());
        assert_eq!((nodes.value, nodes.source.as_str()), (Some(2.0), "nodes × time of each job in jobs.jsonl"));
        let known = Ok::<_, &str>(&partition);
        let gpus = gpu_hours(&run, &nodes, None, known);
        assert_eq!(gpus.value, Some(8.0));
        assert!(gpus.source.contains("4 GPUs a node (site meluxina, partition gpu); they were allocated"), "{gpus:?}");
        assert_eq!(core_hours(&nodes, known).value, Some(128.0));
        let shared = partition_with(Some(true));
        let on_the_cpu = gpu_hours(&run, &nodes, None, Ok(&shared));
        assert_eq!((on_the_cpu.words().as_str(), on_the_cpu.value), ("none", None), "a part of a node, and no GPU of it");
        assert_eq!(gpu_hours(&run, &nodes, None, Err("no partition is named")).words(), "none");
        assert_eq!(gpu_hours(&cuda, &nodes, None, Ok(&shared)).value, Some(8.0));
        let account = Account { node_seconds: 7200.0, gpu_seconds: Some(3600.0), joules: Some(7_200_000), jobs: 1 };
        assert_eq!(gpu_hours(&run, &nodes, Some(&account), known).value, Some(1.0));
        assert_eq!(node_hours(&stints, Some(&account)).value, Some(2.0));
    }

    #[test]
    fn an_end_that_nobody_recorded_makes_it_at_least() {
        let open = Stint { has_end: false, ..stint(Some("7"), 3600.0, &["n1"]) };
        assert!(node_hours(&[open], None).source.contains("at least: of 1 starts nobody recorded the end"));
        assert_eq!(node_hours(&[], None).value, None);
    }
}
