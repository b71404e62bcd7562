//! Several tensor files that together hold one set of tensors, each name once.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use safetensors::Dtype;

use super::{OwnedTensor, TensorFile, TensorSpec};
use crate::error::{CheckpointError, Result};
use crate::piece::Piece;

/// The tensors of a directory, found by name in whichever file holds them.
#[derive(Debug)]
pub(crate) struct TensorSet {
    dir: PathBuf,
    files: Vec<TensorFile>,
    file_of: HashMap<String, usize>,
}

impl TensorSet {
    /// Joins files of one directory.
    pub(crate) fn new(dir: &Path, files: Vec<TensorFile>) -> Result<Self> {
        let mut file_of: HashMap<String, usize> = HashMap::new();
        for (i, file) in files.iter().enumerate() {
            for spec in file.specs() {
                if let Some(other) = file_of.insert(spec.name.clone(), i) {
                    let found = format!("it in {} too", files[other].path().display());
                    return Err(CheckpointError::malformed(
                        file.path(),
                        format!("tensor {}", spec.name),
                        found,
                        "each tensor once",
                    ));
                }
            }
        }
        Ok(Self { dir: dir.to_path_buf(), files, file_of })
    }

    pub(crate) fn files(&self) -> &[TensorFile] {
        &self.files
    }

    pub(crate) fn specs(&self) -> impl Iterator<Item = &TensorSpec> {
        self.files.iter().flat_map(TensorFile::specs)
    }

    pub(crate) fn spec(&self, name: &str) -> Option<&TensorSpec> {
        self.files[*self.file_of.get(name)?].spec(name)
    }

    pub(crate) fn tensor(&self, name: &str) -> Result<OwnedTensor> {
        self.file(name)?.read(name)
    }

    pub(crate) fn piece(&self, name: &str, piece: &Piece) -> Result<(Dtype, Vec<u8>)> {
        self.file(name)?.piece(name, piece)
    }

    fn file(&self, name: &str) -> Result<&TensorFile> {
        let missing = || CheckpointError::MissingTensor {
            path: self.dir.clone(),
            tensor: name.to_string(),
            expected: "it in one of the files".to_string(),
        };
        self.file_of.get(name).map(|file| &self.files[*file]).ok_or_else(missing)
    }
}
