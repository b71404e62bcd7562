//! The tables of a facts file, and what keeps several files from contradicting each other.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::error::PolicyError;
use crate::facts::{Described, PrincipalFacts, Purpose, RecipientFacts, SiteFacts};
use crate::name::{Kind, Name};
use crate::source::Source;

/// A facts file: `[data.NAME]`, `[site.NAME]` and so on.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Tables {
    pub(crate) purpose: BTreeMap<String, Purpose>,
    pub(crate) data: BTreeMap<String, Described>,
    pub(crate) model: BTreeMap<String, Described>,
    pub(crate) adapter: BTreeMap<String, Described>,
    pub(crate) site: BTreeMap<String, SiteFacts>,
    pub(crate) person: BTreeMap<String, PrincipalFacts>,
    pub(crate) service: BTreeMap<String, PrincipalFacts>,
    pub(crate) recipient: BTreeMap<String, RecipientFacts>,
    /// What stands in which file.
    #[serde(skip)]
    seen: BTreeMap<String, String>,
}

/// A file of a user's own: it may describe artefacts, and nothing that the set describes.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct OwnTables {
    data: BTreeMap<String, Described>,
    model: BTreeMap<String, Described>,
    adapter: BTreeMap<String, Described>,
}

impl Tables {
    /// Reads all files into one set of tables.
    pub(crate) fn parse(sources: &[Source]) -> Result<Tables, PolicyError> {
        let mut all = Tables::default();
        for source in sources {
            all.take(source, read(source)?)?;
        }
        Ok(all)
    }

    /// Adds files of a user's own, and says which artefacts they describe.
    pub(crate) fn add_own(&mut self, sources: &[Source]) -> Result<BTreeSet<Name>, PolicyError> {
        let mut names = BTreeSet::new();
        for source in sources {
            let OwnTables { data, model, adapter } = read(source).map_err(own)?;
            let one = Tables { data, model, adapter, ..Tables::default() };
            for (kind, table) in [(Kind::Data, &one.data), (Kind::Model, &one.model), (Kind::Adapter, &one.adapter)] {
                for (name, described) in table {
                    let name = Name::new(kind, name.as_str());
                    if described.path.is_none() && described.sha256.is_none() {
                        let message =
                            format!("{name} has neither path nor sha256: expected one of them, or nothing is known by it");
                        return Err(PolicyError::Toml { at: source.place(0), message });
                    }
                    names.insert(name);
                }
            }
            self.take(source, one)?;
        }
        Ok(names)
    }

    fn take(&mut self, source: &Source, one: Tables) -> Result<(), PolicyError> {
        one.note(source, &mut self.seen)?;
        self.purpose.extend(one.purpose);
        self.data.extend(one.data);
        self.model.extend(one.model);
        self.adapter.extend(one.adapter);
        self.site.extend(one.site);
        self.person.extend(one.person);
        self.service.extend(one.service);
        self.recipient.extend(one.recipient);
        Ok(())
    }

    /// Remembers in which file each thing is described, and refuses a second description.
    fn note(&self, source: &Source, seen: &mut BTreeMap<String, String>) -> Result<(), PolicyError> {
        let tables: [(&str, Vec<&String>); 8] = [
            ("purpose", self.purpose.keys().collect()),
            ("data", self.data.keys().collect()),
            ("model", self.model.keys().collect()),
            ("adapter", self.adapter.keys().collect()),
            ("site", self.site.keys().collect()),
            ("person", self.person.keys().collect()),
            ("service", self.service.keys().collect()),
            ("recipient", self.recipient.keys().collect()),
        ];
        for (table, names) in tables {
            for name in names {
                if name.is_empty() || name.chars().any(char::is_control) {
                    let message = format!("[{table}.{name:?}]: expected a name that can be read");
                    return Err(PolicyError::Toml { at: source.place(0), message });
                }
                let name = format!("[{table}.{name}]");
                if let Some(first) = seen.insert(name.clone(), source.name.clone()) {
                    return Err(PolicyError::DescribedTwice { file: source.name.clone(), name, first });
                }
            }
        }
        Ok(())
    }
}

/// What a file of a user's own may hold, added to what is wrong with it.
fn own(error: PolicyError) -> PolicyError {
    match error {
        PolicyError::Toml { at, message } => {
            let rest =
                "facts of one's own describe data, models and adapters; sites, people, recipients and purposes are the set's";
            PolicyError::Toml { at, message: format!("{message} ({rest})") }
        }
        other => other,
    }
}

/// Reads a TOML text; an error has its place.
pub(crate) fn read<T: for<'de> Deserialize<'de>>(source: &Source) -> Result<T, PolicyError> {
    toml::from_str(&source.text).map_err(|error| {
        let at = source.place(error.span().map_or(0, |span| span.start));
        PolicyError::Toml { at, message: error.message().replace('\n', "; ") }
    })
}
