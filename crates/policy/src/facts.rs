//! Facts: what the ministry knows about its data, models, sites and people, as typed TOML. Nothing unknown is guessed.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::country::Country;
use crate::digest::Sha256Digest;
use crate::error::PolicyError;
use crate::labels::{Classification, Expiry, Labels, Licences, PersonalData, Purposes, Residency};
use crate::name::{Kind, Name};
use crate::request::{Who, WhoKind};
use crate::source::Source;
use crate::tables::{self, Tables};
use crate::written::{label, licences};

/// Something that others made and the ministry labels: a data source, a model or an adapter.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "DescribedAsWritten")]
pub struct Described {
    /// Where it lies, for programs that look it up; rules do not see it.
    pub path: Option<String>,
    /// The digest of its bytes. Bytes with another digest are not what the labels speak of.
    pub sha256: Option<Sha256Digest>,
    /// Its labels.
    pub labels: Labels,
}

/// The same as the file has it: labels beside the rest.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DescribedAsWritten {
    path: Option<String>,
    sha256: Option<Sha256Digest>,
    #[serde(default, deserialize_with = "label")]
    residency: Option<Residency>,
    #[serde(default, deserialize_with = "label")]
    classification: Option<Classification>,
    #[serde(default, deserialize_with = "licences")]
    licence: Licences,
    #[serde(default, deserialize_with = "label")]
    commercial_use: Option<bool>,
    #[serde(default, deserialize_with = "label")]
    personal_data: Option<PersonalData>,
    #[serde(default, deserialize_with = "label")]
    purposes: Option<Purposes>,
    #[serde(default, deserialize_with = "label")]
    expires: Option<Expiry>,
}

impl TryFrom<DescribedAsWritten> for Described {
    type Error = String;

    fn try_from(written: DescribedAsWritten) -> Result<Described, String> {
        // Creative Commons puts the condition into the identifier.
        let forbids = |name: &&String| name.starts_with("CC-BY-NC");
        if let (Some(name), Some(true)) = (written.licence.names.iter().find(forbids), written.commercial_use) {
            return Err(format!("licence \"{name}\" forbids commercial use: found commercial_use = true, expected false"));
        }
        Ok(Described {
            path: written.path,
            sha256: written.sha256,
            labels: Labels {
                residency: written.residency,
                classification: written.classification,
                licences: written.licence,
                commercial_use: written.commercial_use,
                personal_data: written.personal_data,
                purposes: written.purposes,
                expires: written.expires,
            },
        })
    }
}

/// A purpose that requests and labels may name.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Purpose {
    /// Is it commercial use in the sense of licences? `None`: not known.
    #[serde(default, deserialize_with = "label")]
    pub commercial: Option<bool>,
}

/// A site where something may be done.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SiteFacts {
    /// The country in which the machines stand.
    pub country: Option<Country>,
    /// The country whose law its operator answers to.
    pub operator_country: Option<Country>,
    /// The highest classification that may be there.
    #[serde(default, deserialize_with = "label")]
    pub accredited: Option<Classification>,
    /// The step of the confinement ladder that it demands, 0 to 5.
    #[serde(default, deserialize_with = "tables::ladder")]
    pub confinement: Option<u8>,
    /// Its nodes by name; one that ends in `*` stands for all that begin so.
    pub nodes: Option<Vec<String>>,
}

impl SiteFacts {
    /// Is this one of its nodes? `false` also when no node is known.
    pub fn has_node(&self, node: &str) -> bool {
        let is = |pattern: &String| pattern.strip_suffix('*').map_or(pattern == node, |begin| node.starts_with(begin));
        self.nodes.as_ref().is_some_and(|nodes| nodes.iter().any(is))
    }
}

/// A person or a service account.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrincipalFacts {
    /// What they are, in words that rules use.
    pub roles: Option<BTreeSet<String>>,
    /// The highest classification that they may see.
    #[serde(default, deserialize_with = "label")]
    pub clearance: Option<Classification>,
    /// The nationality of a person, the home of a service account.
    pub country: Option<Country>,
}

/// Somebody to whom something can be sent.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecipientFacts {
    /// The country in which it is received.
    pub country: Option<Country>,
    /// The highest classification that they may see.
    #[serde(default, deserialize_with = "label")]
    pub clearance: Option<Classification>,
}

/// All that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    pub(crate) tables: Tables,
    digest: Sha256Digest,
}

impl Facts {
    /// Reads facts from one or several files.
    ///
    /// # Errors
    /// Text that is not TOML, an unknown key, a value of the wrong form, one thing described twice.
    pub fn parse(sources: &[Source]) -> Result<Facts, PolicyError> {
        Ok(Facts { tables: Tables::parse(sources)?, digest: Sha256Digest::of_texts(sources) })
    }

    /// The digest of the texts that these facts were read from.
    pub fn digest(&self) -> &Sha256Digest {
        &self.digest
    }

    /// What is known about a data source, a model or an adapter.
    pub fn described(&self, name: &Name) -> Option<&Described> {
        self.kind(name.kind)?.get(&name.name)
    }

    /// The artefact that lies at this path, as the facts write it.
    pub fn at_path(&self, path: &str) -> Option<Name> {
        self.find(|described| described.path.as_deref() == Some(path))
    }

    /// The artefact whose bytes have this digest.
    pub fn with_digest(&self, digest: &Sha256Digest) -> Option<Name> {
        self.find(|described| described.sha256.as_ref() == Some(digest))
    }

    /// What is known about a site.
    pub fn site(&self, name: &str) -> Option<&SiteFacts> {
        self.tables.site.get(name)
    }

    /// The names of all sites.
    pub fn sites(&self) -> impl Iterator<Item = &str> {
        self.tables.site.keys().map(String::as_str)
    }

    /// What is known about a purpose.
    pub fn purpose(&self, name: &str) -> Option<&Purpose> {
        self.tables.purpose.get(name)
    }

    /// The names of all purposes.
    pub fn purposes(&self) -> impl Iterator<Item = &str> {
        self.tables.purpose.keys().map(String::as_str)
    }

    /// What is known about a person or a service account.
    pub fn principal(&self, who: &Who) -> Option<&PrincipalFacts> {
        match who.kind {
            WhoKind::Person => self.tables.person.get(&who.name),
            WhoKind::Service => self.tables.service.get(&who.name),
        }
    }

    /// Every person and service account.
    pub fn principals(&self) -> impl Iterator<Item = Who> {
        let people = self.tables.person.keys().map(|name| Who::new(WhoKind::Person, name.as_str()));
        people.chain(self.tables.service.keys().map(|name| Who::new(WhoKind::Service, name.as_str())))
    }

    /// What is known about a recipient.
    pub fn recipient(&self, name: &str) -> Option<&RecipientFacts> {
        self.tables.recipient.get(name)
    }

    fn kind(&self, kind: Kind) -> Option<&BTreeMap<String, Described>> {
        match kind {
            Kind::Data => Some(&self.tables.data),
            Kind::Model => Some(&self.tables.model),
            Kind::Adapter => Some(&self.tables.adapter),
            Kind::Checkpoint | Kind::Merged | Kind::Endpoint => None,
        }
    }

    fn find(&self, is: impl Fn(&Described) -> bool) -> Option<Name> {
        Kind::ALL.into_iter().find_map(|kind| {
            let (name, _) = self.kind(kind)?.iter().find(|(_, described)| is(described))?;
            Some(Name::new(kind, name.as_str()))
        })
    }
}
