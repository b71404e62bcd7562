//! The network's sizes, read from config.json and from nowhere else.

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

impl ModelConfig {
    /// Reads the text of a Hugging Face config.json.
    ///
    /// # Errors
    /// A missing key, a value of the wrong type or range, or a feature of another architecture.
    pub fn from_json(text: &str) -> Result<Self, ModelError> {
        let json: Value = serde_json::from_str(text).map_err(|error| ModelError::ConfigSyntax(error.to_string()))?;
        refuse_other_architectures(&json)?;
        let hidden = positive(&json, "hidden_size")?;
        let heads = positive(&json, "num_attention_heads")?;
        let config = Self {
            layers: positive(&json, "num_hidden_layers")? as usize,
            hidden,
            heads,
            kv_heads: if json.get("num_key_value_heads").is_some() { positive(&json, "num_key_value_heads")? } else { heads },
            head_dim: head_dim(&json, hidden, heads)?,
            intermediate: positive(&json, "intermediate_size")?,
            vocabulary: positive(&json, "vocab_size")?,
            rope_theta: rope_theta(&json)?,
            rms_norm_eps: number(json.get("rms_norm_eps"), "rms_norm_eps")?,
            tied: json.get("tie_word_embeddings").and_then(Value::as_bool).unwrap_or(false),
            context: positive(&json, "max_position_embeddings")? as usize,
            sliding_window: match json.get("sliding_window") {
                None | Some(Value::Null) => None,
                Some(_) => Some(positive(&json, "sliding_window")? as usize),
            },
        };
        config.check()
    }

    /// G, the query heads that share one key/value head.
    pub fn group(&self) -> i64 {
        self.heads / self.kv_heads
    }

    /// The longest document that this version computes exactly: attention windows are not built yet, so no more than one window.
    pub fn longest_document(&self) -> usize {
        self.sliding_window.map_or(self.context, |window| window.min(self.context))
    }

    fn check(self) -> Result<Self, ModelError> {
        let value =
            |key, found: String, expected: &str| Err(ModelError::ConfigValue { key, found, expected: expected.to_string() });
        if self.heads % self.kv_heads != 0 {
            let expected = format!("a divisor of num_attention_heads = {}", self.heads);
            return value("num_key_value_heads", self.kv_heads.to_string(), &expected);
        }
        if self.head_dim % 2 != 0 {
            return value("head_dim", self.head_dim.to_string(), "an even number (rotary embedding turns pairs)");
        }
        if !(self.rope_theta.is_finite() && self.rope_theta > 0.0) {
            return value("rope_theta", self.rope_theta.to_string(), "a positive number");
        }
        if !(self.rms_norm_eps.is_finite() && self.rms_norm_eps >= 0.0) {
            return value("rms_norm_eps", self.rms_norm_eps.to_string(), "a number that is not negative");
        }
        Ok(self)
    }
}

/// Llama's dense layers are Mistral's; everything else differs in ways that would go unnoticed until the text is bad.
fn refuse_other_architectures(json: &Value) -> Result<(), ModelError> {
    let refused = |key, found: &Value, expected: &str| {
        Err(ModelError::ConfigValue { key, found: found.to_string(), expected: expected.to_string() })
    };
    match json.get("model_type") {
        Some(Value::String(name)) if name == "mistral" || name == "llama" => {}
        Some(other) => return refused("model_type", other, "\"mistral\" (or \"llama\", whose layers are the same)"),
        None => return Err(ModelError::ConfigMissing("model_type")),
    }
    match json.get("hidden_act") {
        None | Some(Value::Null) => {}
        Some(Value::String(name)) if name == "silu" => {}
        Some(other) => return refused("hidden_act", other, "\"silu\""),
    }
    for key in ["attention_bias", "mlp_bias"] {
        if json.get(key).and_then(Value::as_bool) == Some(true) {
            return refused(key, &Value::Bool(true), "false (Mistral's linears have no bias)");
        }
    }
    for (key, scaling) in [("rope_scaling", json.get("rope_scaling")), ("rope_parameters", json.get("rope_parameters"))] {
        let kind = scaling.and_then(|scaling| scaling.get("rope_type").or_else(|| scaling.get("type")));
        if let Some(kind) = kind.filter(|kind| kind.as_str() != Some("default")) {
            return refused(key, kind, "rope_type \"default\" (scaled rotary embeddings are not supported yet)");
        }
    }
    if json.get("quantization_config").is_some_and(|found| !found.is_null()) {
        return refused("quantization_config", &json["quantization_config"], "weights in F32, F16 or BF16");
    }
    Ok(())
}

fn head_dim(json: &Value, hidden: i64, heads: i64) -> Result<i64, ModelError> {
    if json.get("head_dim").is_some_and(|found| !found.is_null()) {
        return positive(json, "head_dim");
    }
    if hidden % heads != 0 {
        let expected = format!("a divisor of hidden_size = {hidden}, since there is no head_dim");
        return Err(ModelError::ConfigValue { key: "num_attention_heads", found: heads.to_string(), expected });
    }
    Ok(hidden / heads)
}

/// Transformers 5 moved the key into `rope_parameters`; older files have it at the top.
fn rope_theta(json: &Value) -> Result<f64, ModelError> {
    let nested = json.get("rope_parameters").and_then(|parameters| parameters.get("rope_theta"));
    number(json.get("rope_theta").filter(|found| !found.is_null()).or(nested), "rope_theta")
}

fn number(found: Option<&Value>, key: &'static str) -> Result<f64, ModelError> {
    let found = found.ok_or(ModelError::ConfigMissing(key))?;
    found.as_f64().ok_or_else(|| ModelError::ConfigValue { key, found: found.to_string(), expected: "a number".to_string() })
}

/// No size of a real model comes near this; it keeps products of three sizes inside 64 bits.
const LARGEST_SIZE: i64 = 1 << 28;

fn positive(json: &Value, key: &'static str) -> Result<i64, ModelError> {
    let found = json.get(key).ok_or(ModelError::ConfigMissing(key))?;
    found.as_i64().filter(|size| (1..=LARGEST_SIZE).contains(size)).ok_or_else(|| ModelError::ConfigValue {
        key,
        found: found.to_string(),
        expected: format!("a whole number from 1 to {LARGEST_SIZE}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nemo() -> Value {
        serde_json::json!({
            "model_type": "mistral", "hidden_size": 5120, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
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

    #[test]
    fn what_is_not_mistral_is_refused_by_name() {
        for (key, value) in [
            ("model_type", serde_json::json!("qwen2")),
            ("hidden_act", serde_json::json!("gelu")),
            ("attention_bias", serde_json::json!(true)),
            ("rope_scaling", serde_json::json!({"rope_type": "yarn"})),
            ("num_key_value_heads", serde_json::json!(7)),
            ("head_dim", serde_json::json!(127)),
            ("vocab_size", serde_json::json!("many")),
        ] {
            let mut json = nemo();
            json[key] = value;
            let error = ModelConfig::from_json(&json.to_string()).unwrap_err().to_string();
            assert!(error.starts_with(&format!("config.json: {key} is ")), "{error}");
        }
    }
}
