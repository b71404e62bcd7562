//! Packing: what was admitted goes into one file, signed, with digests that are compared once more on the way.

use std::collections::BTreeSet;
use std::io::{BufWriter, Read as _, Write};
use std::path::Path;

use sirocco_custody::Custody;
use sirocco_files::replace::{self, Unfinished};
use sirocco_files::{BareDigest, Digester, read, tar};
use sirocco_policy::{Admitted, Day, Guarded as _, verb};
use sirocco_signing::keys::PrivateKey;
use sirocco_signing::oms;

use crate::error::{BundleError, io};
use crate::part::Part;
use crate::pulse::Pulse;
use crate::record::{FileRecord, Form, PARTS, PartRecord, RECORD, Record, VERSION};
use crate::unpack::expect_room;
use crate::walk::{CHUNK, Found, chunks};

/// What stands on a bundle besides what is in it.
#[derive(Clone, Debug, Default)]
pub struct Cover {
    /// For what.
    pub purpose: Option<String>,
    /// For whom.
    pub recipients: BTreeSet<String>,
}

/// A bundle that was written.
#[derive(Clone, Debug)]
pub struct Packed {
    /// What it says of itself.
    pub record: Record,
    /// The digest of everything that is signed: what ledgers call the bundle.
    pub digest: BareDigest,
    /// Bytes of the file.
    pub bytes: u64,
}

/// Writes a bundle of everything that may be sent, to a place where nothing is.
///
/// # Errors
/// [`BundleError::Exists`], [`BundleError::DiskFull`], [`BundleError::ChangedMeanwhile`]; names that a bundle has no room for. Nothing is left.
pub fn pack(
    parts: &[Admitted<verb::SendOut, Part>],
    (custody, cover, day): (&Custody, Cover, Day),
    to: &Path,
    key: &PrivateKey,
    pulse: &mut Pulse<'_>,
) -> Result<Packed, BundleError> {
    if std::fs::symlink_metadata(to).is_ok() {
        return Err(BundleError::Exists { path: to.to_owned() });
    }
    let places = places(parts);
    let mut placed: Vec<_> = places.iter().zip(parts).collect();
    // By the names of their files, among which `a-b` comes before `a/c`.
    placed.sort_by_key(|(place, part)| if part.thing().form == Form::File { (*place).clone() } else { format!("{place}/") });
    let record = Record {
        v: VERSION,
        packed_by: custody.who().to_string(),
        site: custody.site().to_owned(),
        day,
        purpose: cover.purpose,
        recipients: cover.recipients,
        parts: placed.iter().map(|(place, part)| described(place, part, custody)).collect(),
    };
    record.check(to)?;
    let text = serde_json::to_vec_pretty(&record).map_err(|error| io("write", to)(error.into()))?;
    let manifest = record.manifest(&text)?;
    let signature = oms::signature(to, &manifest, key)?;
    expect_room(replace::directory(to), record.bytes().unwrap_or(u64::MAX).saturating_add(text.len() as u64))?;
    let sources = placed.iter().flat_map(|(_, part)| &part.thing().files);
    let mut archive = Archive { file: BufWriter::with_capacity(CHUNK, Unfinished::create(to, 0o644)?), to, bytes: 0 };
    archive.small(oms::FILE, signature.as_bytes())?;
    archive.small(RECORD, &text)?;
    for (file, source) in record.files().zip(sources) {
        archive.large(file, source, pulse)?;
    }
    let (digest, bytes) = (manifest.digest(), archive.finish()?);
    Ok(Packed { record, digest, bytes })
}

