//! A model in Hugging Face layout: config.json and safetensors, in one file or in shards with an index.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::architecture::Architecture;
use crate::error::{CheckpointError, Result};
use crate::files;
use crate::model_writer::FileDigest;
use crate::piece::Piece;
use crate::tensor_file::{OwnedTensor, TensorFile, TensorSet, TensorSpec};

pub(crate) const CONFIG: &str = "config.json";
pub(crate) const WEIGHTS: &str = "model.safetensors";
pub(crate) const INDEX: &str = "model.safetensors.index.json";

/// An open model directory. Tensors are read one by one when asked for; nothing is kept in memory but the headers.
#[derive(Debug)]
pub struct ModelDir {
    dir: PathBuf,
    config_text: String,
    config: Value,
    tensors: TensorSet,
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl ModelDir {
    /// Opens a directory and checks every header and the index; weights are not read yet.
    ///
    /// # Errors
    /// Where config.json or the weights are missing, malformed or do not fit together.
    pub fn open(dir: &Path) -> Result<Self> {
        let config_path = dir.join(CONFIG);
        let config_text = files::read_text(&config_path)?;
        let config: Value = files::parse_json(&config_path, &config_text)?;
        let (single, index) = (dir.join(WEIGHTS), dir.join(INDEX));
        let shards = if single.exists() {
            vec![TensorFile::open(&single)?]
        } else if index.exists() {
            open_shards(dir, &index)?
        } else {
            return Err(no_weights(dir));
        };
        let tensors = TensorSet::new(dir, shards)?;
        Ok(Self { dir: dir.to_path_buf(), config_text, config, tensors })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// config.json, parsed.
    pub fn config(&self) -> &Value {
        &self.config
    }

    /// config.json as it stands.
    pub fn config_text(&self) -> &str {
        &self.config_text
    }

    /// The sizes in config.json.
    ///
    /// # Errors
    /// Where the configuration is not that of a dense Mistral-family model.
    pub fn architecture(&self) -> Result<Architecture> {
        Architecture::from_config(&self.dir.join(CONFIG), &self.config)
    }

    /// All tensors: name, dtype and shape, file by file in the order of the data.
    pub fn specs(&self) -> impl Iterator<Item = &TensorSpec> {
        self.tensors.specs()
    }

    /// The names of all tensors.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.specs().map(|s| s.name.as_str())
    }

    /// Dtype and shape of a tensor, without reading it.
    pub fn spec(&self, name: &str) -> Option<&TensorSpec> {
        self.tensors.spec(name)
    }

    /// Reads one tensor into memory of its own.
    ///
    /// # Errors
    /// Where there is no such tensor or the file cannot be read.
    pub fn tensor(&self, name: &str) -> Result<OwnedTensor> {
        self.tensors.tensor(name)
    }

    /// Reads one tensor as its dtype, shape and bytes.
    ///
    /// # Errors
    /// As for [`ModelDir::tensor`].
    pub fn tensor_bytes(&self, name: &str) -> Result<(Dtype, Vec<usize>, Vec<u8>)> {
        self.tensor(name).map(OwnedTensor::into_parts)
    }

    /// Reads one piece of a tensor, as a rank that holds a shard of the base weights needs it: its dtype and the piece's
    /// elements in the piece's order. Reads the rows that hold them and no others.
    ///
    /// # Errors
    /// Where there is no such tensor, it has another shape than the piece says, or the file cannot be read.
    pub fn piece(&self, name: &str, piece: &Piece) -> Result<(Dtype, Vec<u8>)> {
        self.tensors.piece(name, piece)
    }

    /// Size and SHA-256 of config.json and of each file of weights. Reads all of them.
    ///
    /// # Errors
    /// Where a file cannot be read.
    pub fn digests(&self) -> Result<Vec<FileDigest>> {
        Ok(self.digests_of(0, 1)?.into_iter().map(|(_, digest)| digest).collect())
    }

    /// Those of the files whose number is `part` modulo `of`, with their numbers, so that `of` ranks can share the work.
    ///
    /// # Errors
    /// As for [`ModelDir::digests`].
    pub fn digests_of(&self, part: usize, of: usize) -> Result<Vec<(usize, FileDigest)>> {
        let weights = self.tensors.files().iter().map(|s| s.path().to_path_buf());
        let files = std::iter::once(self.dir.join(CONFIG)).chain(weights).enumerate();
        files.skip(part).step_by(of.max(1)).map(|(number, path)| Ok((number, file_digest(&path)?))).collect()
    }

    /// One SHA-256 (hex) for configuration and weights together: that of the lines `sha256  name` of [`ModelDir::digests`].
    ///
    /// # Errors
    /// Where a file cannot be read.
    pub fn digest(&self) -> Result<String> {
        Ok(digest_of(&self.digests()?))
    }
}

/// One SHA-256 (hex) for several files: that of the lines `sha256  name`.
pub fn digest_of(digests: &[FileDigest]) -> String {
    let lines: String = digests.iter().map(|f| format!("{}  {}\n", f.sha256, f.name)).collect();
    files::hex(&Sha256::digest(lines))
}

pub(crate) fn file_digest(path: &Path) -> Result<FileDigest> {
    let (bytes, sha256) = files::digest(path)?;
    Ok(FileDigest { name: path.file_name().unwrap_or_default().to_string_lossy().into_owned(), bytes, sha256 })
}

fn no_weights(dir: &Path) -> CheckpointError {
    if dir.join("pytorch_model.bin").exists() || dir.join("pytorch_model.bin.index.json").exists() {
        return CheckpointError::unsupported(dir, "weights", "pickle (pytorch_model.bin), which can run code", "safetensors");
    }
    if dir.join("consolidated.safetensors").exists() {
        return CheckpointError::unsupported(
            dir,
            "weights",
            "Mistral's consolidated layout",
            "Hugging Face layout (convert it first)",
        );
    }
    CheckpointError::malformed(dir, "weights", "none", format!("{WEIGHTS} or {INDEX}"))
}

/// Opens all shards of an index, and makes sure that index and shards name the same tensors.
fn open_shards(dir: &Path, index_path: &Path) -> Result<Vec<TensorFile>> {
    let index: Index = files::read_json(index_path)?;
    let mut by_shard: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (tensor, shard) in &index.weight_map {
        files::plain_name(index_path, &format!("tensor {tensor}"), shard)?;
        by_shard.entry(shard).or_default().push(tensor);
    }
    let mut shards = Vec::new();
    for (name, tensors) in by_shard {
        let path = dir.join(name);
        if !path.exists() {
            let found = format!("no file {name}");
            return Err(CheckpointError::malformed(index_path, format!("tensor {}", tensors[0]), found, "every shard it names"));
        }
        let shard = TensorFile::open(&path)?;
        if let Some(missing) = tensors.iter().find(|t| shard.spec(t).is_none()) {
            let expected = format!("it, because {INDEX} says so");
            return Err(CheckpointError::MissingTensor { path, tensor: (*missing).to_string(), expected });
        }
        if let Some(extra) = shard.specs().find(|s| index.weight_map.get(&s.name).is_none_or(|shard| shard != name)) {
            let found = "a tensor that the index does not place in this file";
            return Err(CheckpointError::malformed(&path, format!("tensor {}", extra.name), found, format!("those of {INDEX}")));
        }
        shards.push(shard);
    }
    Ok(shards)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model_writer::ModelWriter;
    use std::fs;

    fn model(dir: &Path, limit: usize) {
        fs::write(dir.join(CONFIG), "{}").unwrap();
        let specs = ["a", "b", "c"].map(|n| TensorSpec::new(n, Dtype::U8, [2])).to_vec();
        let mut writer = ModelWriter::with_shard_size(dir, specs, limit).unwrap();
        for (i, name) in ["a", "b", "c"].into_iter().enumerate() {
            writer.write(name, &[i as u8, 9]).unwrap();
        }
        writer.finish().unwrap();
    }

    #[test]
    fn one_file_and_shards_read_alike() {
        for limit in [100, 4, 1] {
            let dir = tempfile::tempdir().unwrap();
            model(dir.path(), limit);
            let model = ModelDir::open(dir.path()).unwrap();
            assert_eq!(model.names().collect::<Vec<_>>(), ["a", "b", "c"]);
            assert_eq!(model.tensor_bytes("c").unwrap(), (Dtype::U8, vec![2], vec![2, 9]));
            assert_eq!(model.tensor("b").unwrap().data, [1, 9]);
            assert!(matches!(model.tensor("d"), Err(CheckpointError::MissingTensor { .. })));
            assert_eq!(model.piece("c", &Piece::slice(&[2], 0, 1, 1)).unwrap(), (Dtype::U8, vec![9]));
            let other = model.piece("c", &Piece::whole(&[3])).unwrap_err();
            assert!(matches!(other, CheckpointError::TensorMismatch { .. }), "{other}");
            assert_eq!(model.digest().unwrap().len(), 64);
        }
    }

    #[test]
    fn an_index_that_lies_is_refused() {
        let cases = [
            (r#"{"weight_map":{"a":"../a.safetensors"}}"#, "plain file name"),
            (r#"{"weight_map":{"a":"absent.safetensors"}}"#, "no file absent.safetensors"),
            (r#"{"weight_map":{"a":"model-00001-of-00003.safetensors","z":"model-00001-of-00003.safetensors"}}"#, "tensor z"),
            (r#"{"weight_map":{}, "weight_map2":1"#, "line 1"),
        ];
        let dir = tempfile::tempdir().unwrap();
        model(dir.path(), 1);
        let whole = fs::read_to_string(dir.path().join(INDEX)).unwrap();
        for (index, message) in cases {
            fs::write(dir.path().join(INDEX), index).unwrap();
            let error = ModelDir::open(dir.path()).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
        fs::write(dir.path().join(INDEX), whole.replace("\"b\": \"model-00002", "\"b\": \"model-00001")).unwrap();
        assert!(ModelDir::open(dir.path()).is_err());
    }

    #[test]
    fn pickle_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(CONFIG), "{}").unwrap();
        assert!(ModelDir::open(dir.path()).unwrap_err().to_string().contains("weights: found none"));
        fs::write(dir.path().join("pytorch_model.bin"), "").unwrap();
        assert!(ModelDir::open(dir.path()).unwrap_err().to_string().contains("pickle"));
    }
}
