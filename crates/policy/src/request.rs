//! A question to the gate: who wants to do what, with what, where, for what, when.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::confinement::Confinement;
use crate::day::Day;
use crate::digest::Sha256Digest;
use crate::labels::Labels;
use crate::name::{Kind, Name};

/// What is done. Each takes certain kinds of artefact: what is used as it is, or what will come of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Action {
    /// Data, a model or an adapter comes to the site.
    Import,
    /// Data is cleaned and tokenised.
    Prepare,
    /// A run starts; the artefact is the checkpoint that it will write.
    Train,
    /// A run goes on from its checkpoint.
    Resume,
    /// A checkpoint, an adapter or a merged model leaves the run's directory.
    Export,
    /// An adapter goes into its base; the artefact is the merged model that comes of it.
    Merge,
    /// An endpoint starts.
    Serve,
    /// An endpoint takes one more adapter; the artefact is the endpoint with it.
    AddAdapter,
    /// Something leaves the site.
    SendOut,
}

impl Action {
    /// Every action.
    pub const ALL: [Action; 9] = [
        Action::Import,
        Action::Prepare,
        Action::Train,
        Action::Resume,
        Action::Export,
        Action::Merge,
        Action::Serve,
        Action::AddAdapter,
        Action::SendOut,
    ];

    /// As rules and requests write it.
    pub fn word(self) -> &'static str {
        match self {
            Action::Import => "import",
            Action::Prepare => "prepare",
            Action::Train => "train",
            Action::Resume => "resume",
            Action::Export => "export",
            Action::Merge => "merge",
            Action::Serve => "serve",
            Action::AddAdapter => "addAdapter",
            Action::SendOut => "sendOut",
        }
    }

    /// The kinds of artefact that it takes.
    pub fn takes(self) -> &'static [Kind] {
        match self {
            Action::Import => &[Kind::Data, Kind::Model, Kind::Adapter],
            Action::Prepare => &[Kind::Data],
            Action::Train | Action::Resume => &[Kind::Checkpoint],
            Action::Export => &[Kind::Checkpoint, Kind::Adapter, Kind::Merged],
            Action::Merge => &[Kind::Merged],
            Action::Serve | Action::AddAdapter => &[Kind::Endpoint],
            Action::SendOut => &[Kind::Data, Kind::Model, Kind::Checkpoint, Kind::Adapter, Kind::Merged],
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A person or a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WhoKind {
    /// A person.
    Person,
    /// A service account.
    Service,
}

/// Who asks. Written `person:NAME` or `service:NAME`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Who {
    /// A person or a program.
    pub kind: WhoKind,
    /// The name in the facts.
    pub name: String,
}

impl Who {
    /// A person or a service account by name.
    pub fn new(kind: WhoKind, name: impl Into<String>) -> Who {
        Who { kind, name: name.into() }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.kind == WhoKind::Person { "person" } else { "service" };
        write!(f, "{kind}:{}", self.name)
    }
}

impl FromStr for Who {
    type Err = String;

    fn from_str(text: &str) -> Result<Who, String> {
        let kind = match text.split_once(':') {
            Some(("person", name)) => Some((WhoKind::Person, name)),
            Some(("service", name)) => Some((WhoKind::Service, name)),
            _ => None,
        };
        let named = kind.filter(|(_, name)| !name.is_empty() && !name.chars().any(char::is_control));
        named.map(|(kind, name)| Who::new(kind, name)).ok_or_else(|| format!("\"{text}\": expected person:NAME or service:NAME"))
    }
}

impl Serialize for Who {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Who {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Who, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A question to the gate. What it names and the facts do not describe is not known, and a rule that needs it refuses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Who asks.
    pub who: Who,
    /// What is to be done.
    pub action: Action,
    /// With what, or what will come of it.
    pub artefact: Name,
    /// Lineage: what each artefact is made from, down to those that the facts describe.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub made: BTreeMap<Name, BTreeSet<Name>>,
    /// Labels that were recorded with an artefact when it was made; they can only make it stricter. Of an artefact of which neither facts
    /// nor `made` say anything they are believed only if it is among `verified_records`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub recorded: BTreeMap<Name, Labels>,
    /// Artefacts whose record was signed by somebody whom this site trusts. The program that asks has verified the signature.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub verified_records: BTreeSet<Name>,
    /// Digests of bytes at hand, where they were measured. What the facts describe with the same digest has a say in the labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub digests: BTreeMap<Name, Sha256Digest>,
    /// Where bytes at hand lie, written as the facts write it once `places` is applied to them; links resolved. What the facts describe there
    /// has a say in the labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub paths: BTreeMap<Name, String>,
    /// Where the facts' own places led when this was asked, in the form of `paths`: as they are written → as they were resolved. Facts that
    /// are read to decide again read them so ([`Facts::with_places`](crate::Facts::with_places)).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub places: BTreeMap<String, String>,
    /// The site, by its name in the facts.
    pub site: String,
    /// The node, once there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The level of confinement that was measured here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confinement: Option<Confinement>,
    /// True before queueing: what can only be measured on the nodes is assumed to be as the facts promise. Nothing is admitted on it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub planned: bool,
    /// For what, by its name in the facts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purpose: Option<String>,
    /// The day on which it is to be done.
    pub day: Day,
    /// Who approved. The program that asks has to know that they did.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub approved_by: BTreeSet<Who>,
    /// Who receives it, by their names in the facts.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub recipients: BTreeSet<String>,
}

impl Request {
    /// One text for one request: JSON with the fields in a fixed order.
    pub fn canonical(&self) -> String {
        // Strings, numbers and maps with string keys: JSON can hold all of it.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The digest of [`Request::canonical`].
    pub fn digest(&self) -> Sha256Digest {
        Sha256Digest::of(self.canonical().as_bytes())
    }
}
