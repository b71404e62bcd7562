//! Mistral's consolidated layout (params.json, consolidated.safetensors) to Hugging Face layout.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::rows::split_halves;
use crate::architecture::Architecture;
use crate::error::{CheckpointError, Result};
use crate::files;
use crate::inspect::{ModelSummary, inspect};
use crate::model_dir::CONFIG;
use crate::model_writer::ModelWriter;
use crate::staging::Staging;
use crate::tensor_file::{OwnedTensor, TensorFile, TensorSpec};

pub(crate) const PARAMS: &str = "params.json";
pub(crate) const CONSOLIDATED: &str = "consolidated.safetensors";
/// Tokenizer files, which the two layouts share.
const TOKENIZERS: [&str; 5] = ["tekken.json", "tokenizer.json", "tokenizer_config.json", "tokenizer.model", "tokenizer.model.v3"];
/// Settings of params.json that are read; `model_type`, `max_batch_size` and the like change nothing.
const KNOWN: [&str; 15] = [
    "dim",
    "n_layers",
    "head_dim",
    "hidden_dim",
    "n_heads",
    "n_kv_heads",
    "norm_eps",
    "vocab_size",
    "rope_theta",
    "max_seq_len",
    "max_position_embeddings",
    "model_type",
    "max_batch_size",
    "tied_embeddings",
    "use_biases",
];

/// Converts a directory in Mistral's own layout. Weights keep their dtype; tokenizer files are copied.
///
/// # Errors
/// Where a file is malformed, params.json asks for something that is not supported, or `out` is occupied.
pub fn convert_consolidated(dir: &Path, out: &Path) -> Result<ModelSummary> {
    let weights = TensorFile::open(&dir.join(CONSOLIDATED))?;
    let architecture = read_params(dir)?;
    let plan = plan(&weights, &architecture)?;
    let staging = Staging::start(out)?;
    let mut config = architecture.to_config();
    config["torch_dtype"] = json!(match weights.spec("norm.weight").map(|s| s.dtype) {
        Some(safetensors::Dtype::F32) => "float32",
        Some(safetensors::Dtype::F16) => "float16",
        _ => "bfloat16",
    });
    files::write_synced(&staging.path().join(CONFIG), files::json_text(&config).as_bytes())?;
    for name in TOKENIZERS {
        let from = dir.join(name);
        if from.exists() {
            let bytes = fs::read(&from).map_err(|e| CheckpointError::io("read", &from, e))?;
            files::write_synced(&staging.path().join(name), &bytes)?;
        }
    }
    let mut writer = ModelWriter::create(staging.path(), plan.iter().map(|(_, to)| to.clone()).collect())?;
    for (from, to) in &plan {
        writer.write(&to.name, &reorder(weights.read(from)?, &to.name, &architecture))?;
    }
    writer.finish()?;
    staging.publish()?;
    inspect(out)
}

/// The sizes in params.json.
pub(crate) fn read_params(dir: &Path) -> Result<Architecture> {
    let path = dir.join(PARAMS);
    let params: Value = files::read_json(&path)?;
    let Some(fields) = params.as_object() else {
        return Err(CheckpointError::malformed(&path, "content", "no JSON object", "an object of sizes"));
    };
    let harmless = |v: &Value| v.is_null() || *v == json!(false);
    if let Some((name, value)) = fields.iter().find(|(k, v)| !KNOWN.contains(&k.as_str()) && !harmless(v)) {
        let expected = "only the settings of a dense model with full attention";
        return Err(CheckpointError::unsupported(&path, name, value.to_string(), expected));
    }
    if params["use_biases"] == true {
        return Err(CheckpointError::unsupported(&path, "use_biases", "true", "false"));
    }
    let context = match (&params["max_position_embeddings"], &params["max_seq_len"]) {
        (Value::Null, other) => other,
        (given, _) => given,
    };
    // Most of Mistral's own files give no length; 32768 is what its dense models without a window were made for.
    // The same fields under Hugging Face's names, so that one reader checks both.
    let config = json!({
        "architectures": ["MistralForCausalLM"], "model_type": "mistral",
        "hidden_size": params["dim"], "num_hidden_layers": params["n_layers"], "head_dim": params["head_dim"],
        "intermediate_size": params["hidden_dim"], "num_attention_heads": params["n_heads"],
        "num_key_value_heads": params["n_kv_heads"], "rms_norm_eps": params["norm_eps"], "vocab_size": params["vocab_size"],
        "rope_theta": params["rope_theta"], "tie_word_embeddings": params["tied_embeddings"],
        "max_position_embeddings": if context.is_null() { json!(32768) } else { context.clone() },
    });
    Architecture::from_config(&path, &config)
}

/// Mistral's name of a Hugging Face tensor.
fn source_name(hf: &str) -> Option<String> {
    let hf = hf.strip_suffix(".weight")?;
    let stem = match hf {
        "model.embed_tokens" => "tok_embeddings".to_string(),
        "model.norm" => "norm".to_string(),
        "lm_head" => "output".to_string(),
        _ => {
            let (layer, part) = hf.strip_prefix("model.layers.")?.split_once('.')?;
            let part = match part {
                "input_layernorm" => "attention_norm",
                "self_attn.q_proj" => "attention.wq",
                "self_attn.k_proj" => "attention.wk",
                "self_attn.v_proj" => "attention.wv",
                "self_attn.o_proj" => "attention.wo",
                "post_attention_layernorm" => "ffn_norm",
                "mlp.gate_proj" => "feed_forward.w1",
                "mlp.down_proj" => "feed_forward.w2",
                "mlp.up_proj" => "feed_forward.w3",
                _ => return None,
            };
            format!("layers.{layer}.{part}")
        }
    };
    Some(stem + ".weight")
}

fn plan(weights: &TensorFile, architecture: &Architecture) -> Result<Vec<(String, TensorSpec)>> {
    let path = weights.path().to_path_buf();
    let mut plan = Vec::new();
    for (name, shape) in architecture.expected_tensors() {
        let from = source_name(&name).unwrap_or_default();
        let Some(spec) = weights.spec(&from) else {
            return Err(CheckpointError::MissingTensor { path, tensor: from, expected: format!("shape {shape:?}") });
        };
        if spec.shape != shape {
            let (found, expected) = (format!("shape {:?}", spec.shape), format!("shape {shape:?}"));
            return Err(CheckpointError::TensorMismatch { path, tensor: from, found, expected });
        }
        plan.push((from, TensorSpec::new(name, spec.dtype, shape)));
    }
    let used: HashSet<&str> = plan.iter().map(|(from, _)| from.as_str()).collect();
    if let Some(extra) = weights.specs().find(|s| !used.contains(s.name.as_str())) {
        let expected = "only the tensors of a dense model";
        return Err(CheckpointError::unsupported(&path, format!("tensor {}", extra.name), "it in the file", expected));
    }
    Ok(plan)
}

fn reorder(tensor: OwnedTensor, name: &str, architecture: &Architecture) -> Vec<u8> {
    let heads = match name.rsplit('.').nth(1) {
        Some("q_proj") => architecture.heads,
        Some("k_proj") => architecture.kv_heads,
        _ => return tensor.data,
    };
    let row_bytes = tensor.shape[1] * tensor.dtype.bitsize() / 8;
    split_halves(&tensor.data, heads, architecture.head_dim, row_bytes)
}
