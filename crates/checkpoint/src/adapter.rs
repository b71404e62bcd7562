//! LoRA adapters in PEFT's layout: adapter_config.json and adapter_model.safetensors.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::Value;

use crate::adapter_config::AdapterConfig;
use crate::error::{CheckpointError, Result};
use crate::files;
use crate::model_dir::file_digest;
use crate::model_writer::FileDigest;
use crate::seal::{self, SealError};
use crate::staging::Staging;
use crate::tensor_file::{OwnedTensor, TensorFile, TensorFileWriter, TensorSpec};

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";
const PREFIX: &str = "base_model.model.";

/// One of the two matrices of an adapter on a linear module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Factor {
    /// `[r, in]`.
    A,
    /// `[out, r]`.
    B,
}

/// PEFT's name of a factor; `module` is the base model's name without `.weight`, such as
/// `model.layers.0.self_attn.q_proj`.
pub(crate) fn peft_name(module: &str, factor: Factor) -> String {
    let factor = match factor {
        Factor::A => "A",
        Factor::B => "B",
    };
    format!("{PREFIX}{module}.lora_{factor}.weight")
}

/// The module and factor that a PEFT tensor name stands for, or `None` for any other name.
pub(crate) fn parse_peft_name(name: &str) -> Option<(&str, Factor)> {
    let inner = name.strip_prefix(PREFIX)?;
    let module = |suffix| inner.strip_suffix(suffix).filter(|m: &&str| !m.is_empty());
    match module(".lora_A.weight") {
        Some(m) => Some((m, Factor::A)),
        None => module(".lora_B.weight").map(|m| (m, Factor::B)),
    }
}

