//! What a run needs of a site, and why a site cannot give it.
use serde::Serialize;
use thiserror::Error;

use crate::types::{Arch, Partition, Qos, Site, Vendor};
use sirocco_config::WallTime;

/// What a run needs. What is `None` or 0 is not asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// The partition it names; without one, the default of the site.
    pub partition: Option<String>,
    /// The quality of service it names.
    pub qos: Option<String>,
    /// Where its ranks compute.
    pub runs: Runs,
    /// What its programs were built for.
    pub programs: Option<Arch>,
    /// GPUs of each node.
    pub gpus_per_node: u64,
    /// How many nodes.
    pub nodes: u64,
    /// How long a job.
    pub time: Option<WallTime>,
}

/// Where ranks compute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Runs {
    /// On the cores of the hosts.
    #[default]
    Cpu,
    /// On GPUs, with CUDA.
    Cuda,
}

/// A limit on the nodes of a job.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct MostNodes {
    /// How many.
    pub nodes: u64,
    /// Whose limit that is, in words: `partition gpu`.
    pub limit_of: String,
}

/// Why a run cannot work on a site. Each variant names where, what is there and what was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Reason {
    /// GPUs that CUDA does not know.
    #[error("partition {partition} has GPUs of {}{}, and CUDA runs on NVIDIA's alone", vendor.name(), called(gpu))]
    OtherGpus {
        /// Where.
        partition: String,
        /// Who makes them.
        vendor: Vendor,
        /// What they are called.
        gpu: Option<String>,
    },
    /// No GPUs.
    #[error("partition {partition} has no GPUs: found 0 per node, and the run computes with CUDA")]
    NoGpus {
        /// Where.
        partition: String,
    },
    /// Fewer GPUs than asked for.
    #[error("partition {partition} has {found} GPUs per node: the run asks for {asked}")]
    FewerGpus {
        /// Where.
        partition: String,
        /// What a node has.
        found: u64,
        /// What the run needs.
        asked: u64,
    },
    /// Programs that its hosts cannot execute.
    #[error(
        "hosts of partition {partition} are {}, and the programs are built for {}: expected sirocco, libtorch, MPI and NCCL for {}",
        hosts.name(), programs.name(), hosts.name()
    )]
    OtherArch {
        /// Where.
        partition: String,
        /// What the hosts are.
        hosts: Arch,
        /// What the programs are built for.
        programs: Arch,
    },
    /// More nodes than a job may have.
    #[error("{limit_of} gives a job at most {most} nodes: the run asks for {asked}")]
    TooManyNodes {
        /// The partition or quality of service.
        limit_of: String,
        /// Its limit.
        most: u64,
        /// What the run needs.
        asked: u64,
    },
    /// Fewer nodes than a job must have.
    #[error("{limit_of} is for jobs of at least {least} nodes: the run asks for {asked}")]
    TooFewNodes {
        /// The quality of service.
        limit_of: String,
        /// Its limit.
        least: u64,
        /// What the run needs.
        asked: u64,
    },
    /// A job that is too long.
    #[error("{limit_of} gives a job at most {most}: the run asks for {asked}")]
    TooLong {
        /// The partition or quality of service.
        limit_of: String,
        /// Its limit.
        most: WallTime,
        /// What the run needs.
        asked: WallTime,
    },
}

impl Site {
    /// Why a run with these needs cannot work here: the first reason, or `None`. What the profile does not know it does not refuse; a
    /// partition or quality of service that it does not list may exist.
    pub fn refuses(&self, needs: &Needs) -> Option<Reason> {
        let partition = needs.partition.as_deref().or(self.default_partition.as_deref()).and_then(|name| self.partition(name));
        let qos = needs.qos.as_deref().and_then(|name| self.quality(name));
        let unfit = partition.and_then(|partition| hosts(partition, needs).or_else(|| gpus(partition, needs)));
        unfit.or_else(|| nodes(partition, qos, needs.nodes)).or_else(|| time(partition, qos, needs.time?))
    }

    /// The most nodes of a job in a partition (the default one without a name) with a quality of service; `None` where the profile knows no limit.
    pub fn most_nodes(&self, partition: Option<&str>, qos: Option<&str>) -> Option<MostNodes> {
        let partition = partition.or(self.default_partition.as_deref()).and_then(|name| self.partition(name));
        most_nodes(partition, qos.and_then(|name| self.quality(name)))
    }
}

fn hosts(partition: &Partition, needs: &Needs) -> Option<Reason> {
    let (hosts, programs) = (partition.arch?, needs.programs?);
    (hosts != programs).then(|| Reason::OtherArch { partition: partition.name.clone(), hosts, programs })
}

fn gpus(partition: &Partition, needs: &Needs) -> Option<Reason> {
    if needs.runs == Runs::Cpu {
        return None;
    }
    let (name, gpus) = (partition.name.clone(), partition.gpus.as_ref()?);
    match gpus.vendor {
        _ if gpus.count == 0 => Some(Reason::NoGpus { partition: name }),
        Some(vendor) if vendor != Vendor::Nvidia => Some(Reason::OtherGpus { partition: name, vendor, gpu: gpus.kind.clone() }),
        _ if needs.gpus_per_node > gpus.count => {
            Some(Reason::FewerGpus { partition: name, found: gpus.count, asked: needs.gpus_per_node })
        }
        _ => None,
    }
}

fn nodes(partition: Option<&Partition>, qos: Option<&Qos>, asked: u64) -> Option<Reason> {
    let least = qos.and_then(|qos| Some((qos.min_nodes?, format!("QOS {}", qos.name))));
    match (least, most_nodes(partition, qos)) {
        _ if asked == 0 => None,
        (_, Some(MostNodes { nodes: most, limit_of })) if asked > most => Some(Reason::TooManyNodes { limit_of, most, asked }),
        (Some((least, limit_of)), _) if asked < least => Some(Reason::TooFewNodes { limit_of, least, asked }),
        _ => None,
    }
}

