//! The network's sizes, read from config.json and from nowhere else.

use std::fmt::Display;

use serde_json::Value;

use crate::ModelError;

/// Sizes and constants of a dense Mistral network. Nothing here has a default: a wrong guess of `rope_theta` or of the head dim gives a
/// model that is coherent on short texts and garbage on long ones.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    /// Number of blocks.
    pub layers: usize,
    /// D, the width of the residual stream.
    pub hidden: i64,
    /// H, query heads.
    pub heads: i64,
    /// K, key/value heads; divides H.
    pub kv_heads: i64,
    /// E, the width of one head. Not always D ÷ H (Mistral Nemo: 128, not 160).
    pub head_dim: i64,
    /// F, the width of the feed-forward part.
    pub intermediate: i64,
    /// V.
    pub vocabulary: i64,
    /// Base of the rotary embedding's wavelengths.
    pub rope_theta: f64,
    /// Added to the mean square in RMSNorm.
    pub rms_norm_eps: f64,
    /// Whether the head is the embedding.
    pub tied: bool,
    /// The longest document the model was made for, in tokens.
    pub context: usize,
    /// Attention reaches this many tokens back (Mistral 7B v0.1); none means all.
    pub sliding_window: Option<usize>,
}

/// No size of a real model comes near this; it keeps the product of any two sizes far inside 64 bits.
const LARGEST_SIZE: i64 = 1 << 28;
/// No real model comes near this either; every block has names and tensors of its own, so a file must not ask for any number of them.
const MOST_LAYERS: i64 = 4096;

// The crate `checkpoint` reads the same file, for what it writes and for checks without libtorch. Both follow the same rules:
// tests/fixtures/configs.json holds the verdicts that both are tested against. A key that is null counts as absent.
impl ModelConfig {
    /// Reads the text of a Hugging Face config.json.
    ///
    /// # Errors
    /// A missing key, a value of the wrong type or range, or a feature of another architecture.
    pub fn from_json(text: &str) -> Result<Self, ModelError> {
        let json: Value = serde_json::from_str(text).map_err(|error| ModelError::ConfigSyntax(error.to_string()))?;
        refuse_other_architectures(&json)?;
        let hidden = size(&json, "hidden_size")?;
        let heads = size(&json, "num_attention_heads")?;
        let kv_heads = optional_size(&json, "num_key_value_heads", LARGEST_SIZE)?.unwrap_or(heads);
        if heads % kv_heads != 0 {
            let expected = format!("a divisor of num_attention_heads = {heads}");
            return Err(wrong("num_key_value_heads", kv_heads, expected));
        }
        Ok(Self {
            layers: optional_size(&json, "num_hidden_layers", MOST_LAYERS)?
                .ok_or(ModelError::ConfigMissing("num_hidden_layers"))? as usize,
            hidden,
            heads,
            kv_heads,
            head_dim: head_dim(&json, hidden, heads)?,
            intermediate: size(&json, "intermediate_size")?,
            vocabulary: size(&json, "vocab_size")?,
            rope_theta: rope_theta(&json)?,
            rms_norm_eps: positive(given(&json, "rms_norm_eps"), "rms_norm_eps")?,
            tied: flag(&json, "tie_word_embeddings")?,
            context: size(&json, "max_position_embeddings")? as usize,
            sliding_window: optional_size(&json, "sliding_window", LARGEST_SIZE)?.map(|window| window as usize),
        })
    }

    /// G, the query heads that share one key/value head.
    pub fn group(&self) -> i64 {
        self.heads / self.kv_heads
    }

    /// The longest document that this version computes exactly: attention windows are not built yet, so no more than one window.
    pub fn longest_document(&self) -> usize {
        self.sliding_window.map_or(self.context, |window| window.min(self.context))
    }
}

/// Llama's dense layers are Mistral's; everything else differs in ways that would go unnoticed until the text is bad.
fn refuse_other_architectures(json: &Value) -> Result<(), ModelError> {
    one_of("architectures", &json["architectures"][0], &CLASSES)?;
    one_of("model_type", &json["model_type"], &["mistral", "llama"])?;
    if let Some(name) = given(json, "hidden_act") {
        one_of("hidden_act", name, &["silu"])?;
    }
    for key in ["attention_bias", "mlp_bias"] {
        if flag(json, key)? {
            return Err(wrong(key, true, "false (Mistral's linears have no bias)"));
        }
    }
    for key in ["rope_scaling", "rope_parameters"] {
        refuse_scaled_rope(json, key)?;
    }
    match given(json, "quantization_config") {
        Some(found) => Err(wrong("quantization_config", found, "weights in F32, F16 or BF16")),
        None => Ok(()),
    }
}

/// The classes in Transformers whose tensors are those that [`crate::Network::load`] asks for.
const CLASSES: [&str; 2] = ["MistralForCausalLM", "LlamaForCausalLM"];

fn one_of(key: &'static str, found: &Value, names: &[&str]) -> Result<(), ModelError> {
    match found {
        Value::Null => Err(ModelError::ConfigMissing(key)),
        Value::String(name) if names.contains(&name.as_str()) => Ok(()),
        other => Err(wrong(key, other, names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(" or "))),
    }
}

/// Older releases of Transformers call the kind `type`. Only `rope_scaling` must name one: it is there only to change something.
fn refuse_scaled_rope(json: &Value, key: &'static str) -> Result<(), ModelError> {
    let Some(scaling) = given(json, key) else { return Ok(()) };
    let kinds: Vec<&Value> = ["rope_type", "type"].into_iter().filter_map(|name| given(scaling, name)).collect();
    let named = !kinds.is_empty() || key == "rope_parameters";
    if scaling.is_object() && named && kinds.iter().all(|kind| **kind == "default") {
        return Ok(());
    }
    Err(wrong(key, scaling, "rope_type \"default\" (scaled rotary embeddings are not supported yet)"))
}

