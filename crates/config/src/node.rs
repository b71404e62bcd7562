//! What `sirocco-train node` says of a node and of the links between nodes: JSON objects, one a line, which that program writes and `sirocco`
//! reads. A field that is not there, as from another version, is as one that could not be found out.
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The directory in a run directory in which nodes are tested.
pub const NODES_DIRECTORY: &str = ".nodes";

/// The file there in which the launcher writes what every node must find.
pub const STAMP: &str = "stamp";

/// One node, as found by a program that ran on it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeReport {
    /// As Slurm calls it; where Slurm has not started the program, the host name.
    pub node: String,
    /// The host name.
    pub host: String,
    /// When it was started, in seconds since 1970.
    pub boot: Option<f64>,
    /// Its clock when the line was written, in seconds since 1970.
    pub clock: f64,
    /// How long the test took.
    pub seconds: f64,
    /// Of `sirocco`, `libtorch`, `libc`, `kernel`, and with a GPU `driver`, `cuda` and `nccl`.
    pub versions: BTreeMap<String, Option<String>>,
    /// Cores that the program may use.
    pub cores: Option<u64>,
    /// All memory of the node, in bytes.
    pub memory_bytes: Option<u64>,
    /// Memory that can be had, in bytes.
    pub memory_available_bytes: Option<u64>,
    /// What the run computes on: all cores together, or each GPU.
    pub devices: Option<Vec<DeviceReport>>,
    /// The directories that a run writes to: `run`, `staging` and `tmp`.
    pub space: BTreeMap<String, Space>,
    /// Whether the run directory holds the text that the launcher wrote there.
    pub stamp: Option<bool>,
    /// Seconds to write, sync, rename and read back a small file in the run directory.
    pub write_s: Option<f64>,
    /// What every rank opens first: the model and the tokens.
    pub files: Vec<Opened>,
    /// Why what is null could not be found out, by the name of the field.
    pub reasons: BTreeMap<String, String>,
}

/// Something that computes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeviceReport {
    /// `cpu`, or `cuda:0` and so on.
    pub name: String,
    /// What its maker calls it.
    pub kind: Option<String>,
    /// Matrix products, of each element type.
    pub products: Vec<Product>,
    /// Memory of its own.
    pub memory: Option<DeviceMemory>,
    /// Why it cannot be used, or not be tested to the end.
    pub failed: Option<String>,
}

/// A matrix product whose result is known.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Product {
    /// `fp32` or `bf16`.
    pub dtype: String,
    /// The best speed, in billions of operations a second; a multiplication and an addition are two.
    pub gflops: f64,
    /// Rows of the results that were compared.
    pub rows: u64,
    /// Those of them that were wrong.
    pub wrong_rows: u64,
}

/// The memory of a device that has its own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeviceMemory {
    /// All of it.
    pub bytes: u64,
    /// What nobody else had taken.
    pub free_bytes: u64,
    /// What was written and read back.
    pub tested_bytes: u64,
    /// Words of eight bytes that did not come back as written.
    pub wrong_words: u64,
}

/// A directory that a run writes to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Space {
    /// Where it is.
    pub path: String,
    /// What its file system has left for this user, in bytes. Quotas are not seen.
    pub free_bytes: Option<u64>,
}

/// A file or directory that must be readable.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Opened {
    /// Where it is.
    pub path: String,
    /// Why it cannot be read; null when it can.
    pub error: Option<String>,
}

/// A line of the test of the links.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "snake_case")]
pub enum LinkLine {
    /// One pair.
    Pair(LinkReport),
    /// The last line.
    Summary(LinkSummary),
}

/// The link between two nodes, as messages between two ranks of a run see it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LinkReport {
    /// Both, as Slurm calls them.
    pub nodes: [String; 2],
    /// Half of the best round trip of eight bytes.
    pub latency_s: Option<f64>,
    /// The best speed of a large message, in one direction at a time.
    pub bytes_per_s: Option<f64>,
    /// Why it was not measured.
    pub reason: Option<String>,
}

/// What the lines before it are part of.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LinkSummary {
    /// Every node, by rank.
    pub nodes: Vec<String>,
    /// How long it took, from the moment when all ranks had met.
    pub seconds: f64,
    /// All pairs that there are.
    pub pairs: u64,
    /// Pairs that were measured; each has its line, so that the others are those without.
    pub measured: u64,
    /// Why not all of them.
    pub reason: Option<String>,
    /// What ended the test.
    pub error: Option<String>,
    /// Nodes that did not answer then.
    pub missing: Vec<String>,
}
