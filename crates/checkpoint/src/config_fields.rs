//! The fields of a config.json, looked up and refused in words, and what of them no network here may have.

use std::path::Path;

use serde_json::{Value, json};

use crate::error::{CheckpointError, Result};

/// No size of a real model comes near this; it keeps the product of any two sizes far inside 64 bits.
pub(crate) const LARGEST_SIZE: usize = 1 << 28;

/// Looks fields up and words what is wrong with them. A field that is null counts as absent.
pub(crate) struct Fields<'a> {
    pub(crate) path: &'a Path,
    pub(crate) config: &'a Value,
}

impl Fields<'_> {
    /// The error of a field that holds something else than it may.
    pub(crate) fn wrong(&self, field: &str, found: &Value, expected: &str) -> CheckpointError {
        let found = if found.is_null() { "nothing".to_string() } else { found.to_string() };
        CheckpointError::malformed(self.path, field, found, expected)
    }

    fn unsupported(&self, field: &str, found: &Value, expected: &str) -> CheckpointError {
        CheckpointError::unsupported(self.path, field, found.to_string(), expected)
    }

    /// A size that must be there.
    pub(crate) fn size(&self, field: &str) -> Result<usize> {
        self.required(field, LARGEST_SIZE)
    }

    /// A whole number from 1 to `largest` that must be there.
    pub(crate) fn required(&self, field: &str, largest: usize) -> Result<usize> {
        let expected = || self.wrong(field, &Value::Null, &format!("a whole number from 1 to {largest}"));
        self.optional(field, largest)?.ok_or_else(expected)
    }

    /// A whole number from 1 to `largest` that need not be there.
    pub(crate) fn optional(&self, field: &str, largest: usize) -> Result<Option<usize>> {
        match &self.config[field] {
            Value::Null => Ok(None),
            value => {
                let size = value.as_u64().filter(|n| (1..=largest as u64).contains(n));
                let wrong = || self.wrong(field, value, &format!("a whole number from 1 to {largest}"));
                size.map(|n| Some(n as usize)).ok_or_else(wrong)
            }
        }
    }

    /// true or false; absent is false.
    pub(crate) fn flag(&self, field: &str) -> Result<bool> {
        match &self.config[field] {
            Value::Null => Ok(false),
            value => value.as_bool().ok_or_else(|| self.wrong(field, value, "true or false")),
        }
    }

    /// A positive number; `value` is the field's.
    pub(crate) fn positive(&self, field: &str, value: &Value) -> Result<f64> {
        value.as_f64().filter(|x| *x > 0.0).ok_or_else(|| self.wrong(field, value, "a positive number"))
    }

    /// Refuses text that is none of `names`; `found` is the field's.
    pub(crate) fn one_of(&self, field: &str, found: &Value, names: &[&str]) -> Result<()> {
        if found.as_str().is_some_and(|name| names.contains(&name)) {
            return Ok(());
        }
        Err(self.unsupported(field, found, &names.join(" or ")))
    }

    /// What other architectures have and this one has not.
    pub(crate) fn refuse_variants(&self) -> Result<()> {
        self.one_of("model_type", &self.config["model_type"], &["mistral", "llama"])?;
        if !self.config["hidden_act"].is_null() {
            self.one_of("hidden_act", &self.config["hidden_act"], &["silu"])?;
        }
        for field in ["attention_bias", "mlp_bias"] {
            if self.flag(field)? {
                return Err(self.unsupported(field, &Value::Bool(true), "false"));
            }
        }
        for field in ["rope_scaling", "rope_parameters"] {
            self.refuse_scaled_rope(field)?;
        }
        match &self.config["quantization_config"] {
            Value::Null => Ok(()),
            found => Err(self.unsupported("quantization_config", found, "weights in F32, F16 or BF16")),
        }
    }

    /// Older releases of Transformers call the kind `type`. Only `rope_scaling` must name one: it is there only to change something.
    fn refuse_scaled_rope(&self, field: &str) -> Result<()> {
        let scaling = &self.config[field];
        let kinds: Vec<&Value> =
            ["rope_type", "type"].iter().map(|name| &scaling[*name]).filter(|kind| !kind.is_null()).collect();
        let named = !kinds.is_empty() || field == "rope_parameters";
        if scaling.is_null() || (scaling.is_object() && named && kinds.iter().all(|kind| **kind == "default")) {
            return Ok(());
        }
        Err(self.unsupported(field, scaling, "rope_type \"default\""))
    }

    /// At the top, or in `rope_parameters` where newer releases of Transformers put it.
    pub(crate) fn rope_theta(&self) -> Result<f64> {
        match (&self.config["rope_theta"], &self.config["rope_parameters"]["rope_theta"]) {
            (Value::Null, Value::Null) => {
                let expected = "rope_theta, at the top or in rope_parameters (it has no safe default)";
                Err(self.wrong("rope_theta", &Value::Null, expected))
            }
            (Value::Null, inner) => self.positive("rope_theta", inner),
            (outer, inner) if !inner.is_null() && outer.as_f64() != inner.as_f64() => {
                Err(self.wrong("rope_theta", outer, &format!("the same as rope_parameters.rope_theta, {inner}")))
            }
            (outer, _) => self.positive("rope_theta", outer),
        }
    }

    /// Elements per head: as written, or the hidden size shared out among the heads.
    pub(crate) fn head_dim(&self, hidden_size: usize, heads: usize) -> Result<usize> {
        let head_dim = match self.optional("head_dim", LARGEST_SIZE)? {
            Some(head_dim) => head_dim,
            None if hidden_size.is_multiple_of(heads) => hidden_size / heads,
            None => return Err(self.wrong("head_dim", &Value::Null, "it, since hidden_size is no multiple of the heads")),
        };
        if !head_dim.is_multiple_of(2) {
            return Err(self.wrong("head_dim", &json!(head_dim), "an even number (rotary embedding turns pairs)"));
        }
        Ok(head_dim)
    }
}
