//! GGUF of architecture `llama` (which includes Mistral's dense models) to Hugging Face layout in bf16.

use std::collections::HashSet;
use std::path::Path;

use half::bf16;
use half::slice::HalfFloatSliceExt;
use rayon::prelude::*;
use safetensors::Dtype;
use serde_json::{Value, json};

use super::rows::split_halves;
use super::tokenizer;
use crate::architecture::Architecture;
use crate::error::{CheckpointError, Result};
use crate::files;
use crate::gguf::{Gguf, GgufValue};
use crate::inspect::{ModelSummary, inspect};
use crate::model_dir::CONFIG;
use crate::model_writer::ModelWriter;
use crate::staging::Staging;
use crate::tensor_file::TensorSpec;

/// One tensor on its way: where it comes from, where it goes, and the heads whose rows are to be reordered.
struct Move {
    from: String,
    to: TensorSpec,
    heads: Option<usize>,
}

/// Converts a GGUF file to a Hugging Face directory: config.json, model.safetensors (bf16, rounded to nearest even),
/// tokenizer.json, tokenizer_config.json, generation_config.json. The directory appears only when it is complete.
///
/// # Errors
/// Where the file is malformed, holds something that would change the numbers and is not supported, or `out` is occupied.
pub fn convert_gguf(path: &Path, out: &Path) -> Result<ModelSummary> {
    let gguf = Gguf::open(path)?;
    let architecture = architecture(&gguf)?;
    let moves = plan(&gguf, &architecture)?;
    let tokenizer = tokenizer::rebuild(&gguf, architecture.vocab_size)?;
    let staging = Staging::start(out)?;
    let dir = staging.path();
    for (name, value) in [
        (CONFIG, with_ids(architecture.to_config(), &tokenizer.ids)),
        ("generation_config.json", with_ids(json!({}), &tokenizer.ids)),
        ("tokenizer.json", tokenizer.file),
        ("tokenizer_config.json", tokenizer.config),
    ] {
        files::write_synced(&dir.join(name), files::json_text(&value).as_bytes())?;
    }
    let mut writer = ModelWriter::create(dir, moves.iter().map(|m| m.to.clone()).collect())?;
    for step in &moves {
        writer.write(&step.to.name, &convert_tensor(&gguf, step, architecture.head_dim)?)?;
    }
    writer.finish()?;
    staging.publish()?;
    inspect(out)
}

