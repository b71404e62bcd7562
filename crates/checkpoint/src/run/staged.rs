//! Shards on node-local disk first: written there at its speed, then copied to their place in one stream.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::step_name;
use crate::error::{CheckpointError, Result};
use crate::files;
use crate::pace::Pace;
use crate::partial_file::PartialFile;
use crate::tensor_file::Finished;

const CHUNK: usize = 4 << 20;

/// A directory on node-local disk, which several ranks and several runs may share.
#[derive(Debug)]
pub(super) struct Stage {
    dir: PathBuf,
    /// What this run's files begin with in this save, and in any.
    prefix: String,
    run: String,
}

impl Stage {
    /// Makes sure that `dir` can be written, and removes what other saves of this run, which `checkpoints` tells apart from other
    /// runs, left there. Files of the same step are left alone: they may be another rank's.
    pub(super) fn prepare(dir: &Path, checkpoints: &Path, step: u64) -> Result<Self> {
        files::create_dir_all(dir)?;
        let real = fs::canonicalize(checkpoints).map_err(|e| CheckpointError::io("open", checkpoints, e))?;
        let digest = files::hex(&Sha256::digest(real.as_os_str().as_encoded_bytes()));
        let run = format!("sirocco-{}-", &digest[..16]);
        let stage = Self { dir: dir.to_path_buf(), prefix: format!("{run}{}-", step_name(step)), run };
        stage.remove_leftovers()?;
        let probe = stage.dir.join(format!("{}probe-{}", stage.prefix, std::process::id()));
        File::create(&probe).map_err(|e| CheckpointError::io("create files in", &stage.dir, e))?;
        files::remove_file(&probe)?;
        Ok(stage)
    }

    fn remove_leftovers(&self) -> Result<()> {
        let listed = fs::read_dir(&self.dir).map_err(|e| CheckpointError::io("list", &self.dir, e))?;
        for entry in listed {
            let name = entry.map_err(|e| CheckpointError::io("list", &self.dir, e))?.file_name();
            let name = name.to_string_lossy();
            if name.starts_with(&self.run) && !name.starts_with(&self.prefix) {
                files::remove_file(&self.dir.join(name.as_ref()))?;
            }
        }
        Ok(())
    }

    /// Where a shard stands until it is copied.
    pub(super) fn file(&self, shard: &str) -> PathBuf {
        self.dir.join(format!("{}{shard}", self.prefix))
    }
}

/// Copies a staged file to `target`, where it is synced, and removes it, whether that worked or not.
///
/// # Errors
/// Where the staged file is not what was written, or the system fails to write.
pub(super) fn deliver(staged: &Path, written: &Finished, target: &Path, pace: &Pace) -> Result<()> {
    let copied = copy(staged, written, target, pace);
    let removed = files::remove_file(staged);
    copied.and(removed)
}

fn copy(staged: &Path, written: &Finished, target: &Path, pace: &Pace) -> Result<()> {
    let (mut from, _) = files::open(staged)?;
    let to = PartialFile::create(target)?;
    to.reserve(written.size)?;
    let (mut hash, mut work) = (Sha256::new(), pace.begin());
    let mut chunk = vec![0u8; CHUNK];
    loop {
        let n = from.read(&mut chunk).map_err(|e| CheckpointError::io("read", staged, e))?;
        if n == 0 {
            break;
        }
        to.file().write_all(&chunk[..n]).map_err(|e| CheckpointError::io("write", target, e))?;
        hash.update(&chunk[..n]);
        work.rest();
    }
    let sha256 = files::hex(&hash.finalize());
    if sha256 != written.sha256 {
        let (found, expected) = (sha256, written.sha256.clone());
        return Err(CheckpointError::Altered { path: staged.to_path_buf(), what: "sha256", found, expected });
    }
    to.place()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_staged_file_that_changed_is_not_delivered() {
        let dir = tempfile::tempdir().unwrap();
        let (staged, target) = (dir.path().join("staged"), dir.path().join("target"));
        fs::write(&staged, "abd").unwrap();
        let written = Finished { size: 3, sha256: files::hex(&Sha256::digest("abc")) };
        let error = deliver(&staged, &written, &target, &Pace::full()).unwrap_err();
        assert!(matches!(&error, CheckpointError::Altered { path, .. } if *path == staged), "{error}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
