//! GGUF in: values against the gguf package, the conversion's every promise, and files that lie.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::fs;

use half::bf16;
use proptest::prelude::*;
use serde_json::{Value as Json, json};
use sirocco_checkpoint::{CheckpointError, Gguf, ModelDir, convert_gguf, verify};
use support::{File, HEAD_DIM, HIDDEN, Tensor, Value, tiny_llama};

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

#[test]
fn every_type_dequantises_to_the_bits_of_the_gguf_package() {
    let oracle: Json = serde_json::from_str(include_str!("oracle/gguf.json")).unwrap();
    let text = |case: &Json, field: &str| unhex(case[field].as_str().unwrap());
    let tensors = oracle["cases"].as_array().unwrap().iter().map(|case| Tensor {
        name: case["type"].as_str().unwrap().to_string(),
        shape: case["shape"].as_array().unwrap().iter().map(|d| d.as_u64().unwrap()).collect(),
        type_id: case["type_id"].as_u64().unwrap() as u32,
        data: text(case, "packed"),
    });
    let dir = tempfile::tempdir().unwrap();
    for version in [2, 3] {
        let path = dir.path().join("a.gguf");
        File { version, pairs: vec![], tensors: tensors.clone().collect() }.write(&path);
        let gguf = Gguf::open(&path).unwrap();
        let cases = oracle["cases"].as_array().unwrap();
        assert_eq!(cases.len(), 6);
        for case in cases {
            let bytes: Vec<u8> =
                gguf.read_f32(case["type"].as_str().unwrap()).unwrap().iter().flat_map(|x| x.to_le_bytes()).collect();
            assert_eq!(bytes, text(case, "values"), "{}", case["type"]);
        }
    }
}

#[test]
fn a_model_is_converted_whole() {
    let dir = tempfile::tempdir().unwrap();
    let (path, out) = (dir.path().join("a.gguf"), dir.path().join("hf"));
    tiny_llama().write(&path);
    let summary = convert_gguf(&path, &out).unwrap();
    assert_eq!(summary.architecture.head_dim, HEAD_DIM as usize);
    verify(&out).unwrap();
    let model = ModelDir::open(&out).unwrap();
    let config = model.config();
    for (field, expected) in [
        ("architectures", json!(["MistralForCausalLM"])),
        ("head_dim", json!(4)),
        ("rope_theta", json!(1e6)),
        ("rms_norm_eps", json!(1e-5)),
        ("sliding_window", Json::Null),
        ("tie_word_embeddings", json!(true)),
        ("max_position_embeddings", json!(128)),
        ("torch_dtype", json!("bfloat16")),
        ("eos_token_id", json!(0)),
        ("bos_token_id", json!(1)),
    ] {
        assert_eq!(config[field], expected, "{field}");
    }
    // Row 1 of the file is the second of the first pair: it moves half a head down.
    let q = model.tensor("model.layers.0.self_attn.q_proj.weight").unwrap();
    let rows: Vec<f32> =
        q.data.chunks(2 * HIDDEN as usize).map(|r| bf16::from_le_bytes([r[0], r[1]]).to_f32() / HIDDEN as f32).collect();
    assert_eq!(rows, [0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0]);
    let v = model.tensor("model.layers.0.self_attn.v_proj.weight").unwrap();
    assert_eq!(bf16::from_le_bytes([v.data[2], v.data[3]]).to_f32(), 1.0);
    let tokenizer: Json = serde_json::from_str(&fs::read_to_string(out.join("tokenizer.json")).unwrap()).unwrap();
    assert_eq!(tokenizer["model"]["vocab"]["ab"], 7);
    assert_eq!(tokenizer["model"]["merges"], json!([["a", "b"]]));
    assert_eq!(tokenizer["added_tokens"][1]["content"], "<|start|>");
    assert_eq!(tokenizer["pre_tokenizer"]["pretokenizers"][0], json!({"type": "Digits", "individual_digits": true}));
    let settings: Json = serde_json::from_str(&fs::read_to_string(out.join("tokenizer_config.json")).unwrap()).unwrap();
    assert_eq!((&settings["eos_token"], &settings["chat_template"]), (&json!("<|end|>"), &json!("{{ messages }}")));
    assert!(matches!(convert_gguf(&path, &out), Err(CheckpointError::Occupied { .. })));
}

