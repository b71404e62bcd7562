//! Groups of facts about a site as a whole: what a job brings along, network, MPI, software, disk, internet, energy.
use std::collections::BTreeMap;

use serde::Serialize;

/// What a job has to bring along.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Submit {
    /// What every job must name.
    pub required: Vec<Required>,
    /// Options that every job gets, as sbatch takes them.
    pub options: Vec<String>,
    /// What an account looks like.
    pub account_form: Option<String>,
    /// Whether jobs get whole nodes whatever they ask for.
    pub whole_nodes: Option<bool>,
    /// How GPUs are asked for; `{gpus}` stands for their number on a node.
    pub gpu_request: Option<String>,
}

/// Something that a job must name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Required {
    /// `--account`
    Account,
    /// `--partition`
    Partition,
    /// `--qos`
    Qos,
    /// `--time`
    Time,
    /// `--nodes`
    Nodes,
}

impl Required {
    /// Every one, in the order in which people write them.
    pub const ALL: [Required; 5] = [Required::Account, Required::Partition, Required::Qos, Required::Time, Required::Nodes];

    /// The option of sbatch, without its dashes.
    pub fn name(self) -> &'static str {
        match self {
            Required::Account => "account",
            Required::Partition => "partition",
            Required::Qos => "qos",
            Required::Time => "time",
            Required::Nodes => "nodes",
        }
    }
}

/// How nodes reach each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Network {
    /// What it is.
    pub fabric: Option<String>,
    /// Adapters of a node.
    pub ports: Option<u64>,
    /// Gigabits per second of one adapter and direction.
    pub port_gbit: Option<u64>,
    /// Interfaces of the compute nodes that carry the job's traffic; `hsn*` is every one whose name begins so.
    pub interfaces: Vec<String>,
    /// What a host's name ends with when it means its address on the fabric.
    pub host_suffix: Option<String>,
    /// Environment variables of NCCL and the like that the site recommends.
    pub environment: BTreeMap<String, String>,
}

/// How ranks are started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Mpi {
    /// What starts them.
    pub start: MpiStart,
}

/// What starts the ranks of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MpiStart {
    /// `srun` with whatever the site's `MpiDefault` is.
    Srun,
    /// `srun --mpi=pmix`
    Pmix,
    /// `srun --mpi=pmi2`
    Pmi2,
    /// `mpirun`, inside the allocation where there is one.
    Mpirun,
}

impl MpiStart {
    /// The command, as people type it.
    pub fn command(self) -> &'static str {
        match self {
            MpiStart::Srun => "srun",
            MpiStart::Pmix => "srun --mpi=pmix",
            MpiStart::Pmi2 => "srun --mpi=pmi2",
            MpiStart::Mpirun => "mpirun",
        }
    }

    /// The plugin of Slurm that the command names.
    pub fn plugin(self) -> Option<&'static str> {
        match self {
            MpiStart::Pmix => Some("pmix"),
            MpiStart::Pmi2 => Some("pmi2"),
            MpiStart::Srun | MpiStart::Mpirun => None,
        }
    }
}

/// What is installed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Software {
    /// Version of Slurm.
    pub slurm: Option<String>,
    /// The daemon that starts processes on compute nodes, where it is not Slurm's own.
    pub node_daemon: Option<String>,
    /// Operating system of the compute nodes.
    pub os: Option<String>,
    /// Version of the GPUs' driver.
    pub gpu_driver: Option<String>,
}

/// Environment modules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Modules {
    /// What a job loads, in this order.
    pub load: Vec<String>,
    /// Whether login nodes have modules, too.
    pub on_login_nodes: Option<bool>,
}

/// The disk of a compute node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Disk {
    /// What it is made of.
    pub kind: DiskKind,
    /// Its size.
    pub gb: Option<u64>,
    /// Where it is mounted.
    pub path: Option<String>,
}

/// What a node's own disk is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DiskKind {
    /// A disk.
    Ssd,
    /// Memory that looks like a disk: what is written there is missing from the job.
    Memory,
}

/// What leaves the compute nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Internet {
    /// Whether they reach the internet.
    pub compute_nodes: Outbound,
    /// How that is known.
    pub words: Option<String>,
}

/// Whether hosts reach the internet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outbound {
    /// They do: the site confines nothing.
    Open,
    /// They do not.
    Closed,
}

/// Where energy is read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Energy {
    /// `sacct`, `nvml`, or a path of the compute nodes.
    pub read_at: Vec<String>,
}

/// What a user must know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Note {
    /// A sentence or two.
    pub text: String,
}
