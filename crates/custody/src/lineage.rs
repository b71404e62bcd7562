//! Where an artefact comes from: what is asked of the policy, and what travels with the artefact.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use sirocco_policy::{Labels, Name, Sha256Digest};

/// What things are made from, down to those that the facts may describe, with what is known of their bytes and labels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lineage {
    /// Artefact → what it was made from.
    pub made: BTreeMap<Name, BTreeSet<Name>>,
    /// Labels that were recorded when it was made; they can only make it stricter.
    pub recorded: BTreeMap<Name, Labels>,
    /// Digests of bytes that were at hand.
    pub digests: BTreeMap<Name, Sha256Digest>,
    /// Where bytes lie that are at hand now: true here only, so that it does not travel.
    #[serde(skip)]
    pub paths: BTreeMap<Name, String>,
    /// Of which of them a trusted key has signed the record, as this program has verified.
    #[serde(skip)]
    pub verified: BTreeSet<Name>,
}

impl Lineage {
    /// Something with these bytes is used.
    pub fn uses(&mut self, name: Name, digest: Option<Sha256Digest>, path: Option<String>) -> Name {
        if let Some(digest) = digest {
            self.digests.insert(name.clone(), digest);
        }
        if let Some(path) = path {
            self.paths.insert(name.clone(), path);
        }
        name
    }

    /// `name` comes of `parts`.
    pub fn makes(&mut self, name: &Name, parts: impl IntoIterator<Item = Name>) {
        self.made.entry(name.clone()).or_default().extend(parts);
    }

    /// Takes in the lineage of something that is used. Where both speak of one thing, what either says holds.
    pub fn joins(&mut self, other: &Lineage) {
        for (name, parts) in &other.made {
            self.makes(name, parts.iter().cloned());
        }
        for (name, labels) in &other.recorded {
            let joined = self.recorded.remove(name).map_or_else(|| labels.clone(), |known| known.join(labels));
            self.recorded.insert(name.clone(), joined);
        }
        for (name, digest) in &other.digests {
            self.digests.entry(name.clone()).or_insert(*digest);
        }
        self.paths.extend(other.paths.clone());
        self.verified.extend(other.verified.iter().cloned());
    }
}

/// What lies beside an artefact as `origin.json`, under its signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// The version of this record.
    pub v: u32,
    /// What it is.
    pub artefact: Name,
    /// Where it comes from.
    pub lineage: Lineage,
    /// The run that it was made by; empty where there was none.
    pub run: String,
    /// The step of that run.
    pub step: u64,
}

/// The version of [`Origin`].
pub(crate) const ORIGIN_VERSION: u32 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    #[test]
    fn a_lineage_takes_in_that_of_what_it_uses() {
        let mut checkpoint = Lineage::default();
        let data = checkpoint.uses(name("data:letters"), Some(Sha256Digest::of(b"letters")), None);
        checkpoint.makes(&name("checkpoint:run"), [data, name("model:base")]);
        let mut adapter = Lineage::default();
        adapter.makes(&name("adapter:run"), [name("checkpoint:run")]);
        adapter.joins(&checkpoint);
        assert_eq!(adapter.made.len(), 2);
        assert_eq!(adapter.digests.len(), 1);
        let text = serde_json::to_string(&adapter).unwrap();
        assert_eq!(serde_json::from_str::<Lineage>(&text).unwrap(), adapter);
    }
}