/// `parts/NAME` for each, by the name of its file or directory; the second of a name gets a number.
fn places(parts: &[Admitted<verb::SendOut, Part>]) -> Vec<String> {
    let (mut taken, mut places) = (BTreeSet::new(), Vec::new());
    for part in parts {
        let path = &part.thing().path;
        let whole = path.canonicalize().unwrap_or_else(|_| path.clone());
        let name = plain(&whole.file_name().unwrap_or_default().to_string_lossy());
        let numbered = (2_u64..).map(|number| format!("{number}-{name}"));
        let free = std::iter::once(name.clone()).chain(numbered).find(|name| !taken.contains(&name.to_lowercase()));
        let name = free.unwrap_or_default();
        taken.insert(name.to_lowercase());
        places.push(format!("{PARTS}{name}"));
    }
    places
}

/// A name that every file system has: what is no letter, digit, `-`, `_` or `.` becomes `_`.
fn plain(name: &str) -> String {
    let kept: String = name.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' }).collect();
    if kept.trim_matches('.').is_empty() { format!("_{kept}") } else { kept }
}

fn described(place: &str, admitted: &Admitted<verb::SendOut, Part>, custody: &Custody) -> PartRecord {
    let part = admitted.thing();
    let name = |file: &Found| if part.form == Form::File { place.to_owned() } else { format!("{place}/{}", file.name) };
    let file = |file: &Found| FileRecord { name: name(file), bytes: file.bytes, sha256: file.sha256 };
    PartRecord {
        artefact: part.artefact().clone(),
        place: place.to_owned(),
        form: part.form,
        sha256: part.digest,
        labels: admitted.decision().labels.clone(),
        lineage: custody.remembered(&part.lineage),
        files: part.files.iter().map(file).collect(),
    }
}

/// The file that is written. Dropped before its end, it is removed.
struct Archive<'a> {
    file: BufWriter<Unfinished>,
    to: &'a Path,
    bytes: u64,
}

impl Archive<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), BundleError> {
        self.bytes = self.bytes.saturating_add(bytes.len() as u64);
        self.file.write_all(bytes).map_err(io("write", self.to))
    }

    fn begin(&mut self, name: &str, bytes: u64) -> Result<(), BundleError> {
        let header = tar::header(name, bytes).map_err(|why| crate::error::malformed(self.to, name, why.found, why.expected))?;
        self.put(&header)
    }

    fn end(&mut self, bytes: u64) -> Result<(), BundleError> {
        let zeros = [0; tar::BLOCK];
        self.put(zeros.get(..tar::padding(bytes)).unwrap_or_default())
    }

    fn small(&mut self, name: &str, bytes: &[u8]) -> Result<(), BundleError> {
        self.begin(name, bytes.len() as u64)?;
        self.put(bytes)?;
        self.end(bytes.len() as u64)
    }

    /// Copies a file and compares it with what the policy was asked about.
    fn large(&mut self, file: &FileRecord, source: &Found, pulse: &mut Pulse<'_>) -> Result<(), BundleError> {
        let changed =
            |found: String, expected: String| BundleError::ChangedMeanwhile { path: source.path.clone(), found, expected };
        self.begin(&file.name, file.bytes)?;
        let (from, _) = read::open(&source.path)?;
        let mut digester = Digester::new();
        // One byte more than it had: so a file that grew is told, too.
        let most = from.take(file.bytes.saturating_add(1));
        let copied = chunks((&source.path, &file.name), most, pulse, |chunk| {
            digester.update(chunk);
            self.put(chunk)
        })?;
        let digest = BareDigest::from(digester.finish());
        if copied != file.bytes || digest != file.sha256 {
            return Err(changed(format!("{copied} bytes with SHA-256 {digest}"), format!("{} with {}", file.bytes, file.sha256)));
        }
        self.end(file.bytes)
    }

    /// Ends the archive and gives it its name.
    fn finish(mut self) -> Result<u64, BundleError> {
        self.put(&[0; 2 * tar::BLOCK])?;
        let file = self.file.into_inner().map_err(|error| io("write", self.to)(error.into_error()))?;
        file.publish()?;
        replace::sync_directory(replace::directory(self.to))?;
        Ok(self.bytes)
    }
}
