//! adapter_config.json as PEFT writes it: what is read, what is ignored, and what is refused by name.

use std::path::Path;

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::error::{CheckpointError, Result};

/// Fields that say how an adapter was made or saved, not what it computes.
const HARMLESS: [&str; 14] = [
    "auto_mapping",
    "base_model_name_or_path",
    "exclude_modules",
    "inference_mode",
    "lora_dropout",
    "megatron_core",
    "peft_type",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
    "target_modules",
    "task_type",
    "layers_pattern",
];
/// Ways of initialising A and B that leave the base weights as they were.
const PLAIN_INITS: [&str; 3] = ["gaussian", "orthogonal", "eva"];

/// What a LoRA adapter computes: `y + scaling · B(A x)` on each target.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AdapterConfig {
    /// Where the base model was, as the adapter's maker wrote it.
    pub base_model: String,
    /// Rank: rows of A, columns of B.
    pub r: usize,
    /// Numerator of the scaling.
    pub lora_alpha: f64,
    /// Whether alpha is divided by √r (rank-stabilised) instead of r.
    pub use_rslora: bool,
    /// Names of the projections that carry an adapter, such as `q_proj`, or full module names.
    pub target_modules: Vec<String>,
    /// Dropout on the adapter's input while it was trained; of no effect afterwards.
    pub lora_dropout: f64,
}

impl AdapterConfig {
    /// The factor on `B A`: alpha ÷ r, or alpha ÷ √r with `use_rslora`.
    pub fn scaling(&self) -> f64 {
        let r = self.r as f64;
        self.lora_alpha / if self.use_rslora { r.sqrt() } else { r }
    }

    /// Whether a module such as `model.layers.0.self_attn.q_proj` is a target, by PEFT's rule.
    pub(crate) fn targets(&self, module: &str) -> bool {
        self.target_modules.iter().any(|t| module == t || module.strip_suffix(t.as_str()).is_some_and(|rest| rest.ends_with('.')))
    }

    /// Reads a configuration that came from `path`.
    ///
    /// # Errors
    /// Names the field that is missing or wrong, or that asks for something beyond plain LoRA.
    pub(crate) fn from_json(path: &Path, json: &Value) -> Result<Self> {
        let Some(fields) = json.as_object() else {
            return Err(CheckpointError::malformed(path, "content", "no JSON object", "an object of settings"));
        };
        refuse_unsupported(path, fields)?;
        let wrong = |field: &str, expected: &str| {
            let found = fields.get(field).map_or("nothing".to_string(), Value::to_string);
            CheckpointError::malformed(path, field, found, expected)
        };
        let number = |field: &str| json[field].as_f64().filter(|x| x.is_finite());
        let r = json["r"].as_u64().filter(|r| (1..=1 << 20).contains(r)).ok_or_else(|| wrong("r", "a positive integer"))?;
        let names = |v: &Value| v.as_array()?.iter().map(|n| n.as_str().map(str::to_string)).collect::<Option<Vec<_>>>();
        let mut target_modules = names(&json["target_modules"])
            .filter(|n| !n.is_empty())
            .ok_or_else(|| wrong("target_modules", "a list of module names (patterns are not supported)"))?;
        target_modules.sort();
        Ok(Self {
            base_model: json["base_model_name_or_path"].as_str().unwrap_or_default().to_string(),
            r: r as usize,
            lora_alpha: number("lora_alpha").ok_or_else(|| wrong("lora_alpha", "a number"))?,
            use_rslora: json["use_rslora"] == true,
            target_modules,
            lora_dropout: number("lora_dropout").unwrap_or(0.0),
        })
    }

    /// The configuration as PEFT reads it.
    pub(crate) fn to_json(&self) -> Value {
        let whole = self.lora_alpha.fract() == 0.0 && self.lora_alpha.abs() < 1e15;
        let alpha = if whole { json!(self.lora_alpha as i64) } else { json!(self.lora_alpha) };
        json!({
            "alpha_pattern": {},
            "auto_mapping": null,
            "base_model_name_or_path": self.base_model,
            "bias": "none",
            "fan_in_fan_out": false,
            "inference_mode": true,
            "init_lora_weights": true,
            "layers_pattern": null,
            "layers_to_transform": null,
            "lora_alpha": alpha,
            "lora_dropout": self.lora_dropout,
            "modules_to_save": null,
            "peft_type": "LORA",
            "r": self.r,
            "rank_pattern": {},
            "revision": null,
            "target_modules": self.target_modules,
            "task_type": "CAUSAL_LM",
            "use_dora": false,
            "use_rslora": self.use_rslora,
        })
    }
}

