//! The tables of a facts file, and what keeps several files from contradicting each other.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

use crate::error::PolicyError;
use crate::facts::{Described, PrincipalFacts, Purpose, RecipientFacts, SiteFacts};
use crate::source::Source;

/// The highest step of the confinement ladder.
pub(crate) const TOP_STEP: u8 = 5;

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
}

impl Tables {
    /// Reads all files into one set of tables.
    pub(crate) fn parse(sources: &[Source]) -> Result<Tables, PolicyError> {
        let (mut all, mut seen) = (Tables::default(), BTreeMap::new());
        for source in sources {
            let one: Tables = read(source)?;
            one.note(source, &mut seen)?;
            all.purpose.extend(one.purpose);
            all.data.extend(one.data);
            all.model.extend(one.model);
            all.adapter.extend(one.adapter);
            all.site.extend(one.site);
            all.person.extend(one.person);
            all.service.extend(one.service);
            all.recipient.extend(one.recipient);
        }
        Ok(all)
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

/// Reads a TOML text; an error has its place.
pub(crate) fn read<T: for<'de> Deserialize<'de>>(source: &Source) -> Result<T, PolicyError> {
    toml::from_str(&source.text).map_err(|error| {
        let at = source.place(error.span().map_or(0, |span| span.start));
        PolicyError::Toml { at, message: error.message().replace('\n', "; ") }
    })
}

/// Reads a step of the confinement ladder.
pub(crate) fn ladder<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u8>, D::Error> {
    let step = Option::<i64>::deserialize(deserializer)?;
    let step = step.map(|step| u8::try_from(step).ok().filter(|step| *step <= TOP_STEP).ok_or(step));
    step.transpose()
        .map_err(|step| serde::de::Error::custom(format!("confinement {step}: expected a step of the ladder, 0 to {TOP_STEP}")))
}
