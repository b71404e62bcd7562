//! `bundle.json`: what a bundle holds, under its signature.

use std::collections::BTreeSet;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sirocco_custody::Lineage;
use sirocco_files::{BareDigest, tar};
use sirocco_policy::{Day, Kind, Labels, Name, Purposes};
use sirocco_signing::manifest::{Manifest, Options, Resource};
use sirocco_signing::oms;

use crate::error::{BundleError, malformed};
use crate::facts::FACTS;
use crate::names::{Seen, problem};

/// The record's file.
pub const RECORD: &str = "bundle.json";
/// Before the names of all parts.
pub(crate) const PARTS: &str = "parts/";
/// The version of [`Record`].
pub(crate) const VERSION: u32 = 1;
/// No bundle has more files.
const MOST_FILES: usize = 100_000;

/// What is in a bundle, and who packed it for whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The version of this record.
    pub v: u32,
    /// Who packed it: `person:NAME` or `service:NAME`.
    pub packed_by: String,
    /// Where, by the name of the site in its facts.
    pub site: String,
    /// The day on which it was packed.
    pub day: Day,
    /// For what, by its name in the facts of that site.
    pub purpose: Option<String>,
    /// For whom, by their names in those facts.
    pub recipients: BTreeSet<String>,
    /// What it holds, in the order of their places.
    pub parts: Vec<PartRecord>,
}

/// One artefact in a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartRecord {
    /// What it is, as it was called where it was packed.
    pub artefact: Name,
    /// Its place in the bundle: `parts/NAME`.
    pub place: String,
    /// A file, or a directory.
    pub form: Form,
    /// The digest of the file, or of the directory's names and contents without its own signature.
    pub sha256: BareDigest,
    /// The labels that it had when it was sent: what the policy said it inherits.
    pub labels: Labels,
    /// What it was made from, with the labels of all that this begins with.
    pub lineage: Lineage,
    /// Its files.
    pub files: Vec<FileRecord>,
}

/// What a part is on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// One file.
    File,
    /// A directory.
    Directory,
}

/// One file in a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileRecord {
    /// Its path in the bundle.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// SHA-256 of its bytes.
    pub sha256: BareDigest,
}

impl Record {
    /// Every file of every part, in the order in which a bundle has them.
    pub fn files(&self) -> impl Iterator<Item = &FileRecord> {
        self.parts.iter().flat_map(|part| &part.files)
    }

    /// Bytes of all parts; `None` if no number holds them.
    pub fn bytes(&self) -> Option<u64> {
        self.files().try_fold(0_u64, |sum, file| sum.checked_add(file.bytes))
    }

    /// Everything that is shown or written elsewhere, and has no form of its own.
    fn words(&self) -> impl Iterator<Item = &String> {
        let purposes = self.parts.iter().filter_map(|part| match &part.labels.purposes {
            Some(Purposes::Only(names)) => Some(names),
            _ => None,
        });
        [&self.packed_by, &self.site].into_iter().chain(&self.purpose).chain(&self.recipients).chain(purposes.flatten())
    }

    /// What is signed: the record itself, whose bytes are `text`, and every file.
    pub(crate) fn manifest(&self, text: &[u8]) -> Result<Manifest, BundleError> {
        let whole = |file: &str, digest| Resource { file: file.to_owned(), range: None, digest };
        let files = self.files().map(|file| whole(&file.name, file.sha256));
        let resources = files.chain([whole(RECORD, BareDigest::of(text))]).collect();
        // What opening adds is left out beforehand, so that the signature holds for the opened directory, too.
        let options = Options { ignore: vec![oms::FILE.to_owned(), FACTS.to_owned()], ..Options::default() };
        Ok(Manifest::new("bundle".to_owned(), options, resources)?)
    }

    /// Refuses what no bundle can say; `path` is the bundle's.
    pub(crate) fn check(&self, path: &Path) -> Result<(), BundleError> {
        let wrong = |place: &str, found: String, expected: &str| Err(malformed(path, place, found, expected));
        if self.v != VERSION {
            return wrong(RECORD, format!("version {}", self.v), "version 1");
        }
        let count = self.files().count();
        if self.parts.is_empty() || count > MOST_FILES || self.bytes().is_none() {
            let found = format!("{} parts with {count} files", self.parts.len());
            return wrong(RECORD, found, "at least one part, and no more than 100000 files of 16 EiB together");
        }
        if let Some(word) = self.words().find(|word| word.chars().any(char::is_control)) {
            return wrong(RECORD, format!("{word:?}"), "words that can be shown, without control characters");
        }
        let mut seen = Seen::default();
        let mut before = "";
        for file in self.files() {
            if let Some(found) = problem(&file.name) {
                return wrong(&format!("{:?}", file.name), found.to_owned(), "a path in the bundle");
            }
            if let Err(why) = tar::header(&file.name, file.bytes) {
                return wrong(&file.name, why.found, why.expected);
            }
            if let Err(other) = seen.take(&file.name) {
                return wrong(&file.name, format!("{other} as well"), "names that differ in more than upper and lower case");
            }
            if file.name.as_str() <= before {
                return wrong(&file.name, format!("it after {before}"), "files in the order of their names");
            }
            before = &file.name;
        }
        self.parts.iter().try_for_each(|part| part.check(path))
    }
}

impl PartRecord {
    /// Whether it has a record and a signature of its own, which tell the next question its labels.
    pub fn has_origin(&self) -> bool {
        self.form == Form::Directory && self.has("origin.json") && self.has(oms::FILE)
    }