#[test]
fn an_untied_head_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (path, out) = (dir.path().join("a.gguf"), dir.path().join("hf"));
    let mut file = tiny_llama();
    let head = Tensor { name: "output.weight".into(), ..file.tensors[0].clone() };
    file.tensors.push(head);
    file.write(&path);
    convert_gguf(&path, &out).unwrap();
    let model = ModelDir::open(&out).unwrap();
    assert_eq!(model.config()["tie_word_embeddings"], false);
    assert_eq!(model.spec("lm_head.weight").unwrap().shape, [8, 6]);
}

/// Changes the tiny model, converts it, and returns the message; nothing may be left behind.
fn refusal(change: impl FnOnce(&mut File)) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.gguf");
    let mut file = tiny_llama();
    change(&mut file);
    file.write(&path);
    let error = convert_gguf(&path, &dir.path().join("hf")).unwrap_err().to_string();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "{error}");
    error
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    let text = |s: &str| Value::Text(s.into());
    let cases: [(&str, Value, &str); 10] = [
        ("llama.block_count", Value::U32(5000), "num_hidden_layers: found 5000"),
        ("general.architecture", text("mamba"), "key general.architecture: found \"mamba\""),
        ("tokenizer.ggml.pre", text("tekken"), "key tokenizer.ggml.pre: found \"tekken\""),
        ("tokenizer.ggml.model", text("llama"), "key tokenizer.ggml.model: found \"llama\""),
        ("tokenizer.ggml.add_bos_token", Value::Bool(true), "key tokenizer.ggml.add_bos_token"),
        ("llama.rope.scaling.type", text("yarn"), "key llama.rope.scaling.type: found \"yarn\""),
        ("llama.expert_count", Value::U32(8), "key llama.expert_count: found 8"),
        ("llama.rope.dimension_count", Value::U32(2), "key llama.rope.dimension_count: found 2"),
        ("tokenizer.ggml.eos_token_id", Value::U32(8), "key tokenizer.ggml.eos_token_id: found 8"),
        ("tokenizer.ggml.token_type", Value::Ints(vec![3, 3, 1, 1, 6, 1, 1, 1]), "token 4 \"1\""),
    ];
    for (key, value, message) in cases {
        let error = refusal(|f| f.set(key, value));
        assert!(error.contains(message), "{error}");
    }
    for key in ["llama.rope.freq_base", "llama.attention.layer_norm_rms_epsilon", "tokenizer.ggml.pre", "llama.block_count"] {
        let error = refusal(|f| f.remove(key));
        assert!(error.contains(&format!("key {key}: found nothing")), "{error}");
    }
}

#[test]
fn tensors_that_do_not_fit_are_refused_by_name() {
    let error = refusal(|f| {
        f.tensors[2].type_id = 12;
    });
    assert!(error.contains("tensor blk.0.attn_q.weight: found type Q4_K"), "{error}");
    let error = refusal(|f| f.tensors[2].shape = vec![6, 8]);
    assert!(error.contains("blk.0.attn_q.weight: found shape [6, 8], expected shape [8, 6]"), "{error}");
    let error = refusal(|f| drop(f.tensors.remove(9)));
    assert!(error.contains("tensor blk.0.ffn_down.weight: found nothing"), "{error}");
    let error = refusal(|f| f.tensors.push(Tensor { name: "blk.0.attn_q.bias".into(), ..f.tensors[1].clone() }));
    assert!(error.contains("tensor blk.0.attn_q.bias"), "{error}");
    let error = refusal(|f| f.tensors[9].shape = vec![1 << 40, 1 << 40]);
    assert!(error.contains("fits in memory"), "{error}");
    let error = refusal(|f| {
        f.tensors[1].type_id = 8;
    });
    assert!(error.contains("whole Q8_0 blocks"), "{error}");
}

#[test]
fn every_truncation_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.gguf");
    let bytes = tiny_llama().bytes();
    // The last tensor is followed by padding, which nobody reads.
    for n in (0..bytes.len() - 32).step_by(7) {
        fs::write(&path, &bytes[..n]).unwrap();
        assert!(matches!(Gguf::open(&path), Err(CheckpointError::Malformed { .. })), "{n} bytes");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), prefix in 0usize..3) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.gguf");
        let mut content = [&b""[..], b"GGUF", b"GGUF\x03\0\0\0\x01\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0"][prefix].to_vec();
        content.extend(bytes);
        fs::write(&path, &content).unwrap();
        let _ = Gguf::open(&path);
    }

    #[test]
    fn changed_bytes_never_panic(changes in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..4)) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.gguf");
        let mut bytes = tiny_llama().bytes();
        let length = bytes.len();
        for (at, value) in changes {
            bytes[at % length] = value;
        }
        fs::write(&path, &bytes).unwrap();
        let _ = convert_gguf(&path, &dir.path().join("hf"));
    }
}