fn with_ids(mut object: Value, ids: &[(&'static str, u64)]) -> Value {
    for (name, id) in ids {
        object[*name] = json!(id);
    }
    object
}

/// The sizes in the metadata.
pub(crate) fn architecture(gguf: &Gguf) -> Result<Architecture> {
    let name = gguf.require("general.architecture", "the architecture's name", GgufValue::as_str)?;
    if name != "llama" {
        return Err(CheckpointError::unsupported(gguf.path(), "key general.architecture", format!("{name:?}"), "\"llama\""));
    }
    refuse_variants(gguf)?;
    let size = |key: &str| {
        let positive = |v: &GgufValue| v.as_u64().filter(|n| (1..=u64::from(u32::MAX)).contains(n));
        gguf.require(&format!("llama.{key}"), "a positive integer", positive).map(|n| n as usize)
    };
    let number = |key: &str| {
        let positive = |v: &GgufValue| v.as_f64().filter(|x| *x > 0.0);
        gguf.require(&format!("llama.{key}"), "a positive number", positive)
    };
    let (hidden_size, heads) = (size("embedding_length")?, size("attention.head_count")?);
    let kv_heads = match gguf.get("llama.attention.head_count_kv") {
        Some(_) => size("attention.head_count_kv")?,
        None => heads,
    };
    let embedding = gguf.tensor("token_embd.weight").ok_or_else(|| missing(gguf, "token_embd.weight", "the embedding"))?;
    let architecture = Architecture {
        class: "MistralForCausalLM".to_string(),
        layers: size("block_count")?,
        hidden_size,
        heads,
        kv_heads,
        head_dim: head_dim(gguf, hidden_size, heads)?,
        ffn_size: size("feed_forward_length")?,
        vocab_size: embedding.shape.first().copied().unwrap_or(0),
        rope_theta: number("rope.freq_base")?,
        rms_norm_eps: number("attention.layer_norm_rms_epsilon")?,
        tied_embeddings: gguf.tensor("output.weight").is_none(),
        context_length: size("context_length")?,
        sliding_window: None,
    };
    if !heads.is_multiple_of(kv_heads) {
        let part = "key llama.attention.head_count_kv";
        return Err(CheckpointError::malformed(gguf.path(), part, kv_heads.to_string(), format!("a divisor of {heads}")));
    }
    // The same sizes under Hugging Face's names, so that nothing is converted that the result's reader would refuse.
    Architecture::from_config(gguf.path(), &architecture.to_config())
}

/// Settings that change the numbers and that the network does not have.
fn refuse_variants(gguf: &Gguf) -> Result<()> {
    let unsupported = |key: &str, found: String, expected: &str| {
        Err(CheckpointError::unsupported(gguf.path(), format!("key {key}"), found, expected))
    };
    let scaling = "llama.rope.scaling.type";
    if let Some(kind) = gguf.get(scaling).filter(|v| v.as_str() != Some("none")) {
        return unsupported(scaling, kind.brief(), "\"none\", or no such key");
    }
    for key in ["llama.expert_count", "llama.attention.sliding_window"] {
        if let Some(n) = gguf.get(key).filter(|v| v.as_u64() != Some(0)) {
            return unsupported(key, n.brief(), "0, or no such key");
        }
    }
    let linear = "llama.rope.scale_linear";
    if let Some(x) = gguf.get(linear).filter(|v| v.as_f64() != Some(1.0)) {
        return unsupported(linear, x.brief(), "1, or no such key");
    }
    Ok(())
}

/// As written; from the rotary dims where there is no such key; from the hidden size only where there is neither.
fn head_dim(gguf: &Gguf, hidden_size: usize, heads: usize) -> Result<usize> {
    let read = |key: &str| match gguf.get(key) {
        None => Ok(None),
        Some(_) => gguf.require(key, "an even positive integer", |v| v.as_u64().filter(|n| *n > 0 && n % 2 == 0)).map(Some),
    };
    let length = read("llama.attention.key_length")?;
    let rotary = read("llama.rope.dimension_count")?;
    let default = (hidden_size / heads) as u64;
    let head_dim = length.or(rotary).unwrap_or(default);
    let differs = |key: &str, found: u64| {
        let expected = format!("{head_dim}, the size of a head");
        Err(CheckpointError::unsupported(gguf.path(), format!("key {key}"), found.to_string(), expected))
    };
    match (rotary, read("llama.attention.value_length")?) {
        (Some(n), _) if n != head_dim => differs("llama.rope.dimension_count", n),
        (_, Some(n)) if n != head_dim => differs("llama.attention.value_length", n),
        _ => Ok(head_dim as usize),
    }
}

fn missing(gguf: &Gguf, tensor: &str, expected: &str) -> CheckpointError {
    CheckpointError::MissingTensor { path: gguf.path().to_path_buf(), tensor: tensor.to_string(), expected: expected.to_string() }
}

/// llama.cpp's name of a Hugging Face tensor.
fn source_name(hf: &str) -> Option<String> {
    let hf = hf.strip_suffix(".weight")?;
    let stem = match hf {
        "model.embed_tokens" => "token_embd".to_string(),
        "model.norm" => "output_norm".to_string(),
        "lm_head" => "output".to_string(),
        _ => {
            let (layer, part) = hf.strip_prefix("model.layers.")?.split_once('.')?;
            let part = match part {
                "input_layernorm" => "attn_norm",
                "self_attn.q_proj" => "attn_q",
                "self_attn.k_proj" => "attn_k",
                "self_attn.v_proj" => "attn_v",
                "self_attn.o_proj" => "attn_output",
                "post_attention_layernorm" => "ffn_norm",
                "mlp.gate_proj" => "ffn_gate",
                "mlp.up_proj" => "ffn_up",
                "mlp.down_proj" => "ffn_down",
                _ => return None,
            };
            format!("blk.{layer}.{part}")
        }
    };
    Some(stem + ".weight")
}

/// Which tensor goes where; every tensor of the file is used, has the expected shape and a type that can be read.
fn plan(gguf: &Gguf, architecture: &Architecture) -> Result<Vec<Move>> {
    let mut moves = Vec::new();
    for (name, shape) in architecture.expected_tensors() {
        let from = source_name(&name).unwrap_or_default();
        let tensor = gguf.tensor(&from).ok_or_else(|| missing(gguf, &from, &format!("shape {shape:?}")))?;
        if tensor.shape != shape {
            let (found, expected) = (format!("shape {:?}", tensor.shape), format!("shape {shape:?}"));
            return Err(CheckpointError::TensorMismatch { path: gguf.path().to_path_buf(), tensor: from, found, expected });
        }
        tensor.supported_type(gguf.path())?;
        let heads = match name.rsplit('.').nth(1) {
            Some("q_proj") => Some(architecture.heads),
            Some("k_proj") => Some(architecture.kv_heads),
            _ => None,
        };
        moves.push(Move { from, to: TensorSpec::new(name, Dtype::BF16, shape), heads });
    }
    let used: HashSet<&str> = moves.iter().map(|m| m.from.as_str()).collect();
    if let Some(extra) = gguf.tensors().iter().find(|t| !used.contains(t.name.as_str())) {
        let expected = "only the tensors of a dense model without biases";
        return Err(CheckpointError::unsupported(gguf.path(), format!("tensor {}", extra.name), "it in the file", expected));
    }
    Ok(moves)
}

fn convert_tensor(gguf: &Gguf, step: &Move, head_dim: usize) -> Result<Vec<u8>> {
    let mut values = gguf.read_f32(&step.from)?;
    if let Some(heads) = step.heads {
        values = split_halves(&values, heads, head_dim, step.to.shape[1]);
    }
    Ok(to_bf16_bytes(&values))
}

/// fp32 to bf16, little-endian, rounding to nearest even.
fn to_bf16_bytes(values: &[f32]) -> Vec<u8> {
    const CHUNK: usize = 1 << 14;
    let mut out = vec![0u8; values.len() * 2];
    out.par_chunks_mut(2 * CHUNK).zip(values.par_chunks(CHUNK)).for_each(|(out, values)| {
        let mut rounded = vec![bf16::ZERO; values.len()];
        rounded.convert_from_f32_slice(values);
        for (out, x) in out.chunks_exact_mut(2).zip(rounded) {
            out.copy_from_slice(&x.to_le_bytes());
        }
    });
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_to_nearest_even() {
        // Half way between two neighbours goes to the even one; a little more goes up; what is exact stays.
        let values = [1.0f32, 1.003_906_2, 1.011_718_8, 1.003_906_4, -1.003_906_2];
        let bits: Vec<u16> = to_bf16_bytes(&values).chunks(2).map(|b| u16::from_le_bytes([b[0], b[1]])).collect();
        assert_eq!(bits, [0x3f80, 0x3f80, 0x3f82, 0x3f81, 0xbf80]);
    }

    #[test]
    fn names_map_one_to_one() {
        assert_eq!(source_name("model.layers.12.self_attn.q_proj.weight").unwrap(), "blk.12.attn_q.weight");
        assert_eq!(source_name("lm_head.weight").unwrap(), "output.weight");
        assert_eq!(source_name("model.layers.0.mlp.router.weight"), None);
    }
}
