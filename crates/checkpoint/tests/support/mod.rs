//! Builds small GGUF files byte by byte.

use std::path::Path;

/// A metadata value to write.
#[derive(Clone)]
pub(crate) enum Value {
    U32(u32),
    F32(f32),
    Bool(bool),
    Text(String),
    Texts(Vec<String>),
    Ints(Vec<i32>),
}

/// A tensor to write: name, shape (outermost first), ggml type, packed data.
#[derive(Clone)]
pub(crate) struct Tensor {
    pub(crate) name: String,
    pub(crate) shape: Vec<u64>,
    pub(crate) type_id: u32,
    pub(crate) data: Vec<u8>,
}

/// A GGUF file in memory.
#[derive(Clone)]
pub(crate) struct File {
    pub(crate) version: u32,
    pub(crate) pairs: Vec<(String, Value)>,
    pub(crate) tensors: Vec<Tensor>,
}

fn text(out: &mut Vec<u8>, s: &str) {
    out.extend((s.len() as u64).to_le_bytes());
    out.extend(s.as_bytes());
}

fn value(out: &mut Vec<u8>, value: &Value) {
    let array = |out: &mut Vec<u8>, kind: u32, count: usize| {
        out.extend(9u32.to_le_bytes());
        out.extend(kind.to_le_bytes());
        out.extend((count as u64).to_le_bytes());
    };
    match value {
        Value::U32(n) => out.extend([4u32.to_le_bytes(), n.to_le_bytes()].concat()),
        Value::F32(x) => out.extend([6u32.to_le_bytes(), x.to_le_bytes()].concat()),
        Value::Bool(b) => {
            out.extend(7u32.to_le_bytes());
            out.push(u8::from(*b));
        }
        Value::Text(s) => {
            out.extend(8u32.to_le_bytes());
            text(out, s);
        }
        Value::Texts(all) => {
            array(out, 8, all.len());
            all.iter().for_each(|s| text(out, s));
        }
        Value::Ints(all) => {
            array(out, 5, all.len());
            all.iter().for_each(|n| out.extend(n.to_le_bytes()));
        }
    }
}

impl File {
    pub(crate) fn set(&mut self, key: &str, new: Value) {
        match self.pairs.iter_mut().find(|(k, _)| k == key) {
            Some((_, old)) => *old = new,
            None => self.pairs.push((key.to_string(), new)),
        }
    }

    pub(crate) fn remove(&mut self, key: &str) {
        self.pairs.retain(|(k, _)| k != key);
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(self.version.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.pairs.len() as u64).to_le_bytes());
        for (key, v) in &self.pairs {
            text(&mut out, key);
            value(&mut out, v);
        }
        let mut data = Vec::new();
        for tensor in &self.tensors {
            text(&mut out, &tensor.name);
            out.extend((tensor.shape.len() as u32).to_le_bytes());
            tensor.shape.iter().rev().for_each(|d| out.extend(d.to_le_bytes()));
            out.extend(tensor.type_id.to_le_bytes());
            out.extend((data.len() as u64).to_le_bytes());
            data.extend(&tensor.data);
            data.resize(data.len().next_multiple_of(32), 0);
        }
        out.resize(out.len().next_multiple_of(32), 0);
        out.extend(data);
        out
    }

    pub(crate) fn write(&self, path: &Path) {
        std::fs::write(path, self.bytes()).unwrap();
    }
}

/// Sizes of [`tiny_llama`]: 2 heads of 4 over a hidden size of 6 (head_dim is not hidden ÷ heads), 1 key/value head.
pub(crate) const HIDDEN: u64 = 6;
pub(crate) const HEADS: u64 = 2;
pub(crate) const HEAD_DIM: u64 = 4;
pub(crate) const FFN: u64 = 5;
pub(crate) const TOKENS: [&str; 8] = ["<|end|>", "<|start|>", "a", "b", "1", "2", "Ġ", "ab"];

/// A one-layer model in F32 whose values count upwards within each tensor, and a byte-level tokenizer of eight tokens.
pub(crate) fn tiny_llama() -> File {
    let tensor = |name: &str, shape: &[u64]| {
        let n: u64 = shape.iter().product();
        let data = (0..n).flat_map(|i| (i as f32).to_le_bytes()).collect();
        Tensor { name: name.into(), shape: shape.to_vec(), type_id: 0, data }
    };
    let texts = |all: &[&str]| Value::Texts(all.iter().map(|s| (*s).to_string()).collect());
    let pairs = [
        ("general.architecture", Value::Text("llama".into())),
        ("llama.block_count", Value::U32(1)),
        ("llama.context_length", Value::U32(128)),
        ("llama.embedding_length", Value::U32(HIDDEN as u32)),
        ("llama.feed_forward_length", Value::U32(FFN as u32)),
        ("llama.attention.head_count", Value::U32(HEADS as u32)),
        ("llama.attention.head_count_kv", Value::U32(1)),
        ("llama.attention.key_length", Value::U32(HEAD_DIM as u32)),
        ("llama.rope.dimension_count", Value::U32(HEAD_DIM as u32)),
        ("llama.rope.freq_base", Value::F32(1e6)),
        ("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5)),
        ("tokenizer.ggml.model", Value::Text("gpt2".into())),
        ("tokenizer.ggml.pre", Value::Text("smollm".into())),
        ("tokenizer.ggml.tokens", texts(&TOKENS)),
        ("tokenizer.ggml.token_type", Value::Ints(vec![3, 3, 1, 1, 1, 1, 1, 1])),
        ("tokenizer.ggml.merges", texts(&["a b"])),
        ("tokenizer.ggml.eos_token_id", Value::U32(0)),
        ("tokenizer.ggml.bos_token_id", Value::U32(1)),
        ("tokenizer.ggml.add_bos_token", Value::Bool(false)),
        ("tokenizer.chat_template", Value::Text("{{ messages }}".into())),
    ];
    let q = HEADS * HEAD_DIM;
    let tensors = vec![
        tensor("token_embd.weight", &[TOKENS.len() as u64, HIDDEN]),
        tensor("blk.0.attn_norm.weight", &[HIDDEN]),
        tensor("blk.0.attn_q.weight", &[q, HIDDEN]),
        tensor("blk.0.attn_k.weight", &[HEAD_DIM, HIDDEN]),
        tensor("blk.0.attn_v.weight", &[HEAD_DIM, HIDDEN]),
        tensor("blk.0.attn_output.weight", &[HIDDEN, q]),
        tensor("blk.0.ffn_norm.weight", &[HIDDEN]),
        tensor("blk.0.ffn_gate.weight", &[FFN, HIDDEN]),
        tensor("blk.0.ffn_up.weight", &[FFN, HIDDEN]),
        tensor("blk.0.ffn_down.weight", &[HIDDEN, FFN]),
        tensor("output_norm.weight", &[HIDDEN]),
    ];
    File { version: 3, pairs: pairs.into_iter().map(|(k, v)| (k.to_string(), v)).collect(), tensors }
}
