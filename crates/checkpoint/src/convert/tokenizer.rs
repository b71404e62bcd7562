//! Rebuilds tokenizer.json and tokenizer_config.json from the vocabulary, merges and chat template in a GGUF file.

use serde_json::{Map, Value, json};

use crate::error::{CheckpointError, Result};
use crate::gguf::{Gguf, GgufValue};

const NORMAL: u64 = 1;
const CONTROL: u64 = 3;
const USER_DEFINED: u64 = 4;

/// The files of a tokenizer, and the ids that config.json repeats.
pub(super) struct Rebuilt {
    pub(super) file: Value,
    pub(super) config: Value,
    pub(super) ids: Vec<(&'static str, u64)>,
}

/// Rebuilds the tokenizer of a file whose embedding has `rows` rows.
pub(super) fn rebuild(gguf: &Gguf, rows: usize) -> Result<Rebuilt> {
    require_supported(gguf)?;
    let tokens = texts(gguf, "tokenizer.ggml.tokens")?;
    if tokens.len() != rows {
        let expected = format!("{rows}, the rows of token_embd.weight");
        return Err(CheckpointError::malformed(
            gguf.path(),
            "key tokenizer.ggml.tokens",
            format!("{} tokens", tokens.len()),
            expected,
        ));
    }
    let added = added_tokens(gguf, &tokens)?;
    let mut vocab = Map::new();
    for (id, token) in tokens.iter().enumerate() {
        if vocab.insert((*token).to_string(), json!(id)).is_some() {
            let found = format!("token {token:?} twice");
            return Err(CheckpointError::malformed(gguf.path(), "key tokenizer.ggml.tokens", found, "each token once"));
        }
    }
    let file = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": null,
        "pre_tokenizer": pre_tokenizer(gguf)?,
        "post_processor": null,
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null, "end_of_word_suffix": null,
            "fuse_unk": false, "byte_fallback": false, "ignore_merges": false, "vocab": vocab, "merges": merges(gguf)?,
        },
    });
    let (config, ids) = config(gguf, &tokens)?;
    Ok(Rebuilt { file, config, ids })
}

fn require_supported(gguf: &Gguf) -> Result<()> {
    let model = gguf.require("tokenizer.ggml.model", "the tokenizer's kind", GgufValue::as_str)?;
    if model != "gpt2" {
        let found = format!("{model:?}");
        return Err(CheckpointError::unsupported(gguf.path(), "key tokenizer.ggml.model", found, "\"gpt2\" (byte-level BPE)"));
    }
    for key in ["tokenizer.ggml.add_bos_token", "tokenizer.ggml.add_eos_token", "tokenizer.ggml.add_space_prefix"] {
        if gguf.get(key).is_some_and(|v| v.as_bool() != Some(false)) {
            return Err(CheckpointError::unsupported(gguf.path(), format!("key {key}"), "true", "false, or no such key"));
        }
    }
    Ok(())
}

/// How text is cut before merging. llama.cpp names the scheme; only those whose rules are known exactly are accepted.
fn pre_tokenizer(gguf: &Gguf) -> Result<Value> {
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    match gguf.require("tokenizer.ggml.pre", "the name of the pre-tokenizer", GgufValue::as_str)? {
        "gpt-2" => Ok(byte_level),
        "smollm" => {
            let parts = [json!({"type": "Digits", "individual_digits": true}), byte_level];
            Ok(json!({"type": "Sequence", "pretokenizers": parts}))
        }
        other => {
            let found = format!("{other:?}");
            Err(CheckpointError::unsupported(gguf.path(), "key tokenizer.ggml.pre", found, "\"smollm\" or \"gpt-2\""))
        }
    }
}

fn texts<'a>(gguf: &'a Gguf, key: &str) -> Result<Vec<&'a str>> {
    let expected = "an array of strings";
    let all = gguf.require(key, expected, GgufValue::as_array)?;
    let wrong = |v: &GgufValue| CheckpointError::malformed(gguf.path(), format!("key {key}"), v.brief(), expected);
    all.iter().map(|v| v.as_str().ok_or_else(|| wrong(v))).collect()
}

/// Tokens that are never cut or merged: control tokens, which decoding may skip, and those that a user defined.
fn added_tokens(gguf: &Gguf, tokens: &[&str]) -> Result<Vec<Value>> {
    let key = "tokenizer.ggml.token_type";
    let kinds = gguf.require(key, "an array of token types", GgufValue::as_array)?;
    let wrong =
        |found: String, expected: String| Err(CheckpointError::malformed(gguf.path(), format!("key {key}"), found, expected));
    if kinds.len() != tokens.len() {
        return wrong(format!("{} types", kinds.len()), format!("one for each of {} tokens", tokens.len()));
    }
    let mut added = Vec::new();
    for (id, (kind, token)) in kinds.iter().zip(tokens).enumerate() {
        match kind.as_u64() {
            Some(NORMAL) => {}
            Some(kind @ (CONTROL | USER_DEFINED)) => added.push(json!({
                "id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
                "special": kind == CONTROL,
            })),
            _ => {
                return wrong(format!("{} for token {id} {token:?}", kind.brief()), "1 (normal), 3 (control) or 4 (user)".into());
            }
        }
    }
    Ok(added)
}

/// Merges as pairs, the form in which a token may itself hold a space.
fn merges(gguf: &Gguf) -> Result<Vec<Value>> {
    let key = "tokenizer.ggml.merges";
    let pair = |merge: &str| {
        let wrong =
            || CheckpointError::malformed(gguf.path(), format!("key {key}"), format!("{merge:?}"), "two tokens and a space");
        let (left, right) = merge.split_once(' ').ok_or_else(wrong)?;
        Ok(json!([left, right]))
    };
    texts(gguf, key)?.into_iter().map(pair).collect()
}

type Ids = Vec<(&'static str, u64)>;

fn config(gguf: &Gguf, tokens: &[&str]) -> Result<(Value, Ids)> {
    let mut config = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_prefix_space": false,
        "clean_up_tokenization_spaces": false,
    });
    let mut ids = Vec::new();
    if let Some(context) = gguf.get("llama.context_length").and_then(GgufValue::as_u64) {
        config["model_max_length"] = json!(context);
    }
    for (name, key) in [("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding")] {
        let key = format!("tokenizer.ggml.{key}_token_id");
        if gguf.get(&key).is_none() {
            continue;
        }
        let in_vocabulary = |v: &GgufValue| v.as_u64().filter(|id| (*id as usize) < tokens.len());
        let id = gguf.require(&key, &format!("an id below {}", tokens.len()), in_vocabulary)?;
        config[format!("{name}_token")] = json!(tokens[id as usize]);
        match name {
            "bos" => ids.push(("bos_token_id", id)),
            "eos" => ids.push(("eos_token_id", id)),
            "pad" => ids.push(("pad_token_id", id)),
            _ => {}
        }
    }
    if let Some(template) = gguf.get("tokenizer.chat_template") {
        let text = template
            .as_str()
            .ok_or_else(|| CheckpointError::malformed(gguf.path(), "key tokenizer.chat_template", template.brief(), "text"))?;
        config["chat_template"] = json!(text);
    }
    Ok((config, ids))
}
