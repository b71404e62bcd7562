//! What is in this file or directory? Reads headers and digests, never weights into memory.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use crate::architecture::Architecture;
use crate::convert::{CONSOLIDATED, PARAMS, gguf_architecture, read_params};
use crate::error::{CheckpointError, Result};
use crate::files;
use crate::gguf::{GgmlType, Gguf, GgufValue};
use crate::model_dir::{ModelDir, file_digest};
use crate::model_writer::FileDigest;
use crate::tensor_file::{TensorFile, TensorSpec};

/// How a model is laid out in files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// config.json and model.safetensors.
    HuggingFace,
    /// Mistral's params.json and consolidated.safetensors.
    Consolidated,
    /// One GGUF file.
    Gguf,
}

/// What a model is, in numbers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ModelSummary {
    /// File layout.
    pub layout: Layout,
    /// Sizes and constants.
    pub architecture: Architecture,
    /// Elements of all stored tensors (a tied head counts once).
    pub parameters: u64,
    /// Number of stored tensors.
    pub tensors: usize,
    /// Parameters by element type, such as `BF16`.
    pub dtypes: BTreeMap<String, u64>,
    /// What the tokenizer is, such as `BPE, 49152 tokens`; `None` where there is none.
    pub tokenizer: Option<String>,
    /// Size and SHA-256 of the configuration and weights.
    pub files: Vec<FileDigest>,
}

/// Summarises a Hugging Face directory, a consolidated directory or a GGUF file.
///
/// # Errors
/// Where `path` is none of them, or a header is malformed.
pub fn inspect(path: &Path) -> Result<ModelSummary> {
    if path.is_file() {
        return inspect_gguf(path);
    }
    if path.join(PARAMS).exists() && path.join(CONSOLIDATED).exists() && !path.join(crate::model_dir::WEIGHTS).exists() {
        return inspect_consolidated(path);
    }
    let model = ModelDir::open(path)?;
    let count = Count::of(model.specs());
    Ok(ModelSummary {
        layout: Layout::HuggingFace,
        architecture: model.architecture()?,
        parameters: count.parameters,
        tensors: count.tensors,
        dtypes: count.dtypes,
        tokenizer: tokenizer(path)?,
        files: model.digests()?,
    })
}

fn inspect_gguf(path: &Path) -> Result<ModelSummary> {
    let gguf = Gguf::open(path)?;
    let mut count = Count::default();
    for tensor in gguf.tensors() {
        count.add(GgmlType::name_of(tensor.type_id), tensor.elements() as u64);
    }
    let kind = gguf.get("tokenizer.ggml.model").and_then(GgufValue::as_str);
    let size = gguf.get("tokenizer.ggml.tokens").and_then(GgufValue::as_array).map_or(0, <[GgufValue]>::len);
    Ok(ModelSummary {
        layout: Layout::Gguf,
        architecture: gguf_architecture(&gguf)?,
        parameters: count.parameters,
        tensors: count.tensors,
        dtypes: count.dtypes,
        tokenizer: kind.map(|kind| format!("{kind}, {size} tokens")),
        files: vec![file_digest(path)?],
    })
}

fn inspect_consolidated(dir: &Path) -> Result<ModelSummary> {
    let weights = TensorFile::open(&dir.join(CONSOLIDATED))?;
    let count = Count::of(weights.specs());
    Ok(ModelSummary {
        layout: Layout::Consolidated,
        architecture: read_params(dir)?,
        parameters: count.parameters,
        tensors: count.tensors,
        dtypes: count.dtypes,
        tokenizer: tokenizer(dir)?,
        files: vec![file_digest(&dir.join(PARAMS))?, file_digest(weights.path())?],
    })
}

#[derive(Default)]
struct Count {
    parameters: u64,
    tensors: usize,
    dtypes: BTreeMap<String, u64>,
}

impl Count {
    fn of<'a>(specs: impl Iterator<Item = &'a TensorSpec>) -> Self {
        let mut count = Self::default();
        for spec in specs {
            count.add(spec.dtype.to_string(), spec.elements().unwrap_or(0) as u64);
        }
        count
    }

    fn add(&mut self, dtype: String, elements: u64) {
        self.parameters = self.parameters.saturating_add(elements);
        self.tensors += 1;
        let sum = self.dtypes.entry(dtype).or_default();
        *sum = sum.saturating_add(elements);
    }
}

fn tokenizer(dir: &Path) -> Result<Option<String>> {
    let path = dir.join("tokenizer.json");
    if path.exists() {
        let file: Value = files::read_json(&path)?;
        let kind = file["model"]["type"].as_str().unwrap_or("unknown kind");
        let size = match &file["model"]["vocab"] {
            Value::Object(vocab) => vocab.len(),
            Value::Array(vocab) => vocab.len(),
            _ => return Err(CheckpointError::malformed(&path, "model.vocab", "no vocabulary", "an object or array of tokens")),
        };
        return Ok(Some(format!("{kind}, {size} tokens")));
    }
    let others = [("tekken.json", "tekken"), ("tokenizer.model", "SentencePiece"), ("tokenizer.model.v3", "SentencePiece")];
    Ok(others.iter().find(|(name, _)| dir.join(name).exists()).map(|(_, kind)| (*kind).to_string()))
}

impl fmt::Display for ModelSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let a = &self.architecture;
        let layout = match self.layout {
            Layout::HuggingFace => "Hugging Face directory",
            Layout::Consolidated => "Mistral consolidated directory",
            Layout::Gguf => "GGUF file",
        };
        let dtypes: Vec<String> = self.dtypes.iter().map(|(dtype, n)| format!("{dtype} {n}")).collect();
        writeln!(f, "layout          {layout}")?;
        writeln!(f, "architecture    {}", a.class)?;
        writeln!(f, "parameters      {} in {} tensors ({})", self.parameters, self.tensors, dtypes.join(", "))?;
        writeln!(f, "layers          {}", a.layers)?;
        writeln!(f, "hidden size     {}", a.hidden_size)?;
        writeln!(f, "heads           {} of {} (key/value heads: {})", a.heads, a.head_dim, a.kv_heads)?;
        writeln!(f, "feed-forward    {}", a.ffn_size)?;
        writeln!(f, "vocabulary      {} (head {})", a.vocab_size, if a.tied_embeddings { "tied" } else { "of its own" })?;
        writeln!(f, "rope theta      {}", a.rope_theta)?;
        writeln!(f, "context         {} tokens", a.context_length)?;
        if let Some(window) = a.sliding_window {
            writeln!(f, "sliding window  {window} tokens")?;
        }
        writeln!(f, "tokenizer       {}", self.tokenizer.as_deref().unwrap_or("none"))?;
        for file in &self.files {
            writeln!(f, "{}  {} ({} bytes)", file.sha256, file.name, file.bytes)?;
        }
        Ok(())
    }
}