/// Every field that is neither known nor off is refused: an option that is ignored gives wrong answers without a word.
fn refuse_unsupported(path: &Path, fields: &Map<String, Value>) -> Result<()> {
    let unsupported =
        |field: &str, value: &Value, expected: &str| Err(CheckpointError::unsupported(path, field, value.to_string(), expected));
    for (field, value) in fields {
        let off = match value {
            Value::Null | Value::Bool(false) => true,
            Value::Array(a) => a.is_empty(),
            Value::Object(o) => o.is_empty(),
            _ => false,
        };
        match field.as_str() {
            "peft_type" if value != "LORA" => return unsupported(field, value, "\"LORA\""),
            "task_type" if !off && value != "CAUSAL_LM" => return unsupported(field, value, "\"CAUSAL_LM\""),
            "bias" if value != "none" => return unsupported(field, value, "\"none\""),
            "init_lora_weights" => {
                let plain = value.is_boolean() || off || value.as_str().is_some_and(|s| PLAIN_INITS.contains(&s));
                if !plain {
                    return unsupported(field, value, "true, or another way that leaves the base weights unchanged");
                }
            }
            "r" | "lora_alpha" | "use_rslora" | "bias" => {}
            name if HARMLESS.contains(&name) || off => {}
            _ => return unsupported(field, value, "plain LoRA, where this is off"),
        }
    }
    match fields.get("peft_type") {
        Some(_) => Ok(()),
        None => Err(CheckpointError::malformed(path, "peft_type", "nothing", "\"LORA\"")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> AdapterConfig {
        AdapterConfig {
            base_model: "base".into(),
            r: 16,
            lora_alpha: 32.0,
            use_rslora: false,
            target_modules: vec!["q_proj".into(), "v_proj".into()],
            lora_dropout: 0.0,
        }
    }

    fn read(json: &Value) -> Result<AdapterConfig> {
        AdapterConfig::from_json(Path::new("adapter_config.json"), json)
    }

    #[test]
    fn scaling_is_alpha_over_r_or_its_root() {
        assert_eq!(config().scaling(), 2.0);
        assert_eq!(AdapterConfig { use_rslora: true, ..config() }.scaling(), 8.0);
    }

    #[test]
    fn written_configurations_read_back() {
        assert_eq!(read(&config().to_json()).unwrap(), config());
        let odd = AdapterConfig { lora_alpha: 0.5, use_rslora: true, ..config() };
        assert_eq!(read(&odd.to_json()).unwrap(), odd);
    }

    #[test]
    fn targets_follow_pefts_rule() {
        assert!(config().targets("model.layers.0.self_attn.q_proj"));
        assert!(!config().targets("model.layers.0.self_attn.xq_proj"));
        assert!(!config().targets("model.layers.0.self_attn.k_proj"));
    }

    #[test]
    fn anything_beyond_plain_lora_is_refused_by_name() {
        let cases = [
            ("use_dora", json!(true)),
            ("bias", json!("all")),
            ("modules_to_save", json!(["lm_head"])),
            ("rank_pattern", json!({"q_proj": 4})),
            ("alpha_pattern", json!({"q_proj": 4})),
            ("fan_in_fan_out", json!(true)),
            ("init_lora_weights", json!("pissa")),
            ("layers_to_transform", json!([1])),
            ("peft_type", json!("LOHA")),
            ("some_new_option", json!({"x": 1})),
        ];
        for (field, value) in cases {
            let mut json = config().to_json();
            json[field] = value;
            let error = read(&json).unwrap_err();
            assert!(matches!(error, CheckpointError::Unsupported { .. }), "{error}");
            assert!(error.to_string().contains(field), "{error}");
        }
        for (field, value) in [("r", json!(0)), ("target_modules", json!("all-linear")), ("lora_alpha", json!(null))] {
            let mut json = config().to_json();
            json[field] = value;
            assert!(read(&json).unwrap_err().to_string().contains(field));
        }
    }
}
