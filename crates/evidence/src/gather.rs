//! What goes into a bundle: collected from a sealed ledger, the texts of the policy, and signed directories.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sirocco_files::{Digest, read};
use sirocco_ledger::source::Source;
use sirocco_ledger::tlog_proof::{CHECKPOINT, prove};
use sirocco_signing::trust::Trust;
use sirocco_signing::{oms, provenance};

use crate::entries::{Numbered, at, sealed};
use crate::error::{EvidenceError, io, malformed};
use crate::layout::{APPROVALS, EXPORTED, KEYS, LEDGER, PUBLISHED, RECORD, SIGNATURES, Taken, is_proven, plain, proof};
use crate::policy::PolicyTexts;
use crate::record::{Artefact, RECORD_VERSION, Record, Summary, claims, nodes, ruling_text, rulings, text};

/// What travels with an artefact beside its weights.
pub(crate) const ORIGIN: &str = "origin.json";
/// No such file is longer, in bytes.
const LONGEST: u64 = 1 << 26;

/// What a bundle is made of.
pub struct Parts<'a> {
    /// The run.
    pub run: &'a str,
    /// The site, by its name in the facts.
    pub site: &'a str,
    /// The account that makes the bundle, and when.
    pub made: (&'a str, &'a str),
    /// The run's ledger, sealed.
    pub ledger: &'a dyn Source,
    /// The rules and facts that decided: every version of them.
    pub policies: &'a [PolicyTexts],
    /// Signed directories: checkpoints and exports.
    pub artefacts: &'a [PathBuf],
    /// Whose signatures those are.
    pub trust: &'a Trust,
    /// Signed approvals, by name of file.
    pub approvals: BTreeMap<String, Vec<u8>>,
    /// Public keys, by name of file.
    pub keys: BTreeMap<String, String>,
}

/// The files of a bundle before it is signed.
#[derive(Clone, Debug)]
pub struct Gathered {
    /// What `evidence.json` says.
    pub record: Record,
    /// The entries of the ledger.
    pub entries: Vec<Numbered>,
    /// The files, by their paths in the bundle.
    pub files: BTreeMap<String, Vec<u8>>,
}

impl Gathered {
    /// Collects everything.
    ///
    /// # Errors
    /// A ledger that is not sealed or torn; an artefact without a signature of a trusted key.
    pub fn of(parts: &Parts<'_>) -> Result<Gathered, EvidenceError> {
        let (signed, entries) = sealed(parts.ledger)?;
        let mut files = BTreeMap::new();
        let tiles = parts.ledger.tiles()?;
        for path in tiles.iter().map(String::as_str).chain([CHECKPOINT]) {
            if let Some(bytes) = parts.ledger.read(path)? {
                files.insert(format!("{LEDGER}{path}"), bytes);
            }
        }
        for one in entries.iter().filter(|one| is_proven(&one.entry)) {
            files.insert(proof(one.index, &one.entry.verb), prove(parts.ledger, one.index)?.to_text().into_bytes());
        }
        files.extend((1..).zip(parts.policies).flat_map(|(number, texts)| texts.files(number)));
        files.extend(parts.approvals.iter().map(|(name, bytes)| (format!("{APPROVALS}{name}"), bytes.clone())));
        files.extend(parts.keys.iter().map(|(name, text)| (format!("{KEYS}{name}"), text.clone().into_bytes())));
        files.extend(derived(&entries));
        let (mut artefacts, mut taken) = (Vec::new(), Taken::default());
        for directory in parts.artefacts {
            let artefact = add_artefact(directory, (parts.trust, &entries), &mut taken, &mut files)?;
            artefacts.push(artefact);
        }
        let record = Record {
            v: RECORD_VERSION,
            run: parts.run.to_owned(),
            site: parts.site.to_owned(),
            made_by: parts.made.0.to_owned(),
            made_at: parts.made.1.to_owned(),
            log: signed.checkpoint.origin,
            entries: signed.checkpoint.size,
            summary: Summary::of(&entries),
            decisions: rulings(&entries),
            nodes: nodes(&entries),
            artefacts,
            claims: claims(),
        };
        let text = serde_json::to_vec_pretty(&record);
        let text = text.map_err(|error| malformed(Path::new(RECORD), "the record", error.to_string(), "JSON"))?;
        files.insert(RECORD.to_owned(), text);
        Ok(Gathered { record, entries, files })
    }

