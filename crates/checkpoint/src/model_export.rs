//! A new model directory made from an existing one: other weights, the same configuration and tokenizer.

use std::fs;
use std::path::Path;

use safetensors::Dtype;
use serde_json::{Value, json};

use crate::error::{CheckpointError, Result};
use crate::files;
use crate::model_dir::{CONFIG, ModelDir};
use crate::model_writer::{FileDigest, ModelWriter};
use crate::seal::{self, SealError};
use crate::staging::Staging;
use crate::tensor_file::TensorSpec;

/// What is carried over beside config.json. Nothing else of a model directory is: it may hold code.
const COMPANIONS: [&str; 14] = [
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    "tekken.json",
    "tokenizer.model",
    "tokenizer.model.v3",
    "LICENSE",
    "NOTICE",
];

/// A model directory being written; it appears under its name only when it is complete, and not at all if dropped before.
pub struct ModelExport {
    staging: Staging,
    writer: ModelWriter,
}

impl ModelExport {
    /// Starts `out` as a copy of `base` but for the weights, which are those of `specs`, written in this order.
    /// config.json is carried over as it stands, but for its dtype where that of the weights is another.
    ///
    /// # Errors
    /// Where `out` is occupied or a file cannot be copied.
    pub fn start(base: &ModelDir, out: &Path, specs: Vec<TensorSpec>) -> Result<Self> {
        let staging = Staging::start(out)?;
        let config = config_text(base, specs.first().map(|s| s.dtype));
        files::write_synced(&staging.path().join(CONFIG), config.as_bytes())?;
        for name in COMPANIONS {
            let from = base.path().join(name);
            if from.exists() {
                let bytes = fs::read(&from).map_err(|e| CheckpointError::io("read", &from, e))?;
                files::write_synced(&staging.path().join(name), &bytes)?;
            }
        }
        let writer = ModelWriter::create(staging.path(), specs)?;
        Ok(Self { staging, writer })
    }

    /// Writes the next tensor's data, little-endian and row-major.
    ///
    /// # Errors
    /// Where it is not this tensor's turn, the size is wrong, or the disk is full.
    pub fn write(&mut self, name: &str, data: &[u8]) -> Result<()> {
        self.writer.write(name, data)
    }

    /// Completes the directory. Returns the files of weights.
    ///
    /// # Errors
    /// Where tensors are missing, or the system fails to write.
    pub fn finish(self) -> Result<Vec<FileDigest>> {
        self.finish_sealed(seal::open)
    }

    /// The same, and before the directory gets its name `seal` may add files to it, synced: it is called with the directory and the digests of
    /// the files of weights when all is written.
    ///
    /// # Errors
    /// As for [`ModelExport::finish`], and [`CheckpointError::Unsealed`] where `seal` fails: nothing is published then.
    pub fn finish_sealed(self, seal: impl FnOnce(&Path, &[FileDigest]) -> Result<(), SealError>) -> Result<Vec<FileDigest>> {
        let digests = self.writer.finish()?;
        seal::seal(self.staging.path(), &digests, seal)?;
        self.staging.publish()?;
        Ok(digests)
    }
}

fn config_text(base: &ModelDir, dtype: Option<Dtype>) -> String {
    let name = match dtype {
        Some(Dtype::F32) => "float32",
        Some(Dtype::F16) => "float16",
        Some(Dtype::BF16) => "bfloat16",
        _ => return base.config_text().to_string(),
    };
    // Transformers renamed the field; whichever stands there is set.
    let mut config = base.config().clone();
    let fields: Vec<&str> = ["dtype", "torch_dtype"].into_iter().filter(|f| !config[*f].is_null()).collect();
    if fields.iter().all(|f| config[*f] == name) && !fields.is_empty() {
        return base.config_text().to_string();
    }
    let fields = if fields.is_empty() { vec!["torch_dtype"] } else { fields };
    if let Value::Object(config) = &mut config {
        config.extend(fields.into_iter().map(|f| (f.to_string(), json!(name))));
    }
    files::json_text(&config)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn specs_of_one() -> Vec<TensorSpec> {
        vec![TensorSpec::new("w", Dtype::BF16, [1])]
    }

    #[test]
    fn carries_configuration_and_tokenizer_over() {
        let dir = tempfile::tempdir().unwrap();
        let (base, out) = (dir.path().join("base"), dir.path().join("out"));
        fs::create_dir(&base).unwrap();
        fs::write(base.join(CONFIG), r#"{"a": 1, "dtype": "bfloat16"}"#).unwrap();
        fs::write(base.join("tokenizer.json"), "{}").unwrap();
        fs::write(base.join("modeling.py"), "print('no')").unwrap();
        let specs = vec![TensorSpec::new("w", Dtype::BF16, [1])];
        let mut writer = ModelWriter::create(&base, specs.clone()).unwrap();
        writer.write("w", &[1, 2]).unwrap();
        writer.finish().unwrap();
        let base = ModelDir::open(&base).unwrap();
        let mut export = ModelExport::start(&base, &out, specs).unwrap();
        assert!(!out.exists());
        export.write("w", &[3, 4]).unwrap();
        export.finish().unwrap();
        let copy = ModelDir::open(&out).unwrap();
        assert_eq!(copy.config_text(), base.config_text());
        assert_eq!(copy.tensor("w").unwrap().data, [3, 4]);
        assert!(out.join("tokenizer.json").exists() && !out.join("modeling.py").exists());
        let mut sealed = ModelExport::start(&base, &dir.path().join("sealed"), specs_of_one()).unwrap();
        sealed.write("w", &[3, 4]).unwrap();
        let refused = sealed.finish_sealed(|_, _| Err("no key".into())).unwrap_err();
        assert!(matches!(&refused, CheckpointError::Unsealed { .. }) && refused.to_string().contains("no key"), "{refused}");
        assert!(!dir.path().join("sealed").exists(), "nothing is published");
        let mut sealed = ModelExport::start(&base, &dir.path().join("sealed"), specs_of_one()).unwrap();
        sealed.write("w", &[3, 4]).unwrap();
        let seal = |dir: &Path, known: &[FileDigest]| {
            assert!(known.iter().map(|file| file.name.as_str()).eq(["model.safetensors"]));
            Ok(fs::write(dir.join("model.sig"), fs::read_dir(dir)?.count().to_string())?)
        };
        sealed.finish_sealed(seal).unwrap();
        assert_eq!(
            fs::read(dir.path().join("sealed/model.sig")).unwrap(),
            b"3",
            "configuration, tokenizer and weights were there"
        );
        let wide = ModelExport::start(&base, &dir.path().join("wide"), vec![TensorSpec::new("w", Dtype::F32, [1])]).unwrap();
        assert!(fs::read_to_string(wide.staging.path().join(CONFIG)).unwrap().contains(r#""dtype": "float32""#));
    }
}