/// The lowest limit of both.
fn most_nodes(partition: Option<&Partition>, qos: Option<&Qos>) -> Option<MostNodes> {
    let of_partition = |partition: &Partition, nodes| MostNodes { nodes, limit_of: format!("partition {}", partition.name) };
    let limits = [
        partition.and_then(|partition| Some(of_partition(partition, partition.max_nodes?))),
        partition.and_then(|partition| Some(of_partition(partition, partition.nodes?))),
        qos.and_then(|qos| Some(MostNodes { nodes: qos.max_nodes?, limit_of: format!("QOS {}", qos.name) })),
        // At least one node: a percentage of a small partition never means none.
        partition.zip(qos).and_then(|(partition, qos)| {
            let nodes = (partition.nodes? * qos.max_percent? / 100).max(1);
            Some(MostNodes { nodes, limit_of: format!("QOS {} in partition {}", qos.name, partition.name) })
        }),
    ];
    limits.into_iter().flatten().min()
}

fn time(partition: Option<&Partition>, qos: Option<&Qos>, asked: WallTime) -> Option<Reason> {
    let limits = [
        partition.and_then(|partition| Some((partition.max_time?, format!("partition {}", partition.name)))),
        qos.and_then(|qos| Some((qos.max_time?, format!("QOS {}", qos.name)))),
    ];
    let (most, limit_of) = limits.into_iter().flatten().min()?;
    (asked > most).then_some(Reason::TooLong { limit_of, most, asked })
}

fn called(gpu: &Option<String>) -> String {
    gpu.as_ref().map_or_else(String::new, |gpu| format!(" ({gpu})"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    const SITE: &str = "\
[site]
name = 'here'
title = 'Here'
scheduler = 'slurm'
default_partition = 'gpu'
sources = ['us']
[source.us]
document = 'README.md'
read = '2026-11-22'
[partition.gpu]
sources = ['us']
nodes = 200
arch = 'aarch64'
gpus = { count = 4, vendor = 'nvidia' }
[partition.red]
sources = ['us']
max_nodes = 4
max_time = '3-00:00:00'
gpus = { count = 8, vendor = 'amd', kind = 'MI250X' }
[partition.cpu]
sources = ['us']
gpus = { count = 0 }
[qos.short]
sources = ['us']
max_percent = 5
max_time = '06:00:00'
[qos.big]
sources = ['us']
min_nodes = 65
";

    fn refused(change: impl FnOnce(&mut Needs)) -> Option<String> {
        let site = Site::parse(SITE, Path::new("here.toml")).unwrap();
        let mut needs = Needs::default();
        change(&mut needs);
        site.refuses(&needs).map(|reason| reason.to_string())
    }

    fn on(needs: &mut Needs, partition: &str) {
        (needs.partition, needs.runs) = (Some(partition.to_owned()), Runs::Cuda);
    }

    #[test]
    fn cuda_wants_gpus_of_nvidia() {
        assert_eq!(refused(|needs| needs.runs = Runs::Cuda), None);
        let reason = refused(|needs| on(needs, "red")).unwrap();
        assert_eq!(reason, "partition red has GPUs of AMD (MI250X), and CUDA runs on NVIDIA's alone");
        assert!(refused(|needs| on(needs, "cpu")).unwrap().contains("has no GPUs"));
        assert_eq!(refused(|needs| needs.partition = Some("red".to_owned())), None, "cores are cores");
        let reason = refused(|needs| (needs.runs, needs.gpus_per_node) = (Runs::Cuda, 8)).unwrap();
        assert_eq!(reason, "partition gpu has 4 GPUs per node: the run asks for 8");
    }

    #[test]
    fn hosts_run_what_was_built_for_them() {
        let reason = refused(|needs| needs.programs = Some(Arch::X86_64)).unwrap();
        assert_eq!(
            reason,
            "hosts of partition gpu are aarch64, and the programs are built for x86_64: expected sirocco, libtorch, MPI and NCCL for aarch64"
        );
        assert_eq!(refused(|needs| needs.programs = Some(Arch::Aarch64)), None);
    }

    #[test]
    fn the_tightest_limit_is_named() {
        let short = |needs: &mut Needs| needs.qos = Some("short".to_owned());
        assert_eq!(refused(|needs| (needs.nodes, _) = (10, short(needs))), None);
        let reason = refused(|needs| (needs.nodes, _) = (11, short(needs))).unwrap();
        assert_eq!(reason, "QOS short in partition gpu gives a job at most 10 nodes: the run asks for 11");
        assert!(refused(|needs| needs.nodes = 201).unwrap().starts_with("partition gpu gives a job at most 200 nodes"));
        let reason = refused(|needs| (needs.nodes, needs.qos) = (64, Some("big".to_owned()))).unwrap();
        assert_eq!(reason, "QOS big is for jobs of at least 65 nodes: the run asks for 64");
        let day = WallTime::parse("1-00:00:00");
        let reason = refused(|needs| (needs.time, _) = (day, short(needs))).unwrap();
        assert_eq!(reason, "QOS short gives a job at most 06:00:00: the run asks for 1-00:00:00");
    }

    #[test]
    fn what_is_not_known_is_not_refused() {
        assert_eq!(refused(|needs| on(needs, "elsewhere")), None);
        assert_eq!(refused(|needs| (needs.qos, needs.time) = (Some("x".to_owned()), WallTime::parse("99-0"))), None);
    }
}
