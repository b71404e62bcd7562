//! What is said of a bundle: for people, and as JSON.
use serde::Serialize;
use sirocco_bundle::{Bundle, PartRecord, Record};
use sirocco_policy::Labels;

use crate::failure::Failure;
use crate::output::{self, count};

/// The fields of `pack --json` and `check --json`, and of `open --json` without those of the directory.
#[derive(Serialize)]
pub(super) struct Shown {
    bundle: String,
    digest: String,
    /// The trusted key that signed it; null where it was just packed.
    signer: Option<String>,
    packed_by: String,
    site: String,
    day: String,
    purpose: Option<String>,
    recipients: Vec<String>,
    parts: Vec<Part>,
}

#[derive(Serialize)]
struct Part {
    artefact: String,
    place: String,
    sha256: String,
    files: usize,
    bytes: u64,
    labels: Labels,
    /// Whose signature it has of its own.
    signer: Option<String>,
}

impl Part {
    fn of(part: &PartRecord, signer: Option<&str>) -> Part {
        Part {
            artefact: part.artefact.to_string(),
            place: part.place.clone(),
            sha256: part.sha256.to_string(),
            files: part.files.len(),
            bytes: part.files.iter().fold(0, |sum, file| sum.saturating_add(file.bytes)),
            labels: part.labels.clone(),
            signer: signer.map(str::to_owned),
        }
    }
}

impl Shown {
    pub(super) fn packed(path: String, digest: String, record: &Record) -> Shown {
        Shown {
            bundle: path,
            digest,
            signer: None,
            packed_by: record.packed_by.clone(),
            site: record.site.clone(),
            day: record.day.to_string(),
            purpose: record.purpose.clone(),
            recipients: record.recipients.iter().cloned().collect(),
            parts: record.parts.iter().map(|part| Part::of(part, None)).collect(),
        }
    }

    pub(super) fn verified(path: String, bundle: &Bundle) -> Shown {
        let parts = bundle.record().parts.iter().map(|part| Part::of(part, bundle.signer_of(part)));
        Shown {
            signer: Some(bundle.signer().to_owned()),
            parts: parts.collect(),
            ..Shown::packed(path, bundle.digest().to_string(), bundle.record())
        }
    }

    /// Below a first line that says what was done.
    pub(super) fn print(&self, first: &str) -> Result<(), Failure> {
        output::line(first)?;
        let none = || "nobody in particular".to_owned();
        let list = |names: &[String]| if names.is_empty() { none() } else { names.join(", ") };
        let purpose = self.purpose.as_deref().map_or_else(String::new, |purpose| format!(", for {purpose}"));
        let packed = format!("on {} by {} at {}{purpose}", self.day, self.packed_by, self.site);
        for (name, value) in [("packed", packed), ("recipients", list(&self.recipients)), ("digest", self.digest.clone())] {
            output::line(format_args!("{}{value}", output::named(name)))?;
        }
        self.parts.iter().try_for_each(|part| {
            let signer = part.signer.as_deref().map_or_else(String::new, |signer| format!(", signed by {signer}"));
            let size = format!("{}, {}", count(part.files as u64, "file"), output::bytes(part.bytes));
            output::line(format_args!("{}: {}, {size}{signer}", part.artefact, part.place))?;
            output::line(format_args!("  {}", labels(&part.labels)))
        })
    }
}

/// Every label, also what is not known.
fn labels(labels: &Labels) -> String {
    fn word<T: ToString>(value: Option<T>) -> String {
        value.map_or_else(|| "not known".to_owned(), |value| value.to_string())
    }
    let licences = if labels.licences.all_known { labels.licences.to_string() } else { "not all known".to_owned() };
    let rows = [
        ("residency", word(labels.residency.as_ref())),
        ("classification", word(labels.classification.map(|step| step.word()))),
        ("licence", licences),
        ("commercial use", word(labels.commercial_use)),
        ("personal data", word(labels.personal_data.map(|step| step.word()))),
        ("purposes", word(labels.purposes.as_ref())),
        ("expires", word(labels.expires)),
    ];
    rows.map(|(name, value)| format!("{name}: {value}")).join("; ")
}
