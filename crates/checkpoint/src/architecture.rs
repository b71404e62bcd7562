//! The sizes of a dense Mistral-family network as config.json gives them, and the tensors that follow from them.

use std::path::Path;

use serde::Serialize;
use serde_json::{Value, json};

use crate::config_fields::{Fields, LARGEST_SIZE};
use crate::error::Result;
use crate::files;

/// Model classes whose tensors are those of [`Architecture::expected_tensors`].
const KNOWN: [&str; 2] = ["MistralForCausalLM", "LlamaForCausalLM"];

/// No real model comes near this; a file must not ask for names of any number of blocks.
const MOST_LAYERS: usize = 4096;

/// Sizes and constants of a network, all read from its configuration, none guessed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Architecture {
    /// Hugging Face's class name, such as `MistralForCausalLM`.
    pub class: String,
    /// Transformer blocks.
    pub layers: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Elements per head; not always `hidden_size / heads`.
    pub head_dim: usize,
    /// Width between the feed-forward projections.
    pub ffn_size: usize,
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Base of the rotary embedding's frequencies.
    pub rope_theta: f64,
    /// Added to the mean square in RMSNorm.
    pub rms_norm_eps: f64,
    /// Whether the output head is the embedding.
    pub tied_embeddings: bool,
    /// Longest sequence the model was made for, in tokens.
    pub context_length: usize,
    /// Attention window in tokens; `None` for full causal attention.
    pub sliding_window: Option<usize>,
}

// The crate `model` reads the same file for the network itself. Both follow the same rules: tests/fixtures/configs.json holds the
// verdicts that both are tested against.
impl Architecture {
    /// Reads a config.json alone: enough to plan for a model whose weights are elsewhere.
    ///
    /// # Errors
    /// A file that cannot be read or is no JSON; otherwise the field that is missing, wrong or not supported.
    pub fn read(path: &Path) -> Result<Self> {
        Self::from_config(path, &files::read_json(path)?)
    }

    /// Reads a configuration that came from `path`.
    ///
    /// # Errors
    /// Names the field that is missing, wrong or not supported.
    pub(crate) fn from_config(path: &Path, config: &Value) -> Result<Self> {
        let fields = Fields { path, config };
        let class = &config["architectures"][0];
        fields.one_of("architectures", class, &KNOWN)?;
        fields.refuse_variants()?;
        let (hidden_size, heads) = (fields.size("hidden_size")?, fields.size("num_attention_heads")?);
        let kv_heads = fields.optional("num_key_value_heads", LARGEST_SIZE)?.unwrap_or(heads);
        if !heads.is_multiple_of(kv_heads) {
            return Err(fields.wrong("num_key_value_heads", &json!(kv_heads), &format!("a divisor of the {heads} heads")));
        }
        Ok(Self {
            class: class.as_str().unwrap_or_default().to_string(),
            layers: fields.required("num_hidden_layers", MOST_LAYERS)?,
            hidden_size,
            heads,
            kv_heads,
            head_dim: fields.head_dim(hidden_size, heads)?,
            ffn_size: fields.size("intermediate_size")?,
            vocab_size: fields.size("vocab_size")?,
            rope_theta: fields.rope_theta()?,
            rms_norm_eps: fields.positive("rms_norm_eps", &config["rms_norm_eps"])?,
            tied_embeddings: fields.flag("tie_word_embeddings")?,
            context_length: fields.size("max_position_embeddings")?,
            sliding_window: fields.optional("sliding_window", LARGEST_SIZE)?,
        })
    }

    /// The longest document, in tokens, that can be trained on and served: the context, or one attention window where that is shorter.
    pub fn longest_document(&self) -> usize {
        self.sliding_window.map_or(self.context_length, |window| window.min(self.context_length))
    }

    /// The configuration in Hugging Face's words, without token ids.
    pub(crate) fn to_config(&self) -> Value {
        json!({
            "architectures": [self.class],
            "model_type": "mistral",
            "attention_dropout": 0.0,
            "head_dim": self.head_dim,
            "hidden_act": "silu",
            "hidden_size": self.hidden_size,
            "initializer_range": 0.02,
            "intermediate_size": self.ffn_size,
            "max_position_embeddings": self.context_length,
            "num_attention_heads": self.heads,
            "num_hidden_layers": self.layers,
            "num_key_value_heads": self.kv_heads,
            "rms_norm_eps": self.rms_norm_eps,
            "rope_theta": self.rope_theta,
            "sliding_window": self.sliding_window,
            "tie_word_embeddings": self.tied_embeddings,
            "torch_dtype": "bfloat16",
            "use_cache": true,
            "vocab_size": self.vocab_size,
        })
    }

