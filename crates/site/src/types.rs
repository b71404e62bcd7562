//! What a site file says once it is checked. `None` is a fact that is not known.
use std::collections::BTreeMap;

use serde::Serialize;

use crate::groups::{Disk, Energy, Internet, Modules, Mpi, Network, Note, Software, Submit};
use sirocco_config::WallTime;

/// A group of facts, and the names of the sources that say them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Known<T> {
    /// What is known.
    #[serde(flatten)]
    pub facts: T,
    /// Keys of [`Site::sources`], at least one.
    pub sources: Vec<String>,
}

/// A cluster and its rules.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Site {
    /// The name by which a run file calls it.
    pub name: String,
    /// The name by which people call it.
    pub title: String,
    /// Who runs it.
    pub operator: Option<String>,
    /// Where it stands, as two letters of ISO 3166-1.
    pub country: Option<String>,
    /// What starts jobs there.
    pub scheduler: Scheduler,
    /// The partition that a training run takes unless it names another; one of `partitions`.
    pub default_partition: Option<String>,
    /// Who says the five above.
    pub named_by: Vec<String>,
    /// Partitions that a run may take, in the order of the file. There may be others on the site.
    pub partitions: Vec<Known<Partition>>,
    /// Qualities of service, in the order of the file. There may be others on the site.
    pub qos: Vec<Known<Qos>>,
    /// What a job has to bring along.
    pub submit: Option<Known<Submit>>,
    /// How nodes reach each other.
    pub network: Option<Known<Network>>,
    /// How ranks are started.
    pub mpi: Option<Known<Mpi>>,
    /// What is installed.
    pub software: Option<Known<Software>>,
    /// Environment modules.
    pub modules: Option<Known<Modules>>,
    /// The disk of a node.
    pub disk: Option<Known<Disk>>,
    /// What leaves the site.
    pub internet: Option<Known<Internet>>,
    /// Where energy is read.
    pub energy: Option<Known<Energy>>,
    /// What does not fit elsewhere and a user must know.
    pub notes: Vec<Known<Note>>,
    /// Where facts were read, by name.
    pub sources: BTreeMap<String, Source>,
}

/// Where facts were read, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Source {
    /// A page, a document of this repository, or words for what has no address of its own.
    pub at: String,
    /// The day on which it was read, YYYY-MM-DD.
    pub read: String,
    /// The state that the page had then, if it is known to be older: YYYY, YYYY-MM or YYYY-MM-DD.
    pub as_of: Option<String>,
    /// Through whom it was read, where the page itself was not.
    pub via: Option<String>,
}

/// What starts jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheduler {
    /// Slurm.
    Slurm,
    /// Nothing: commands are typed on the machine that runs them.
    None,
}

/// The instruction set of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Arch {
    /// x86-64.
    X86_64,
    /// 64-bit Arm.
    Aarch64,
}

impl Arch {
    /// The name that `uname -m` and Rust use.
    pub fn name(self) -> &'static str {
        match self {
            Arch::X86_64 => "x86_64",
            Arch::Aarch64 => "aarch64",
        }
    }

    /// The architecture of that name.
    pub fn from_name(name: &str) -> Option<Arch> {
        [Arch::X86_64, Arch::Aarch64].into_iter().find(|arch| arch.name() == name)
    }
}

/// Who makes a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Vendor {
    /// NVIDIA, programmed with CUDA.
    Nvidia,
    /// AMD, programmed with ROCm.
    Amd,
}

impl Vendor {
    /// The name as the maker writes it.
    pub fn name(self) -> &'static str {
        match self {
            Vendor::Nvidia => "NVIDIA",
            Vendor::Amd => "AMD",
        }
    }
}

/// Nodes of one kind that are asked for together.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Partition {
    /// Its name in the scheduler.
    pub name: String,
    /// How many nodes it has.
    pub nodes: Option<u64>,
    /// Cores of a node that a job may use.
    pub cores: Option<u64>,
    /// Hardware threads of a core.
    pub threads_per_core: Option<u64>,
    /// Memory of the hosts of a node, in GB as the site counts it.
    pub memory_gb: Option<u64>,
    /// Instruction set of the hosts.
    pub arch: Option<Arch>,
    /// GPUs of a node.
    pub gpus: Option<Gpus>,
    /// The longest job.
    pub max_time: Option<WallTime>,
    /// The most nodes of a job.
    pub max_nodes: Option<u64>,
    /// The most jobs of a user, waiting ones included.
    pub max_jobs: Option<u64>,
    /// Whether other jobs may run on the same node.
    pub shared: Option<bool>,
    /// The binding of ranks to cores, as srun's `--cpu-bind` takes it.
    pub cpu_bind: Option<String>,
}

/// GPUs of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Gpus {
    /// How many the scheduler counts; 0 where there are none.
    pub count: u64,
    /// Who makes them. Known wherever there are any.
    pub vendor: Option<Vendor>,
    /// What they are called.
    pub kind: Option<String>,
    /// Memory of one, in GB.
    pub memory_gb: Option<u64>,
}

/// A quality of service: limits that a job chooses.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Qos {
    /// Its name in the scheduler.
    pub name: String,
    /// The longest job.
    pub max_time: Option<WallTime>,
    /// The fewest nodes of a job.
    pub min_nodes: Option<u64>,
    /// The most nodes of a job.
    pub max_nodes: Option<u64>,
    /// The most nodes of a job, in per cent of the partition.
    pub max_percent: Option<u64>,
    /// The most jobs of a user at a time.
    pub jobs_per_user: Option<u64>,
    /// The most nodes of a user at a time.
    pub nodes_per_user: Option<u64>,
    /// Whether a job may be stopped in favour of another.
    pub preemptible: Option<bool>,
    /// Whether one has to ask the operator first.
    pub by_arrangement: Option<bool>,
    /// What it is for.
    pub purpose: Option<String>,
}

impl Site {
    /// The partition of that name.
    pub fn partition(&self, name: &str) -> Option<&Partition> {
        self.partitions.iter().map(|known| &known.facts).find(|partition| partition.name == name)
    }

    /// The quality of service of that name.
    pub fn quality(&self, name: &str) -> Option<&Qos> {
        self.qos.iter().map(|known| &known.facts).find(|qos| qos.name == name)
    }
}