fn head_dim(json: &Value, hidden: i64, heads: i64) -> Result<i64, ModelError> {
    let head_dim = match optional_size(json, "head_dim", LARGEST_SIZE)? {
        Some(head_dim) => head_dim,
        None if hidden % heads == 0 => hidden / heads,
        None => return Err(wrong("head_dim", "absent", format!("it, since {heads} heads do not divide hidden_size = {hidden}"))),
    };
    if head_dim % 2 != 0 {
        return Err(wrong("head_dim", head_dim, "an even number (rotary embedding turns pairs)"));
    }
    Ok(head_dim)
}

/// Transformers 5 moved the key into `rope_parameters`; older files have it at the top.
fn rope_theta(json: &Value) -> Result<f64, ModelError> {
    match (given(json, "rope_theta"), given(&json["rope_parameters"], "rope_theta")) {
        (None, inner) => positive(inner, "rope_theta"),
        (Some(outer), Some(inner)) if outer.as_f64() != inner.as_f64() => {
            Err(wrong("rope_theta", outer, format!("the same as in rope_parameters, {inner}")))
        }
        (outer, _) => positive(outer, "rope_theta"),
    }
}

fn given<'a>(json: &'a Value, key: &str) -> Option<&'a Value> {
    json.get(key).filter(|found| !found.is_null())
}

fn wrong(key: &'static str, found: impl Display, expected: impl Into<String>) -> ModelError {
    ModelError::ConfigValue { key, found: found.to_string(), expected: expected.into() }
}

fn flag(json: &Value, key: &'static str) -> Result<bool, ModelError> {
    given(json, key).map_or(Ok(false), |found| found.as_bool().ok_or_else(|| wrong(key, found, "true or false")))
}

fn positive(found: Option<&Value>, key: &'static str) -> Result<f64, ModelError> {
    let found = found.ok_or(ModelError::ConfigMissing(key))?;
    found.as_f64().filter(|number| *number > 0.0).ok_or_else(|| wrong(key, found, "a positive number"))
}

fn size(json: &Value, key: &'static str) -> Result<i64, ModelError> {
    optional_size(json, key, LARGEST_SIZE)?.ok_or(ModelError::ConfigMissing(key))
}

fn optional_size(json: &Value, key: &'static str, largest: i64) -> Result<Option<i64>, ModelError> {
    let Some(found) = given(json, key) else { return Ok(None) };
    let size = found.as_i64().filter(|size| (1..=largest).contains(size));
    size.map(Some).ok_or_else(|| wrong(key, found, format!("a whole number from 1 to {largest}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nemo() -> Value {
        serde_json::json!({
            "architectures": ["MistralForCausalLM"], "model_type": "mistral", "hidden_size": 5120, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
            "num_hidden_layers": 40, "intermediate_size": 14336, "vocab_size": 131072, "rms_norm_eps": 1e-5,
            "max_position_embeddings": 1024000, "rope_theta": 1000000.0, "sliding_window": null, "tie_word_embeddings": false,
        })
    }

    #[test]
    fn head_dim_is_read_and_not_derived() {
        let config = ModelConfig::from_json(&nemo().to_string()).unwrap();
        assert_eq!((config.head_dim, config.group()), (128, 4));
        let mut without = nemo();
        without.as_object_mut().unwrap().remove("head_dim");
        assert_eq!(ModelConfig::from_json(&without.to_string()).unwrap().head_dim, 160);
    }

    #[test]
    fn rope_theta_stands_in_either_place_and_is_required() {
        let mut json = nemo();
        json.as_object_mut().unwrap().remove("rope_theta");
        let error = ModelConfig::from_json(&json.to_string()).unwrap_err().to_string();
        assert_eq!(error, "config.json has no rope_theta; it is required, no default is assumed");
        json["rope_parameters"] = serde_json::json!({"rope_theta": 5e5, "rope_type": "default"});
        assert_eq!(ModelConfig::from_json(&json.to_string()).unwrap().rope_theta, 5e5);
    }

    /// The same cases as in the crate `checkpoint`: neither may accept what the other refuses.
    #[test]
    fn the_verdicts_are_those_that_every_reader_gives() {
        let cases: Value = serde_json::from_str(include_str!("../../../tests/fixtures/configs.json")).unwrap();
        let read = |case: &Value| {
            let mut json = cases["base"].clone();
            let keys = json.as_object_mut().unwrap();
            keys.extend(case["set"].as_object().unwrap().clone());
            case["remove"].as_array().into_iter().flatten().for_each(|key| drop(keys.remove(key.as_str().unwrap())));
            ModelConfig::from_json(&json.to_string())
        };
        for case in cases["accepted"].as_array().unwrap() {
            let config = read(case).unwrap_or_else(|error| panic!("{case}: {error}"));
            let found = serde_json::json!({
                "layers": config.layers, "kv_heads": config.kv_heads, "head_dim": config.head_dim, "tied": config.tied,
                "rope_theta": config.rope_theta, "sliding_window": config.sliding_window,
                "longest_document": config.longest_document(),
            });
            for (key, expected) in case["gives"].as_object().unwrap() {
                assert_eq!(&found[key], expected, "{key} of {case}");
            }
        }
        for case in cases["refused"].as_array().unwrap() {
            let error = read(case).expect_err(&case.to_string()).to_string();
            let key = case["key"].as_str().unwrap();
            let starts = [format!("config.json: {key} is "), format!("config.json has no {key};")];
            assert!(starts.iter().any(|start| error.starts_with(start)), "{case}: {error}");
        }
    }
}