    /// Every tensor that a model of these sizes has, with its shape `[out, in]`, in the order of the forward pass.
    pub fn expected_tensors(&self) -> Vec<(String, Vec<usize>)> {
        let (d, f) = (self.hidden_size, self.ffn_size);
        let (q, kv) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        let mut all = vec![("model.embed_tokens.weight".to_string(), vec![self.vocab_size, d])];
        for layer in 0..self.layers {
            let block = [
                ("input_layernorm", vec![d]),
                ("self_attn.q_proj", vec![q, d]),
                ("self_attn.k_proj", vec![kv, d]),
                ("self_attn.v_proj", vec![kv, d]),
                ("self_attn.o_proj", vec![d, q]),
                ("post_attention_layernorm", vec![d]),
                ("mlp.gate_proj", vec![f, d]),
                ("mlp.up_proj", vec![f, d]),
                ("mlp.down_proj", vec![d, f]),
            ];
            all.extend(block.map(|(name, shape)| (format!("model.layers.{layer}.{name}.weight"), shape)));
        }
        all.push(("model.norm.weight".to_string(), vec![d]));
        if !self.tied_embeddings {
            all.push(("lm_head.weight".to_string(), vec![self.vocab_size, d]));
        }
        all
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::error::CheckpointError;

    pub(crate) fn tiny() -> Value {
        json!({
            "architectures": ["MistralForCausalLM"], "model_type": "mistral", "hidden_size": 32, "num_attention_heads": 2,
            "num_key_value_heads": 1, "head_dim": 8, "intermediate_size": 64, "vocab_size": 20, "num_hidden_layers": 1, "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0, "max_position_embeddings": 64, "tie_word_embeddings": true, "sliding_window": null,
        })
    }

    fn read(config: &Value) -> Result<Architecture> {
        Architecture::from_config(Path::new("config.json"), config)
    }

    #[test]
    fn head_dim_is_taken_as_written() {
        let mut config = tiny();
        assert_eq!(read(&config).unwrap().head_dim, 8);
        let shapes = read(&config).unwrap().expected_tensors();
        assert_eq!(shapes[2], ("model.layers.0.self_attn.q_proj.weight".to_string(), vec![16, 32]));
        config["head_dim"] = Value::Null;
        assert_eq!(read(&config).unwrap().head_dim, 16);
    }

    #[test]
    fn rope_theta_may_stand_in_two_places_and_must_stand_in_one() {
        let mut config = tiny();
        config["rope_theta"] = Value::Null;
        assert!(read(&config).unwrap_err().to_string().contains("rope_theta: found nothing"));
        config["rope_parameters"] = json!({"rope_theta": 1e6});
        assert_eq!(read(&config).unwrap().rope_theta, 1e6);
        config["rope_theta"] = json!(1e4);
        assert!(read(&config).unwrap_err().to_string().contains("the same as rope_parameters"));
    }

    #[test]
    fn another_class_is_not_supported() {
        let mut config = tiny();
        config["architectures"] = json!(["MixtralForCausalLM"]);
        assert!(matches!(read(&config), Err(CheckpointError::Unsupported { .. })));
    }

    /// The same cases as in the crate `model`: neither may accept what the other refuses.
    #[test]
    fn the_verdicts_are_those_that_every_reader_gives() {
        let cases: Value = serde_json::from_str(include_str!("../../../tests/fixtures/configs.json")).unwrap();
        let read = |case: &Value| {
            let mut config = cases["base"].clone();
            let fields = config.as_object_mut().unwrap();
            fields.extend(case["set"].as_object().unwrap().clone());
            case["remove"].as_array().into_iter().flatten().for_each(|key| drop(fields.remove(key.as_str().unwrap())));
            read(&config)
        };
        for case in cases["accepted"].as_array().unwrap() {
            let architecture = read(case).unwrap_or_else(|error| panic!("{case}: {error}"));
            let found = json!({
                "layers": architecture.layers, "kv_heads": architecture.kv_heads, "head_dim": architecture.head_dim,
                "tied": architecture.tied_embeddings, "rope_theta": architecture.rope_theta,
                "sliding_window": architecture.sliding_window, "longest_document": architecture.longest_document(),
            });
            for (key, expected) in case["gives"].as_object().unwrap() {
                assert_eq!(&found[key], expected, "{key} of {case}");
            }
        }
        for case in cases["refused"].as_array().unwrap() {
            let error = read(case).expect_err(&case.to_string()).to_string();
            let key = case["key"].as_str().unwrap();
            assert!(error.starts_with(&format!("config.json: {key}: found ")), "{case}: {error}");
        }
    }

    #[test]
    fn a_written_configuration_reads_back() {
        let architecture = read(&tiny()).unwrap();
        assert_eq!(read(&architecture.to_config()).unwrap(), architecture);
    }
}
