//! Logits of given tokens, for comparisons with other implementations.

use std::path::Path;

use serde::Deserialize;
use sirocco_checkpoint::{Dtype as FileType, TensorFileWriter, TensorSpec};
use sirocco_model::Batch;

use crate::args::LogitsJob;
use crate::failure::Failure;
use crate::{models, threads};

/// What `--ids` names: documents, each alone.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Documents {
    ids: Vec<Vec<i64>>,
}

pub(crate) fn run(job: &LogitsJob) -> Result<(), Failure> {
    threads::use_threads(None)?;
    let network = models::with_adapter(&job.model, job.adapter.as_deref(), job.dtype.into())?;
    let documents = read_documents(&job.ids)?;
    let offsets: Vec<i64> = std::iter::once(0)
        .chain(documents.iter().scan(0, |offset, ids| {
            *offset += ids.len() as i64;
            Some(*offset)
        }))
        .collect();
    let ids: Vec<i64> = documents.into_iter().flatten().collect();
    let (tokens, vocabulary) = (ids.len(), network.config().vocabulary);
    let batch = Batch::new(ids, vec![-1; tokens], &offsets, vocabulary).map_err(Failure::data)?;
    let logits = network.logits(&batch).map_err(Failure::model)?;
    let spec = TensorSpec::new("logits", FileType::F32, vec![tokens, vocabulary as usize]);
    let mut writer = TensorFileWriter::create(&job.to, vec![spec], &[]).map_err(Failure::file)?;
    writer.write("logits", &models::bytes(&logits)).map_err(Failure::file)?;
    writer.finish().map_err(Failure::file)?;
    Ok(())
}

fn read_documents(path: &Path) -> Result<Vec<Vec<i64>>, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| Failure::data(format!("{}: {error}", path.display())))?;
    let documents: Documents = serde_json::from_str(&text)
        .map_err(|error| Failure::data(format!("{}: {error}, expected {{\"ids\":[[…],…]}}", path.display())))?;
    Ok(documents.ids)
}