/// Writes an adapter directory, which appears only when it is complete. `tensors` carry PEFT's names ([`peft_name`]),
/// an A `[r, in]` and a B `[out, r]` for every module.
///
/// # Errors
/// Where names, ranks and targets do not fit the configuration, `dir` is occupied, or the disk is full.
pub fn write_adapter(dir: &Path, config: &AdapterConfig, tensors: &[(String, TensorView<'_>)]) -> Result<Vec<FileDigest>> {
    write_adapter_sealed(dir, config, tensors, seal::open)
}

/// The same, and before the directory gets its name `seal` may add files to it, synced: it is called with the directory and the digests of both
/// files when they are written.
///
/// # Errors
/// As for [`write_adapter`], and [`CheckpointError::Unsealed`] where `seal` fails: nothing is published then.
pub fn write_adapter_sealed(
    dir: &Path,
    config: &AdapterConfig,
    tensors: &[(String, TensorView<'_>)],
    seal: impl FnOnce(&Path, &[FileDigest]) -> Result<(), SealError>,
) -> Result<Vec<FileDigest>> {
    let specs: Vec<TensorSpec> = tensors.iter().map(|(n, t)| TensorSpec::new(n, t.dtype(), t.shape())).collect();
    check(&dir.join(WEIGHTS), config, specs.iter())?;
    let staging = Staging::start(dir)?;
    files::write_synced(&staging.path().join(CONFIG), files::json_text(&config.to_json()).as_bytes())?;
    let mut writer = TensorFileWriter::create(&staging.path().join(WEIGHTS), specs, &[("format", "pt")])?;
    for (name, tensor) in tensors {
        writer.write(name, tensor.data())?;
    }
    let (bytes, sha256) = writer.finish()?;
    let weights = FileDigest { name: WEIGHTS.to_string(), bytes, sha256 };
    let written = vec![file_digest(&staging.path().join(CONFIG))?, weights];
    seal::seal(staging.path(), &written, seal)?;
    staging.publish()?;
    Ok(written)
}

/// Every module is a target with one A and one B of the configured rank.
fn check<'a>(path: &Path, config: &AdapterConfig, specs: impl Iterator<Item = &'a TensorSpec>) -> Result<BTreeSet<String>> {
    let wrong = |tensor: &str, found: String, expected: String| CheckpointError::TensorMismatch {
        path: path.to_path_buf(),
        tensor: tensor.to_string(),
        found,
        expected,
    };
    let mut modules: BTreeMap<&str, Vec<Factor>> = BTreeMap::new();
    for spec in specs {
        let Some((module, factor)) = parse_peft_name(&spec.name) else {
            return Err(wrong(&spec.name, "another name".into(), format!("{PREFIX}MODULE.lora_A.weight or .lora_B.weight")));
        };
        if !config.targets(module) {
            return Err(wrong(&spec.name, "a module that is no target".into(), format!("one of {:?}", config.target_modules)));
        }
        let fits = matches!((factor, spec.shape.as_slice()), (Factor::A, [r, _]) | (Factor::B, [_, r]) if *r == config.r);
        if !fits {
            let expected = if factor == Factor::A { format!("[{}, in]", config.r) } else { format!("[out, {}]", config.r) };
            return Err(wrong(&spec.name, format!("shape {:?}", spec.shape), format!("shape {expected}")));
        }
        if !matches!(spec.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16) {
            return Err(wrong(&spec.name, format!("dtype {}", spec.dtype), "dtype F32, F16 or BF16".into()));
        }
        modules.entry(module).or_default().push(factor);
    }
    for (module, factors) in &modules {
        for factor in [Factor::A, Factor::B] {
            if !factors.contains(&factor) {
                let tensor = peft_name(module, factor);
                let expected = "it beside the other factor".to_string();
                return Err(CheckpointError::MissingTensor { path: path.to_path_buf(), tensor, expected });
            }
        }
    }
    if modules.is_empty() {
        return Err(CheckpointError::malformed(path, "tensors", "none", "an A and a B for each target"));
    }
    Ok(modules.into_keys().map(str::to_string).collect())
}

/// An open adapter directory. The base model's shapes are not known here: whoever attaches it checks `in` and `out`.
#[derive(Debug)]
pub struct AdapterDir {
    dir: PathBuf,
    config: AdapterConfig,
    weights: TensorFile,
    modules: BTreeSet<String>,
}

impl AdapterDir {
    /// Opens a directory in PEFT's layout.
    ///
    /// # Errors
    /// Where a file is missing or malformed, or the adapter is more than plain LoRA (the field is named).
    pub fn open(dir: &Path) -> Result<Self> {
        let config_path = dir.join(CONFIG);
        let json: Value = files::read_json(&config_path)?;
        let config = AdapterConfig::from_json(&config_path, &json)?;
        let path = dir.join(WEIGHTS);
        if !path.exists() && dir.join("adapter_model.bin").exists() {
            let found = "pickle (adapter_model.bin), which can run code";
            return Err(CheckpointError::unsupported(dir, "weights", found, WEIGHTS));
        }
        let weights = TensorFile::open(&path)?;
        let modules = check(&path, &config, weights.specs())?;
        Ok(Self { dir: dir.to_path_buf(), config, weights, modules })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// Rank, alpha, targets.
    pub fn config(&self) -> &AdapterConfig {
        &self.config
    }

    /// The base model's modules that carry an adapter, such as `model.layers.0.self_attn.q_proj`.
    pub fn modules(&self) -> impl Iterator<Item = &str> {
        self.modules.iter().map(String::as_str)
    }

    /// Reads one tensor by PEFT's name: its dtype, shape and bytes.
    ///
    /// # Errors
    /// Where there is no such tensor or the file cannot be read.
    pub fn tensor_bytes(&self, name: &str) -> Result<(Dtype, Vec<usize>, Vec<u8>)> {
        self.weights.read(name).map(OwnedTensor::into_parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODULE: &str = "model.layers.0.self_attn.q_proj";

    fn config() -> AdapterConfig {
        AdapterConfig {
            base_model: "base".into(),
            r: 2,
            lora_alpha: 4.0,
            use_rslora: false,
            target_modules: vec!["q_proj".into()],
            lora_dropout: 0.0,
        }
    }

    fn view(shape: [usize; 2], data: &[u8]) -> TensorView<'_> {
        TensorView::new(Dtype::F32, shape.to_vec(), &data[..shape[0] * shape[1] * 4]).unwrap()
    }

    #[test]
    fn what_is_written_reads_back() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("adapter");
        let data = [7u8; 64];
        let tensors = [(peft_name(MODULE, Factor::A), view([2, 3], &data)), (peft_name(MODULE, Factor::B), view([5, 2], &data))];
        write_adapter(&dir, &config(), &tensors).unwrap();
        let adapter = AdapterDir::open(&dir).unwrap();
        assert_eq!(adapter.config(), &config());
        assert_eq!(adapter.modules().collect::<Vec<_>>(), [MODULE]);
        assert_eq!(adapter.tensor_bytes(&peft_name(MODULE, Factor::B)).unwrap().1, [5, 2]);
        let first = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight";
        assert_eq!(adapter.tensor_bytes(first).unwrap(), (Dtype::F32, vec![2, 3], data[..24].to_vec()));
        assert!(matches!(write_adapter(&dir, &config(), &tensors), Err(CheckpointError::Occupied { .. })));
        let sealed = dir.with_file_name("sealed");
        let refused = write_adapter_sealed(&sealed, &config(), &tensors, |_, _| Err("no key".into())).unwrap_err();
        assert!(refused.to_string().contains("is not published: no key") && !sealed.exists(), "{refused}");
        let seal = |dir: &Path, known: &[FileDigest]| {
            assert!(known.iter().all(|file| file_digest(&dir.join(&file.name)).unwrap() == *file) && known.len() == 2);
            Ok(std::fs::write(dir.join("model.sig"), "signed")?)
        };
        write_adapter_sealed(&sealed, &config(), &tensors, seal).unwrap();
        assert_eq!(std::fs::read(sealed.join("model.sig")).unwrap(), b"signed");
        AdapterDir::open(&sealed).unwrap();
    }

    #[test]
    fn contradictions_are_refused_before_anything_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("adapter");
        let data = [0u8; 64];
        let a = || (peft_name(MODULE, Factor::A), view([2, 3], &data));
        let error = |tensors: &[(String, TensorView<'_>)]| write_adapter(&target, &config(), tensors).unwrap_err().to_string();
        assert!(error(&[a()]).contains("q_proj.lora_B.weight: found nothing"));
        assert!(error(&[a(), (peft_name(MODULE, Factor::B), view([5, 3], &data))]).contains("expected shape [out, 2]"));
        assert!(error(&[(peft_name("model.layers.0.mlp.up_proj", Factor::A), view([2, 3], &data))]).contains("no target"));
        assert!(error(&[("x.weight".into(), view([2, 3], &data))]).contains("lora_A.weight"));
        assert!(error(&[]).contains("tensors: found none"));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