    /// Adds a file, such as the page for people.
    pub fn add(&mut self, name: &str, bytes: Vec<u8>) {
        self.files.insert(name.to_owned(), bytes);
    }
}

/// The approvals of a run (`RUN/approvals/`), by name of file.
///
/// # Errors
/// A directory that cannot be read; more than a bundle may have.
pub fn approvals(run: &Path) -> Result<BTreeMap<String, Vec<u8>>, EvidenceError> {
    let folder = run.join(APPROVALS);
    if !folder.is_dir() {
        return Ok(BTreeMap::new());
    }
    let (mut files, mut taken) = (BTreeMap::new(), Taken::default());
    for entry in std::fs::read_dir(&folder).map_err(io("list", &folder))? {
        let path = entry.map_err(io("list", &folder))?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if name.ends_with(".json") && !name.starts_with('.') {
            files.insert(taken.free(&plain(&name)), read::bytes(&path, LONGEST)?);
        }
    }
    Ok(files)
}

/// Files that say again what entries say.
pub(crate) fn derived(entries: &[Numbered]) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let find = |index| at(entries, index);
    for ruling in rulings(entries) {
        files.extend(find(ruling.entry).map(|one| (ruling.file, ruling_text(one).into_bytes())));
    }
    for node in nodes(entries) {
        let report = find(node.entry).and_then(|one| text(&one.entry, "report"));
        files.insert(node.file, report.unwrap_or_default().as_bytes().to_vec());
    }
    files
}

/// The entry that made an artefact with these bytes public.
pub(crate) fn publishing<'a>(entries: &'a [Numbered], artefact: &str, digest: Digest) -> Option<&'a Numbered> {
    let publishes = |one: &&Numbered| [PUBLISHED, EXPORTED].contains(&one.entry.verb.as_str());
    entries.iter().filter(publishes).find(|one| one.entry.outputs.get(artefact) == Some(&digest))
}

/// The name in a record of where an artefact comes from.
pub(crate) fn name_in(origin: &[u8]) -> Option<String> {
    let origin: serde_json::Value = serde_json::from_slice(origin).ok()?;
    Some(origin.get("artefact")?.as_str()?.to_owned())
}

fn add_artefact(
    directory: &Path,
    (trust, entries): (&Trust, &[Numbered]),
    taken: &mut Taken,
    files: &mut BTreeMap<String, Vec<u8>>,
) -> Result<Artefact, EvidenceError> {
    let real = std::fs::canonicalize(directory).map_err(io("find", directory))?;
    let name = real.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let folder = format!("{SIGNATURES}{}/", taken.free(&plain(&name)));
    let signed = oms::read(&directory.join(oms::FILE), trust)?;
    for name in [oms::FILE, provenance::FILE, ORIGIN] {
        files.insert(format!("{folder}{name}"), read::bytes(&directory.join(name), LONGEST)?);
    }
    let origin = files.get(&format!("{folder}{ORIGIN}")).map(Vec::as_slice).unwrap_or_default();
    let artefact = name_in(origin);
    let none = || malformed(&directory.join(ORIGIN), "artefact", "none", "the artefact's name");
    let (artefact, digest) = (artefact.ok_or_else(none)?, signed.manifest.digest().into());
    let entry = publishing(entries, &artefact, digest).map(|one| one.index);
    Ok(Artefact { artefact, digest, entry, folder, directory: name })
}
