//! manifest.json: everything about a checkpoint but the tensors' data.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{CheckpointError, Result};
use crate::files;
use crate::model_writer::FileDigest;
use crate::tensor_file::TensorSpec;

pub(super) const MANIFEST: &str = "manifest.json";
/// The manifest's own digest, in the form that `sha256sum -c` reads.
pub(super) const MANIFEST_DIGEST: &str = "manifest.sha256";
const FORMAT: &str = "sirocco-checkpoint";
const VERSION: u32 = 1;

/// Where in the data a run stands: one position for all ranks, so that their number may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cursor {
    /// The seed of the order.
    pub seed: u64,
    /// Completed passes over the data.
    pub epoch: u64,
    /// Sequences of the current pass that were used.
    pub sample: u64,
}

/// The sizes of the mesh's axes at the time of saving.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mesh {
    /// Pipeline parallelism.
    pub pp: usize,
    /// Data parallelism.
    pub dp: usize,
    /// Sharded data parallelism.
    pub fsdp: usize,
    /// Tensor parallelism.
    pub tp: usize,
}

/// What a run needs to go on, besides tensors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunState {
    /// Completed optimizer steps.
    pub step: u64,
    /// Position in the data.
    pub cursor: Cursor,
    /// Layout of the ranks.
    pub mesh: Mesh,
    /// SHA-256 (hex) of the settings that must not change between jobs.
    pub config_digest: String,
    /// SHA-256 (hex) of the base model, as [`crate::ModelDir::digest`].
    pub model_digest: String,
    /// SHA-256 (hex) of the tokens that the run is trained on.
    pub data_digest: String,
}

/// One rank's file: its digest and its tensors. Ranks send theirs to the one that publishes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardRecord {
    /// The rank that wrote it.
    pub rank: usize,
    /// Name, size and SHA-256.
    pub file: FileDigest,
    /// Its tensors, in the order of the data.
    pub tensors: Vec<TensorSpec>,
}

/// The whole of manifest.json.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    format: String,
    version: u32,
    /// The run's state.
    pub(super) state: RunState,
    /// Every rank's file, by rank.
    pub(super) shards: Vec<ShardRecord>,
}

/// Only the fields that every version has, read first so that a newer version is named rather than misread.
#[derive(Deserialize)]
struct Preamble {
    format: String,
    version: u32,
}

pub(super) fn shard_name(rank: usize) -> String {
    format!("rank-{rank:05}.safetensors")
}

impl Manifest {
    /// A manifest of consistent shards; `dir` is for error messages.
    pub(super) fn new(dir: &Path, state: RunState, mut shards: Vec<ShardRecord>) -> Result<Self> {
        shards.sort_by_key(|s| s.rank);
        let manifest = Self { format: FORMAT.to_string(), version: VERSION, state, shards };
        manifest.check(&dir.join(MANIFEST))?;
        Ok(manifest)
    }

    fn check(&self, path: &Path) -> Result<()> {
        let wrong = |part: String, found: String, expected: &str| Err(CheckpointError::malformed(path, part, found, expected));
        if self.shards.is_empty() {
            return wrong("shards".into(), "none".into(), "one or more");
        }
        let mut ranks = HashSet::new();
        let mut owner: HashMap<&str, usize> = HashMap::new();
        for shard in &self.shards {
            if !ranks.insert(shard.rank) {
                return wrong("shards".into(), format!("rank {} twice", shard.rank), "each rank once");
            }
            if shard.file.name != shard_name(shard.rank) {
                return wrong(
                    format!("shard of rank {}", shard.rank),
                    format!("file {:?}", shard.file.name),
                    &shard_name(shard.rank),
                );
            }
            for tensor in &shard.tensors {
                if let Some(other) = owner.insert(&tensor.name, shard.rank) {
                    let found = format!("it in the shards of ranks {other} and {}", shard.rank);
                    return wrong(format!("tensor {}", tensor.name), found, "each tensor in one shard");
                }
            }
        }
        Ok(())
    }

    /// Writes the manifest and its digest, both synced.
    pub(super) fn write(&self, dir: &Path) -> Result<()> {
        let path = dir.join(MANIFEST);
        let value = serde_json::to_value(self)
            .map_err(|e| CheckpointError::misuse(&path, "manifest", e.to_string(), "values that JSON can hold"))?;
        files::write_synced(&path, files::json_text(&value).as_bytes())?;
        let (_, sha256) = files::digest(&path)?;
        files::write_synced(&dir.join(MANIFEST_DIGEST), format!("{sha256}  {MANIFEST}\n").as_bytes())
    }

    /// Reads a manifest after comparing it with its digest.
    pub(super) fn read(dir: &Path) -> Result<Self> {
        let path = dir.join(MANIFEST);
        let recorded = files::read_text(&dir.join(MANIFEST_DIGEST))?;
        let (_, sha256) = files::digest(&path)?;
        let expected = recorded.split_whitespace().next().unwrap_or_default();
        if expected != sha256 {
            return Err(CheckpointError::Altered { path, what: "sha256", found: sha256, expected: expected.to_string() });
        }
        let text = files::read_text(&path)?;
        let preamble: Preamble = files::parse_json(&path, &text)?;
        if (preamble.format.as_str(), preamble.version) != (FORMAT, VERSION) {
            let found = format!("{} version {}", preamble.format, preamble.version);
            return Err(CheckpointError::unsupported(&path, "format", found, format!("{FORMAT} version {VERSION}")));
        }
        let manifest: Self = files::parse_json(&path, &text)?;
        manifest.check(&path)?;
        Ok(manifest)
    }
}
