//! Facts: what the ministry knows about its data, models, sites and people, as typed TOML. Nothing unknown is guessed.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::confinement::Confinement;
use crate::country::Country;
use crate::digest::{Sha256Digest, of_texts};
use crate::error::PolicyError;
use crate::labels::{Classification, Expiry, Labels, Licences, PersonalData, Purposes, Residency};
use crate::name::{Kind, Name};
use crate::request::{Who, WhoKind};
use crate::source::Source;
use crate::tables::Tables;
use crate::written::{label, licences};

/// Something that others made and the ministry labels: a data source, a model or an adapter.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "DescribedAsWritten")]
pub struct Described {
    /// Where it lies, a file or a directory; rules do not see it.
    pub path: Option<String>,
    /// The digest of its bytes: of the file, or of the directory as [`crate::Manifest::digest`] has it. Bytes with another digest are not
    /// what the labels speak of.
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
    /// The level of confinement that it demands.
    pub confinement: Option<Confinement>,
    /// Does it take only policies that are signed? What the set says of itself can only be an addition to [`crate::Demands`].
    #[serde(default)]
    pub signed_policies: bool,
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
    /// What a user's own files describe.
    own: BTreeSet<Name>,
    digest: Sha256Digest,
}

impl Facts {
    /// Reads facts from one or several files.
    ///
    /// # Errors
    /// Text that is not TOML, an unknown key, a value of the wrong form, one thing described twice.
    pub fn parse(sources: &[Source]) -> Result<Facts, PolicyError> {
        Ok(Facts { tables: Tables::parse(sources)?, own: BTreeSet::new(), digest: of_texts(sources) })
    }

    /// The same with descriptions of data, models and adapters by whoever asks. They add; they replace nothing: what is described twice is
    /// refused, and bytes or places that several descriptions speak of have the strictest labels of all.
    ///
    /// # Errors
    /// Those of [`Facts::parse`]; anything but data, models and adapters; a description with neither `path` nor `sha256`.
    pub fn with_own(mut self, sources: &[Source]) -> Result<Facts, PolicyError> {
        self.own.extend(self.tables.add_own(sources)?);
        if !sources.is_empty() {
            let text = format!("sirocco own facts v1\n{}\n{}\n", self.digest, of_texts(sources));
            self.digest = Sha256Digest::of(text.as_bytes());
        }
        Ok(self)
    }

    /// The same facts with every place written as `written` writes it, so that one place has one spelling whoever describes it. The digest
    /// stays that of the texts.
    #[must_use]
    pub fn with_places(mut self, mut written: impl FnMut(&str) -> String) -> Facts {
        let Tables { data, model, adapter, .. } = &mut self.tables;
        for path in [data, model, adapter].into_iter().flat_map(BTreeMap::values_mut).filter_map(|known| known.path.as_mut()) {
            *path = written(path);
        }
        self
    }

    /// The first thing that is described by a place which depends on where one stands.
    pub fn relative(&self) -> Option<(Name, &str)> {
        let Tables { data, model, adapter, .. } = &self.tables;
        let mut described = [(Kind::Data, data), (Kind::Model, model), (Kind::Adapter, adapter)]
            .into_iter()
            .flat_map(|(kind, table)| table.iter().map(move |(name, known)| (kind, name, known)));
        described.find_map(|(kind, name, known)| {
            let path = known.path.as_deref().filter(|path| !path.starts_with('/'))?;
            Some((Name::new(kind, name.clone()), path))
        })
    }

    /// Does the description of this artefact stand in a user's own file?
    pub fn is_own(&self, name: &Name) -> bool {
        self.own.contains(name)
    }

    /// The digest of the texts that these facts were read from.
    pub fn digest(&self) -> &Sha256Digest {
        &self.digest
    }

    /// What is known about a data source, a model or an adapter.
    pub fn described(&self, name: &Name) -> Option<&Described> {
        self.kind(name.kind)?.get(&name.name)
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

    /// Everything that is described, the set's before a user's own.
    pub(crate) fn every(&self) -> impl Iterator<Item = (Name, &Described)> {
        let of =
            |kind: Kind| self.kind(kind).into_iter().flatten().map(move |(name, known)| (Name::new(kind, name.as_str()), known));
        let all = || Kind::ALL.into_iter().flat_map(of);
        all().filter(|(name, _)| !self.is_own(name)).chain(all().filter(|(name, _)| self.is_own(name)))
    }
}
