//! `facts.toml`: the labels of what came in without a record of its own, as a file of facts that `[policy] facts` can name.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;
use sirocco_files::BareDigest;
use sirocco_policy::{Facts, Labels, Name};

use crate::incoming::kind;
use crate::record::{Form, PartRecord, Record};

/// The file's name in the opened directory.
pub const FACTS: &str = "facts.toml";

/// One description.
#[derive(Serialize)]
struct Described<'a> {
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<BareDigest>,
    #[serde(flatten)]
    labels: &'a Labels,
}

/// The text for everything of `record` that has no record of its own and will lie in `to`; `None` if there is no such thing. What the facts of
/// this site already call by a name keeps it: the part then has its digest in its name.
pub(crate) fn text(record: &Record, signer: &str, to: &Path, known: &Facts) -> Result<Option<String>, toml::ser::Error> {
    let mut tables: BTreeMap<&str, BTreeMap<String, Described<'_>>> = BTreeMap::new();
    for part in record.parts.iter().filter(|part| !part.has_origin()) {
        let kind = kind(part.artefact.kind);
        let table = tables.entry(kind.word()).or_default();
        let taken = |name: &str| known.described(&Name::new(kind, name)).is_some() || table.contains_key(name);
        let name = free(part, taken);
        // Programs measure files alike, and a directory each in its own way: that one is known by its place.
        let sha256 = (part.form == Form::File).then_some(part.sha256);
        let path = to.join(&part.place).display().to_string();
        table.insert(name, Described { path, sha256, labels: &part.labels });
    }
    if tables.is_empty() {
        return Ok(None);
    }
    let head = format!(
        "# Labels as the bundle of {} says them, packed by {} at {} and signed by the key {signer}: bundle.json, under model.sig.\n\
         # What is not written here is not known. A run file names this file in [policy] facts.\n\n",
        record.day, record.packed_by, record.site
    );
    Ok(Some(head + &toml::to_string(&tables)?))
}

fn free(part: &PartRecord, taken: impl Fn(&str) -> bool) -> String {
    let own = &part.artefact.name;
    if !taken(own) {
        return own.clone();
    }
    let digest = part.sha256.to_string();
    let numbered = format!("{own}-{}", digest.get(..12).unwrap_or_default());
    if taken(&numbered) { format!("{own}-{digest}") } else { numbered }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use sirocco_custody::Lineage;
    use sirocco_policy::Source;

    use super::*;
    use crate::record::{FileRecord, VERSION};

    fn part(artefact: &str, place: &str, labels: &str) -> PartRecord {
        let (bytes, sha256) = (1, BareDigest::of(place.as_bytes()));
        let files = vec![FileRecord { name: place.to_owned(), bytes, sha256 }];
        let labels = serde_json::from_str(labels).unwrap();
        let (artefact, lineage) = (artefact.parse().unwrap(), Lineage::default());
        PartRecord { artefact, place: place.to_owned(), form: Form::File, sha256, labels, lineage, files }
    }

    #[test]
    fn labels_come_back_as_facts() {
        let whole = r#"{"residency":["LU","FR"],"classification":"restricted","licence":["LicenseRef-a","MIT"],"commercial_use":false,
            "personal_data":"pseudonymised","purposes":["public-administration"],"expires":"2027-06-30"}"#;
        let wide = r#"{"residency":"anywhere","classification":"public","licence":["MIT","unknown"],"purposes":"any","expires":"never"}"#;
        let parts = vec![
            part("data:letters", "parts/a", whole),
            part("data:a \"b\".c/d", "parts/b", wide),
            part("data:letters", "parts/c", "{}"),
            part("model:m", "parts/d", r#"{"residency":[]}"#),
        ];
        let day = "2026-11-22".parse().unwrap();
        let (packed_by, site) = ("person:a".to_owned(), "s".to_owned());
        let record = Record { v: VERSION, packed_by, site, day, purpose: None, recipients: BTreeSet::new(), parts };
        let none = Facts::parse(&[]).unwrap();
        let written = text(&record, "ministry", Path::new("/in"), &none).unwrap().unwrap();
        let facts = Facts::parse(&[Source::new("facts.toml", written.clone())]).unwrap();
        let of = |name: &str| facts.described(&name.parse().unwrap()).unwrap_or_else(|| panic!("{name}: {written}")).clone();
        let second = format!("data:letters-{}", &record.parts[2].sha256.to_string()[..12]);
        let names = ["data:letters", "data:a \"b\".c/d", &second, "model:m"];
        for (name, part) in names.into_iter().zip(&record.parts) {
            let described = of(name);
            assert_eq!(described.labels, part.labels, "{name}: {written}");
            assert_eq!(described.path, Some(format!("/in/{}", part.place)));
            assert_eq!(described.sha256, Some(part.sha256));
        }
        // What the site calls so already keeps its name.
        let set = Facts::parse(&[Source::new("set.toml", "[data.letters]\nresidency = \"LU\"\n")]).unwrap();
        let beside = text(&record, "ministry", Path::new("/in"), &set).unwrap().unwrap();
        assert!(set.with_own(&[Source::new("facts.toml", beside)]).is_ok());
    }
}