    fn has(&self, name: &str) -> bool {
        self.files.iter().any(|file| self.inner(file) == Some(name))
    }

    /// The name of one of its files within it.
    pub(crate) fn inner<'a>(&self, file: &'a FileRecord) -> Option<&'a str> {
        file.name.strip_prefix(&self.place)?.strip_prefix('/')
    }

    /// Its files but its own signature, as a manifest names them.
    pub(crate) fn signed_files(&self) -> Vec<Resource> {
        let files = self.files.iter().filter_map(|file| Some((self.inner(file)?, file.sha256)));
        let covered = files.filter(|(name, _)| *name != oms::FILE);
        covered.map(|(name, digest)| Resource { file: name.to_owned(), range: None, digest }).collect()
    }

    fn check(&self, path: &Path) -> Result<(), BundleError> {
        let wrong = |found: String, expected: &str| Err(malformed(path, &self.place, found, expected));
        if self.place.strip_prefix(PARTS).is_none_or(|name| name.contains('/') || problem(name).is_some()) {
            return wrong("this place".to_owned(), "parts/NAME");
        }
        if self.artefact.kind == Kind::Endpoint {
            return wrong(self.artefact.to_string(), "something that can be sent");
        }
        let is_own = |file: &FileRecord| match self.form {
            Form::File => file.name == self.place,
            Form::Directory => self.inner(file).is_some(),
        };
        let one_file = self.form == Form::Directory || self.files.len() == 1;
        if self.files.is_empty() || !one_file || !self.files.iter().all(is_own) {
            return wrong(format!("{} files that are not all its own", self.files.len()), "the files of this part");
        }
        let digest = match (self.form, self.files.first()) {
            (Form::File, Some(file)) => file.sha256,
            _ => digest(self.signed_files())?,
        };
        if digest != self.sha256 {
            return wrong(format!("the digest {}", self.sha256), &format!("that of its files, {digest}"));
        }
        Ok(())
    }
}

/// The digest of a directory, as signatures and facts have it.
pub(crate) fn digest(files: Vec<Resource>) -> Result<BareDigest, BundleError> {
    Ok(Manifest::new("part".to_owned(), Options::default(), files)?.digest())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(place: &str, names: &[&str]) -> PartRecord {
        let files = names.iter().map(|name| FileRecord {
            name: format!("{place}{name}"),
            bytes: 1,
            sha256: BareDigest::of(name.as_bytes()),
        });
        let form = if names == [""] { Form::File } else { Form::Directory };
        let mut part = PartRecord {
            artefact: "data:letters".parse().unwrap(),
            place: place.to_owned(),
            form,
            sha256: BareDigest::of(b""),
            labels: Labels::default(),
            lineage: Lineage::default(),
            files: files.collect(),
        };
        let of_files = if form == Form::Directory { digest(part.signed_files()).ok() } else { None };
        part.sha256 = of_files.or(part.files.first().map(|file| file.sha256)).unwrap_or(part.sha256);
        part
    }

    fn refusal(parts: Vec<PartRecord>) -> String {
        let record = Record {
            v: VERSION,
            packed_by: "person:a".to_owned(),
            site: "s".to_owned(),
            day: "2026-11-22".parse().unwrap(),
            purpose: None,
            recipients: BTreeSet::new(),
            parts,
        };
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), record);
        record.check(Path::new("b.tar")).err().map_or_else(String::new, |error| error.to_string())
    }

    #[test]
    fn only_what_a_directory_can_hold_passes() {
        assert_eq!(refusal(vec![part("parts/a", &[""]), part("parts/b", &["/c", "/d/e"])]), "");
        let cases: [(Vec<PartRecord>, &str); 12] = [
            (vec![], "at least one part"),
            (vec![part("parts/b", &[""]), part("parts/a", &[""])], "the order of their names"),
            (vec![part("parts/B", &[""]), part("parts/b", &[""])], "parts/b: found parts/B as well"),
            (vec![part("parts/a", &["/B/c", "/b/d"])], "parts/B as well"),
            (vec![part("parts/a", &["/../b"])], "leads elsewhere"),
            (vec![part("parts/..", &[""])], "leads elsewhere"),
            (vec![part("/etc/a", &[""])], "an absolute path"),
            (vec![part("parts/a/b", &[""])], "expected parts/NAME"),
            (vec![part("bundle.json", &[""])], "expected parts/NAME"),
            (vec![part("parts/a", &["/b\nc"])], "control character"),
            (vec![part("parts/a", &[&format!("/{}", "n".repeat(101))])], "one that ustar has room for"),
            (vec![part("parts/a", &[])], "the files of this part"),
        ];
        for (number, (parts, words)) in cases.into_iter().enumerate() {
            let error = refusal(parts);
            assert!(error.contains(words) || (number == 3 && error.contains("as well")), "{number}: {error}");
        }
    }

    #[test]
    fn digests_and_kinds_are_looked_at() {
        let other = PartRecord { sha256: BareDigest::of(b"other"), ..part("parts/a", &["/b"]) };
        assert!(refusal(vec![other]).contains("that of its files"));
        let endpoint = PartRecord { artefact: "endpoint:e".parse().unwrap(), ..part("parts/a", &["/b"]) };
        assert!(refusal(vec![endpoint]).contains("something that can be sent"));
        let mut large = part("parts/a", &["/b", "/c"]);
        large.files.iter_mut().for_each(|file| file.bytes = u64::MAX);
        assert!(refusal(vec![large]).contains("16 EiB"));
    }
}
