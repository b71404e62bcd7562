//! Mistral's consolidated layout in: names, row order, settings that are refused.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::Path;

use half::bf16;
use serde_json::{Value, json};
use sirocco_checkpoint::{Dtype, Layout, ModelDir, TensorFileWriter, TensorSpec, convert_consolidated, inspect, verify};

const DIM: usize = 4;
const FFN: usize = 6;

fn params() -> Value {
    json!({
        "dim": DIM, "n_layers": 1, "head_dim": 4, "hidden_dim": FFN, "n_heads": 2, "n_kv_heads": 1, "norm_eps": 1e-5,
        "vocab_size": 8, "rope_theta": 1e6,
    })
}

/// Writes a tiny model; element 0 of each row is the row's number.
fn model(dir: &Path, params: &Value) {
    fs::write(dir.join("params.json"), params.to_string()).unwrap();
    fs::write(dir.join("tekken.json"), "{}").unwrap();
    let specs: Vec<TensorSpec> = [
        ("tok_embeddings", vec![8, DIM]),
        ("layers.0.attention_norm", vec![DIM]),
        ("layers.0.attention.wq", vec![8, DIM]),
        ("layers.0.attention.wk", vec![4, DIM]),
        ("layers.0.attention.wv", vec![4, DIM]),
        ("layers.0.attention.wo", vec![DIM, 8]),
        ("layers.0.ffn_norm", vec![DIM]),
        ("layers.0.feed_forward.w1", vec![FFN, DIM]),
        ("layers.0.feed_forward.w2", vec![DIM, FFN]),
        ("layers.0.feed_forward.w3", vec![FFN, DIM]),
        ("norm", vec![DIM]),
        ("output", vec![8, DIM]),
    ]
    .into_iter()
    .map(|(name, shape)| TensorSpec::new(format!("{name}.weight"), Dtype::BF16, shape))
    .collect();
    let mut writer = TensorFileWriter::create(&dir.join("consolidated.safetensors"), specs.clone(), &[]).unwrap();
    for spec in specs {
        let row = *spec.shape.last().unwrap();
        let data: Vec<u8> = (0..spec.elements().unwrap()).flat_map(|i| bf16::from_f32((i / row) as f32).to_le_bytes()).collect();
        writer.write(&spec.name, &data).unwrap();
    }
    writer.finish().unwrap();
}

#[test]
fn rows_are_put_in_hugging_face_order() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("hf");
    model(dir.path(), &params());
    assert_eq!(inspect(dir.path()).unwrap().layout, Layout::Consolidated);
    let summary = convert_consolidated(dir.path(), &out).unwrap();
    assert_eq!((summary.layout, summary.architecture.rope_theta), (Layout::HuggingFace, 1e6));
    verify(&out).unwrap();
    assert!(out.join("tekken.json").exists());
    let model = ModelDir::open(&out).unwrap();
    assert_eq!(model.config()["tie_word_embeddings"], false);
    let rows = |name: &str| -> Vec<f32> {
        let tensor = model.tensor(&format!("model.layers.0.{name}.weight")).unwrap();
        let row = tensor.data.len() / tensor.shape[0];
        tensor.data.chunks(row).map(|r| bf16::from_le_bytes([r[0], r[1]]).to_f32()).collect()
    };
    assert_eq!(rows("self_attn.q_proj"), [0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0]);
    assert_eq!(rows("self_attn.k_proj"), [0.0, 2.0, 1.0, 3.0]);
    assert_eq!(rows("self_attn.v_proj"), [0.0, 1.0, 2.0, 3.0]);
    assert_eq!(model.spec("model.layers.0.mlp.down_proj.weight").unwrap().shape, [DIM, FFN]);
}

#[test]
fn settings_that_change_the_network_are_refused() {
    let cases = [
        ("moe", json!({"num_experts": 8}), "moe"),
        ("sliding_window", json!(4096), "sliding_window"),
        ("yarn", json!({"factor": 4}), "yarn"),
        ("use_biases", json!(true), "use_biases"),
        ("rope_theta", Value::Null, "rope_theta: found nothing"),
        ("vocab_size", json!(9), "tensor tok_embeddings.weight: found shape [8, 4], expected shape [9, 4]"),
    ];
    for (field, value, message) in cases {
        let dir = tempfile::tempdir().unwrap();
        let mut params = params();
        params[field] = value;
        model(dir.path(), &params);
        let error = convert_consolidated(dir.path(), &dir.path().join("hf")).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
        assert!(!dir.path().join("hf").exists());
    }
}
