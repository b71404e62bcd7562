//! manifest.json: everything about a checkpoint but the tensors' data.

use std::collections::HashSet;
use std::path::Path;

use safetensors::Dtype;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{manifest_text, tiling};
use crate::error::{CheckpointError, Result};
use crate::files;
use crate::model_writer::FileDigest;
use crate::piece::Piece;
use crate::tensor_file::TensorSpec;

pub(super) const MANIFEST: &str = "manifest.json";
/// The manifest's own digest, in the form that `sha256sum -c` reads.
pub(super) const MANIFEST_DIGEST: &str = "manifest.sha256";
/// The largest manifest: some ten million pieces of 150 bytes.
const MAX_BYTES: u64 = 2 << 30;
const FORMAT: &str = "sirocco-checkpoint";
const VERSION: u32 = 2;
/// The first version: a shard held whole tensors, under their own shapes.
const WHOLE_TENSORS: u32 = 1;

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

/// A piece of a tensor in a shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PieceRecord {
    /// The tensor's name.
    pub name: String,
    /// Element type.
    pub dtype: Dtype,
    /// Which part of the tensor it is.
    pub piece: Piece,
}

/// One rank's file: its digest and its pieces. Ranks send theirs to the one that publishes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardRecord {
    /// The rank that wrote it.
    pub rank: usize,
    /// Name, size and SHA-256.
    pub file: FileDigest,
    /// Its pieces of tensors, in the order of the data.
    pub(super) tensors: Vec<PieceRecord>,
}

/// The whole of manifest.json, in the newest version.
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

/// What version 1 said of a shard.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WholeShard {
    rank: usize,
    file: FileDigest,
    tensors: Vec<TensorSpec>,
}

/// A manifest of version 1.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WholeManifest {
    format: String,
    version: u32,
    state: RunState,
    shards: Vec<WholeShard>,
}

impl From<WholeManifest> for Manifest {
    fn from(old: WholeManifest) -> Self {
        let piece = |spec: TensorSpec| PieceRecord { piece: Piece::whole(&spec.shape), name: spec.name, dtype: spec.dtype };
        let shard = |old: WholeShard| ShardRecord {
            rank: old.rank,
            file: old.file,
            tensors: old.tensors.into_iter().map(piece).collect(),
        };
        let shards = old.shards.into_iter().map(shard).collect();
        Self { format: old.format, version: old.version, state: old.state, shards }
    }
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
        for shard in &self.shards {
            if !ranks.insert(shard.rank) {
                return wrong("shards".into(), format!("rank {} twice", shard.rank), "each rank once");
            }
            let (name, expected) = (&shard.file.name, shard_name(shard.rank));
            if *name != expected {
                return wrong(format!("shard of rank {}", shard.rank), format!("file {name:?}"), &expected);
            }
        }
        tiling::check(path, &self.shards)
    }

    /// How a piece stands in its shard's header: one row of elements, or the whole tensor where the version has no pieces.
    pub(super) fn stored(&self, record: &PieceRecord) -> TensorSpec {
        let shape = if self.version == WHOLE_TENSORS { record.piece.shape.clone() } else { vec![record.piece.elements()] };
        TensorSpec::new(record.name.as_str(), record.dtype, shape)
    }

    /// Writes the manifest and its digest, both synced.
    pub(super) fn write(&self, dir: &Path) -> Result<()> {
        let path = dir.join(MANIFEST);
        let text = manifest_text::text(self)
            .map_err(|e| CheckpointError::misuse(&path, "manifest", e.to_string(), "values that JSON can hold"))?;
        if text.len() as u64 > MAX_BYTES {
            let (found, expected) = (format!("{} bytes", text.len()), format!("at most {MAX_BYTES} bytes"));
            return Err(CheckpointError::misuse(&path, "size", found, expected));
        }
        files::write_synced(&path, text.as_bytes())?;
        let sha256 = files::hex(&Sha256::digest(&text));
        files::write_synced(&dir.join(MANIFEST_DIGEST), format!("{sha256}  {MANIFEST}\n").as_bytes())
    }

    /// Reads a manifest after comparing it with its digest.
    pub(super) fn read(dir: &Path) -> Result<Self> {
        let path = dir.join(MANIFEST);
        let recorded = files::read_text(&dir.join(MANIFEST_DIGEST))?;
        let text = files::read_text_up_to(&path, MAX_BYTES)?;
        let sha256 = files::hex(&Sha256::digest(&text));
        let expected = recorded.split_whitespace().next().unwrap_or_default();
        if expected != sha256 {
            return Err(CheckpointError::Altered { path, what: "sha256", found: sha256, expected: expected.to_string() });
        }
        let preamble: Preamble = files::parse_json(&path, &text)?;
        let manifest: Self = match (preamble.format.as_str(), preamble.version) {
            (FORMAT, VERSION) => files::parse_json(&path, &text)?,
            (FORMAT, WHOLE_TENSORS) => files::parse_json::<WholeManifest>(&path, &text)?.into(),
            (format, version) => {
                let expected = format!("{FORMAT} version {WHOLE_TENSORS} or {VERSION}");
                return Err(CheckpointError::unsupported(&path, "format", format!("{format} version {version}"), expected));
            }
        };
        manifest.check(&path)?;
        Ok(manifest)
    }
}
