//! Is this model what its configuration says? Every tensor there, of the right shape, with finite values, and nothing else.

use std::path::Path;

use half::{bf16, f16};
use rayon::prelude::*;
use safetensors::Dtype;
use serde::Serialize;

use crate::error::{CheckpointError, Result};
use crate::model_dir::ModelDir;
use crate::tensor_file::OwnedTensor;

/// What was verified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// Tensors that were read.
    pub tensors: usize,
    /// Elements that were looked at.
    pub parameters: u64,
}

/// Reads every tensor of a Hugging Face directory and compares it with config.json.
///
/// # Errors
/// Names the first tensor that is missing, unexpected, of another shape or dtype, or not finite.
pub fn verify(dir: &Path) -> Result<Verified> {
    let model = ModelDir::open(dir)?;
    let architecture = model.architecture()?;
    let expected = architecture.expected_tensors();
    for (name, shape) in &expected {
        check_spec(&model, name, shape)?;
    }
    refuse_extra(&model, &expected, architecture.tied_embeddings)?;
    let counts = expected.par_iter().map(|(name, _)| {
        let tensor = model.tensor(name)?;
        check_finite(dir, name, &tensor)?;
        Ok(tensor.shape.iter().product::<usize>() as u64)
    });
    let parameters = counts.collect::<Result<Vec<u64>>>()?.iter().sum();
    Ok(Verified { tensors: expected.len(), parameters })
}

fn mismatch(dir: &Path, tensor: &str, found: String, expected: String) -> CheckpointError {
    CheckpointError::TensorMismatch { path: dir.to_path_buf(), tensor: tensor.to_string(), found, expected }
}

fn check_spec(model: &ModelDir, name: &str, shape: &[usize]) -> Result<()> {
    let Some(spec) = model.spec(name) else {
        let expected = format!("shape {shape:?}");
        return Err(CheckpointError::MissingTensor { path: model.path().to_path_buf(), tensor: name.to_string(), expected });
    };
    if spec.shape != shape {
        return Err(mismatch(model.path(), name, format!("shape {:?}", spec.shape), format!("shape {shape:?}")));
    }
    if !matches!(spec.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16) {
        return Err(mismatch(model.path(), name, format!("dtype {}", spec.dtype), "dtype F32, F16 or BF16".into()));
    }
    Ok(())
}

/// Tensors beyond the expected ones are refused, but for a tied head that is stored although it equals the embedding.
fn refuse_extra(model: &ModelDir, expected: &[(String, Vec<usize>)], tied: bool) -> Result<()> {
    let known: std::collections::HashSet<&str> = expected.iter().map(|(name, _)| name.as_str()).collect();
    for name in model.names().filter(|n| !known.contains(n)) {
        if tied && name == "lm_head.weight" {
            if model.tensor(name)? != model.tensor("model.embed_tokens.weight")? {
                let expected = "the values of model.embed_tokens.weight, because tie_word_embeddings is true";
                return Err(mismatch(model.path(), name, "other values".into(), expected.into()));
            }
            continue;
        }
        return Err(mismatch(model.path(), name, "it in the file".into(), "no tensor of that name, by config.json".into()));
    }
    Ok(())
}

fn check_finite(dir: &Path, name: &str, tensor: &OwnedTensor) -> Result<()> {
    let first = match tensor.dtype {
        Dtype::F32 => first_bad::<4>(&tensor.data, |b| f32::from_le_bytes(b).is_finite()),
        Dtype::F16 => first_bad::<2>(&tensor.data, |b| f16::from_le_bytes(b).is_finite()),
        _ => first_bad::<2>(&tensor.data, |b| bf16::from_le_bytes(b).is_finite()),
    };
    match first {
        None => Ok(()),
        Some(at) => Err(mismatch(dir, name, format!("NaN or infinity at element {at}"), "finite values".into())),
    }
}

fn first_bad<const N: usize>(data: &[u8], finite: impl Fn([u8; N]) -> bool) -> Option<usize> {
    data.as_chunks::<N>().0.iter().position(|bytes| !finite(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::architecture::{Architecture, tests::tiny};
    use crate::model_dir::CONFIG;
    use crate::model_writer::ModelWriter;
    use crate::tensor_file::TensorSpec;

    /// Writes a tiny model in fp32, changed by `change` before it is written.
    fn model(change: impl FnOnce(&mut Vec<(String, Vec<usize>, f32)>)) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(CONFIG), tiny().to_string()).unwrap();
        let architecture = Architecture::from_config(Path::new("c"), &tiny()).unwrap();
        let mut tensors: Vec<_> = architecture.expected_tensors().into_iter().map(|(n, s)| (n, s, 0.5)).collect();
        change(&mut tensors);
        let specs = tensors.iter().map(|(n, s, _)| TensorSpec::new(n, Dtype::F32, s.clone())).collect();
        let mut writer = ModelWriter::create(dir.path(), specs).unwrap();
        for (name, shape, value) in &tensors {
            let data: Vec<u8> = value.to_le_bytes().repeat(shape.iter().product());
            writer.write(name, &data).unwrap();
        }
        writer.finish().unwrap();
        dir
    }

    fn error(change: impl FnOnce(&mut Vec<(String, Vec<usize>, f32)>)) -> String {
        verify(model(change).path()).unwrap_err().to_string()
    }

    #[test]
    fn a_whole_model_is_verified() {
        let verified = verify(model(|_| {}).path()).unwrap();
        assert_eq!(verified.tensors, 11);
        let tied = model(|t| t.push(("lm_head.weight".into(), vec![20, 32], 0.5)));
        verify(tied.path()).unwrap();
    }

    #[test]
    fn what_is_wrong_is_named_in_full() {
        let message = error(|t| t.retain(|t| t.0 != "model.layers.0.mlp.up_proj.weight"));
        assert!(message.contains("tensor model.layers.0.mlp.up_proj.weight: found nothing"), "{message}");
        let message = error(|t| t[2].1 = vec![32, 16]);
        assert!(message.contains("self_attn.q_proj.weight: found shape [32, 16], expected shape [16, 32]"), "{message}");
        let message = error(|t| t[3].2 = f32::NAN);
        assert!(message.contains("self_attn.k_proj.weight: found NaN or infinity at element 0"), "{message}");
        let message = error(|t| t.push(("model.layers.0.self_attn.q_proj.bias".into(), vec![16], 0.0)));
        assert!(message.contains("q_proj.bias: found it in the file"), "{message}");
        let message = error(|t| t.push(("lm_head.weight".into(), vec![20, 32], 0.25)));
        assert!(message.contains("tie_word_embeddings"), "{message}");
    }
}
