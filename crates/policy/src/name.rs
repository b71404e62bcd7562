//! Names of things that are asked about: `data:circulars`, `model:nemo`, `checkpoint:run-1`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What an artefact is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Data that a run learns from or is measured on.
    Data,
    /// A base model.
    Model,
    /// What a run needs to go on.
    Checkpoint,
    /// What LoRA learned.
    Adapter,
    /// A base with an adapter in it.
    Merged,
    /// A model that is served, with its adapters.
    Endpoint,
}

impl Kind {
    /// Every kind, in the order in which labels are inherited.
    pub const ALL: [Kind; 6] = [Kind::Data, Kind::Model, Kind::Checkpoint, Kind::Adapter, Kind::Merged, Kind::Endpoint];

    /// As names and facts write it.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Data => "data",
            Kind::Model => "model",
            Kind::Checkpoint => "checkpoint",
            Kind::Adapter => "adapter",
            Kind::Merged => "merged",
            Kind::Endpoint => "endpoint",
        }
    }

    /// As rules write it.
    pub fn entity_type(self) -> &'static str {
        match self {
            Kind::Data => "DataSource",
            Kind::Model => "Model",
            Kind::Checkpoint => "Checkpoint",
            Kind::Adapter => "Adapter",
            Kind::Merged => "MergedModel",
            Kind::Endpoint => "Endpoint",
        }
    }

    fn words() -> String {
        Kind::ALL.map(Kind::word).join(", ")
    }
}

/// An artefact by kind and name. Written `kind:name`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    /// What it is.
    pub kind: Kind,
    /// Its name in the facts or in the run.
    pub name: String,
}

impl Name {
    /// An artefact's name.
    pub fn new(kind: Kind, name: impl Into<String>) -> Name {
        Name { kind, name: name.into() }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind.word(), self.name)
    }
}

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Name, String> {
        let expected = || format!("\"{text}\": expected KIND:NAME, where KIND is one of {}", Kind::words());
        let (kind, name) = text.split_once(':').ok_or_else(expected)?;
        let kind = Kind::ALL.into_iter().find(|known| known.word() == kind).ok_or_else(expected)?;
        if name.is_empty() || name.chars().any(char::is_control) {
            return Err(expected());
        }
        Ok(Name::new(kind, name))
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Name, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_from_their_text() {
        for kind in Kind::ALL {
            let name = Name::new(kind, "a:b c");
            assert_eq!(name.to_string().parse(), Ok(name));
        }
        for bad in ["", "data", "data:", "file:x", "data:a\nb"] {
            assert!(bad.parse::<Name>().unwrap_err().contains("expected KIND:NAME"), "{bad}");
        }
    }
}
