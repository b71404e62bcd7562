//! `sirocco data check` and `prepare`: the plan, and the files that it makes.

use crate::digest::sha256_hex;
use crate::error::CorpusError;
use crate::message::Conversation;
use crate::plan::plan;
use crate::report::{OutputFile, Report};
use crate::spec::Spec;
use crate::write::write_atomically;
use std::fmt::Write;
use std::path::Path;

/// How far the reading is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The source being read.
    pub source: String,
    /// Records of it read so far.
    pub records: u64,
}

/// Reads and judges a corpus, and writes nothing. Its licence files must be there, as `prepare` needs them.
///
/// # Errors
/// Those of [`prepare`], except for writing.
pub fn check(spec: &Spec, progress: &mut dyn FnMut(Progress)) -> Result<Report, CorpusError> {
    notice(spec)?;
    Ok(plan(spec, progress)?.report)
}

/// Prepares a corpus: `train.jsonl`, `valid.jsonl`, `NOTICE.md`, `report.md` and `report.json` in the output directory. The
/// same specification over the same sources gives the same bytes; an earlier result of the same corpus is replaced.
///
/// # Errors
/// A source or licence file is missing or altered; a record is bad and `on_bad` is `fail`; nothing is left for one side of the
/// split; the output directory holds something else; a file cannot be written.
pub fn prepare(spec: &Spec, progress: &mut dyn FnMut(Progress)) -> Result<Report, CorpusError> {
    let notice = notice(spec)?;
    refuse_foreign_output(spec)?;
    let mut plan = plan(spec, progress)?;
    let files = [
        ("train.jsonl", jsonl(&plan.train, spec)?),
        ("valid.jsonl", jsonl(&plan.valid, spec)?),
        ("NOTICE.md", notice.into_bytes()),
    ];
    for (name, bytes) in &files {
        let path = spec.output.join(name);
        plan.report.files.push(OutputFile { path, bytes: bytes.len() as u64, sha256: sha256_hex(bytes) });
    }
    // The report goes first: it marks the directory as this corpus's own, so that a prepare which was cut short can be repeated.
    let json = serde_json::to_vec_pretty(&plan.report).map_err(|error| json_error(spec, error))?;
    write_atomically(&spec.output.join("report.json"), &json)?;
    for (name, bytes) in &files {
        write_atomically(&spec.output.join(name), bytes)?;
    }
    write_atomically(&spec.output.join("report.md"), plan.report.to_string().as_bytes())?;
    Ok(plan.report)
}

fn jsonl(side: &[Conversation], spec: &Spec) -> Result<Vec<u8>, CorpusError> {
    let mut bytes = Vec::new();
    for conversation in side {
        serde_json::to_writer(&mut bytes, conversation).map_err(|error| json_error(spec, error))?;
        bytes.push(b'\n');
    }
    Ok(bytes)
}

fn json_error(spec: &Spec, error: serde_json::Error) -> CorpusError {
    CorpusError::io(&spec.output, "write", error.into())
}

/// The sentences, links and licence texts that the sources ask for; a licence that several sources share stands once.
fn notice(spec: &Spec) -> Result<String, CorpusError> {
    let mut text = format!("# Where the corpus {} comes from\n", spec.name);
    let mut seen = Vec::new();
    for source in &spec.sources {
        if seen.contains(&&source.licence) {
            continue;
        }
        seen.push(&source.licence);
        let licence = &source.licence;
        let words =
            std::fs::read_to_string(&licence.file).map_err(|error| CorpusError::io(&licence.file, "read the licence", error))?;
        let names: Vec<&str> = spec.sources.iter().filter(|s| s.licence == *licence).map(|s| s.name.as_str()).collect();
        let attribution = licence.attribution.as_deref().unwrap_or_default();
        let link = licence.link.as_ref().map(|link| format!("<{link}>")).unwrap_or_default();
        let credit = [attribution, &link].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ");
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "\n## {}\n\n{credit}\n\nLicence: {}\n\n```text\n{}\n```\n",
            names.join(", "),
            licence.name,
            words.trim()
        );
    }
    Ok(text)
}

/// An output directory may be empty, or hold what this corpus made before; anything else is somebody's data.
fn refuse_foreign_output(spec: &Spec) -> Result<(), CorpusError> {
    let taken = |found: String| CorpusError::OutputTaken { directory: spec.output.clone(), found, expected: spec.name.clone() };
    match earlier_name(&spec.output.join("report.json")) {
        Some(name) if name == spec.name => Ok(()),
        Some(name) => Err(taken(format!("the corpus `{name}`"))),
        None => match ["train.jsonl", "valid.jsonl"].iter().find(|name| spec.output.join(name).exists()) {
            Some(name) => Err(taken(format!("{name} without a report.json"))),
            None => Ok(()),
        },
    }
}

fn earlier_name(report: &Path) -> Option<String> {
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(report).ok()?).ok()?;
    Some(report.get("name")?.as_str()?.to_owned())
}
