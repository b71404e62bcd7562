//! A tiny model that programs can train and serve in a second, conversations for it, and a run file.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::repository::root;
use crate::safetensors;

/// ChatML with nothing added: the shape of SmolLM2's template without its default system turn.
const CHAT_TEMPLATE: &str = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}\
                             {% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

const SPECIAL: [&str; 3] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];

/// The printable stand-in of each byte in a byte-level vocabulary (GPT-2's table).
fn stand_in(byte: u8) -> char {
    let printable = |b: u8| matches!(b, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    if printable(byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|b| !printable(*b)).count();
    char::from_u32(256 + u32::try_from(before).unwrap_or(0)).unwrap_or('?')
}

/// A tokenizer with one token per byte after the three special ones.
fn tokenizer() -> Value {
    let special = SPECIAL.iter().enumerate();
    let added: Vec<_> = special
        .clone()
        .map(|(id, content)| {
            json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true})
        })
        .collect();
    let mut vocabulary: Map<String, Value> = special.map(|(id, content)| ((*content).to_owned(), json!(id))).collect();
    for byte in 0..=u8::MAX {
        vocabulary.insert(stand_in(byte).to_string(), json!(usize::from(byte) + SPECIAL.len()));
    }
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let model = json!({"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null, "end_of_word_suffix": null,
        "fuse_unk": false, "byte_fallback": false, "ignore_merges": false, "vocab": vocabulary, "merges": []});
    json!({"version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": null,
        "pre_tokenizer": byte_level, "post_processor": null, "decoder": byte_level, "model": model})
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
}

/// Writes the tiny model of `tests/oracle/tiny-mistral` with a byte-level tokenizer into a new directory: 3 layers, 4 heads, 2 key/value
/// heads, vocabulary 320, context 512, about 500 kB.
///
/// # Panics
/// When a file cannot be written.
pub fn tiny_model(directory: &Path) {
    std::fs::create_dir_all(directory).expect("a directory for the model");
    for name in ["config.json", "model.safetensors"] {
        std::fs::copy(root().join("tests/oracle/tiny-mistral").join(name), directory.join(name)).expect("the tiny model's files");
    }
    write(&directory.join("tokenizer.json"), &tokenizer().to_string());
    let config = json!({"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<|im_start|>", "eos_token": "<|im_end|>",
        "unk_token": "<|endoftext|>", "add_bos_token": false, "chat_template": CHAT_TEMPLATE});
    write(&directory.join("tokenizer_config.json"), &config.to_string());
}

/// Ties the embedding of a model directory to its output, whose own weights are then passed over.
///
/// # Panics
/// When its config.json cannot be read or written.
pub fn tie(model: &Path) {
    set(model, "tie_word_embeddings", &json!(true));
}

/// Changes a field of a model's config.json.
fn set(model: &Path, field: &str, value: &Value) {
    let path = model.join("config.json");
    let text = std::fs::read_to_string(&path).expect("config.json");
    let mut config: Value = serde_json::from_str(&text).expect("JSON");
    config[field] = value.clone();
    write(&path, &config.to_string());
}

/// Gives the tiny model a vocabulary of 32,000, the weights of its tokens over and over: with all of it trained, a checkpoint is 50 MB.
///
/// # Panics
/// When its files cannot be read or written.
pub fn widen(model: &Path) {
    const VOCABULARY: usize = 32_000;
    let path = model.join("model.safetensors");
    let mut tensors = safetensors::read(&std::fs::read(&path).expect("the tiny model's weights"));
    for tensor in
        tensors.iter_mut().filter(|tensor| ["model.embed_tokens.weight", "lm_head.weight"].contains(&tensor.name.as_str()))
    {
        let bytes = tensor.data.len() / tensor.shape[0] * VOCABULARY;
        tensor.data = tensor.data.iter().copied().cycle().take(bytes).collect();
        tensor.shape[0] = VOCABULARY;
    }
    std::fs::write(&path, safetensors::write(&tensors)).expect("the wide model's weights");
    set(model, "vocab_size", &json!(VOCABULARY));
}

/// Makes the embedding of a character's token NaN in the tiny model: a sequence that holds it has no finite loss.
///
/// # Panics
/// When the weights cannot be read or written, or the character is not one byte.
pub fn poison_token(model: &Path, character: char) {
    let path = model.join("model.safetensors");
    let mut tensors = safetensors::read(&std::fs::read(&path).expect("the tiny model's weights"));
    let embedding = tensors.iter_mut().find(|tensor| tensor.name == "model.embed_tokens.weight").expect("the embedding");
    let row = usize::from(u8::try_from(character).expect("one byte")) + SPECIAL.len();
    let width = embedding.shape[1] * 4;
    for element in embedding.data[row * width..(row + 1) * width].chunks_exact_mut(4) {
        element.copy_from_slice(&f32::NAN.to_le_bytes());
    }
    std::fs::write(&path, safetensors::write(&tensors)).expect("the tiny model's weights");
}

/// One conversation of a question and an answer, as a line of JSONL.
pub fn conversation(question: &str, answer: &str) -> String {
    json!({"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}).to_string()
}

/// Sixty-four small sums as conversations, one per line.
pub fn sums() -> String {
    (0..64u32).fold(String::new(), |mut text, n| {
        let (a, b) = (n % 8, n / 8);
        let _ = writeln!(text, "{}", conversation(&format!("{a} plus {b}"), &format!("makes {}", a + b)));
        text
    })
}

/// Forty-eight conversations whose lengths make each one known by its counts of tokens and of target tokens, and a sum of a few of them
/// hard to mistake for that of others.
pub fn lengths() -> String {
    (0..48usize).fold(String::new(), |mut text, n| {
        let (question, answer) = ("q".repeat(1 + n * 29 % 48), "a".repeat(1 + n * n % 47 + n / 24));
        let _ = writeln!(text, "{}", conversation(&question, &answer));
        text
    })
}

/// A run file for the tiny model: fp32, LoRA of rank 4, ten steps of four sequences of 64 tokens.
pub const RUN_FILE: &str = r#"name = "tiny"
seed = 7
[model]
path = "model"
dtype = "fp32"
device = "cpu"
[data]
train = ["train.jsonl"]
valid = ["valid.jsonl"]
format = "chat"
sequence_length = 64
[method]
kind = "lora"
rank = 4
alpha = 8
[train]
steps = 10
global_batch = 4
micro_batch = 1
learning_rate = 1e-2
schedule = "cosine"
warmup_steps = 2
[parallel]
dp = 1
[checkpoint]
every_steps = 5
keep = 3
[eval]
every_steps = 5
"#;

/// Writes `model/`, `train.jsonl`, `valid.jsonl` and `run.toml` into a directory: everything that one small run needs.
///
/// # Panics
/// When a file cannot be written.
pub fn workplace(directory: &Path) {
    tiny_model(&directory.join("model"));
    write(&directory.join("train.jsonl"), &sums());
    write(&directory.join("valid.jsonl"), &sums().lines().take(16).map(|line| line.to_owned() + "\n").collect::<String>());
    write(&directory.join("run.toml"), RUN_FILE);
}
