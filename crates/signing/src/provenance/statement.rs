//! The statement as JSON has it: in-toto Statement v1 with the predicate of SLSA provenance v1.
//!
//! Fields that are not listed are ignored, as in-toto's parsing rules demand; they are signed all the same.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::Digest;
use crate::distinct::distinct;
use crate::error::{Error, Result, malformed};
use crate::manifest::{Manifest, Options, Resource};
use crate::provenance::facts::is_timestamp;

/// Version 1 of in-toto's statement.
pub(super) const STATEMENT: &str = "https://in-toto.io/Statement/v1";
/// Version 1 of SLSA's provenance.
pub(super) const PREDICATE: &str = "https://slsa.dev/provenance/v1";
/// The digest that every subject and dependency here has.
pub(super) const SHA_256: &str = "sha256";

/// An in-toto Statement v1 about some files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Statement {
    /// Always `https://in-toto.io/Statement/v1`.
    #[serde(rename = "_type")]
    pub kind: String,
    /// The files, with names relative to their directory.
    pub subject: Vec<Descriptor>,
    /// Always `https://slsa.dev/provenance/v1`.
    #[serde(rename = "predicateType")]
    pub predicate_type: String,
    /// Where they come from.
    pub predicate: Provenance,
}

/// A file or anything else that has a digest or an address (in-toto's ResourceDescriptor).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Descriptor {
    /// A name within this statement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What the thing is called everywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// Algorithm → hexadecimal digest.
    #[serde(default, deserialize_with = "distinct", skip_serializing_if = "BTreeMap::is_empty")]
    pub digest: BTreeMap<String, String>,
    /// More about it.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub annotations: Map<String, Value>,
}

/// SLSA provenance v1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Provenance {
    /// What was to be done, with what.
    pub build_definition: BuildDefinition,
    /// Who did it, when.
    pub run_details: RunDetails,
}

/// The inputs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BuildDefinition {
    /// A URI that says how to read the parameters.
    pub build_type: String,
    /// What a person asked for.
    pub external_parameters: Map<String, Value>,
    /// What the programs settled themselves.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub internal_parameters: Map<String, Value>,
    /// Everything that was read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resolved_dependencies: Vec<Descriptor>,
}

/// The run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunDetails {
    /// Who ran it.
    pub builder: Builder,
    /// Which run it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Metadata>,
    /// Other things that came out of it: logs, measurements.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub byproducts: Vec<Descriptor>,
}

/// Who is answerable for the statement being true.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Builder {
    /// A URI: the site or the service.
    pub id: String,
    /// Component → version.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub version: BTreeMap<String, String>,
}

/// Which run, when. Times are RFC 3339 in UTC.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// A name of the run that no other run of this builder has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invocation_id: Option<String>,
    /// When it started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_on: Option<String>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_on: Option<String>,
}

/// What every statement has, whatever it is about.
#[derive(Deserialize)]
struct Head {
    #[serde(rename = "_type")]
    kind: String,
    #[serde(rename = "predicateType")]
    predicate_type: String,
}

impl Statement {
    /// Reads bytes whose signature has been verified; `path` is for messages.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] with the field; a statement of another type or predicate is that, too.
    pub fn parse(path: &Path, payload: &[u8]) -> Result<Self> {
        let not_json =
            |error: serde_json::Error| malformed(path, "the statement", error.to_string(), "an in-toto statement in JSON");
        let head: Head = serde_json::from_slice(payload).map_err(not_json)?;
        for (part, found, expected) in [("_type", &head.kind, STATEMENT), ("predicateType", &head.predicate_type, PREDICATE)] {
            if found != expected {
                return Err(malformed(path, part, format!("{found:?}"), expected));
            }
        }
        let statement: Self = serde_json::from_slice(payload).map_err(not_json)?;
        statement.check(path)?;
        Ok(statement)
    }

    /// What the types cannot say: URIs that are there, times of their form, digests or addresses of everything that was read.
    fn check(&self, path: &Path) -> Result<()> {
        let (definition, run) = (&self.predicate.build_definition, &self.predicate.run_details);
        for (part, uri) in [("buildDefinition.buildType", &definition.build_type), ("runDetails.builder.id", &run.builder.id)] {
            if !uri.contains(':') {
                return Err(malformed(path, part, format!("{uri:?}"), "a URI"));
            }
        }
        let metadata = run.metadata.iter();
        for time in metadata.flat_map(|metadata| [&metadata.started_on, &metadata.finished_on]).flatten() {
            if !is_timestamp(time) {
                return Err(malformed(path, "runDetails.metadata", format!("{time:?}"), "a time as 2026-01-31T12:00:00Z"));
            }
        }
        for described in self.subject.iter().chain(&definition.resolved_dependencies).chain(&run.byproducts) {
            let name = described.name.as_deref().unwrap_or("(no name)");
            if described.uri.is_none() && described.digest.is_empty() {
                return Err(malformed(path, format!("{name:?}"), "neither a digest nor a uri", "at least one of them"));
            }
            if described.digest.get(SHA_256).is_some_and(|digest| Digest::from_hex(digest).is_none()) {
                return Err(malformed(path, format!("digest of {name:?}"), "no SHA-256", "64 lowercase hexadecimal digits"));
            }
        }
        Ok(())
    }

    /// The SHA-256 of what was read, by name and role: those dependencies that state both.
    pub fn inputs(&self) -> impl Iterator<Item = (&str, &str, Digest)> {
        self.predicate.build_definition.resolved_dependencies.iter().filter_map(|described| {
            let role = described.annotations.get("role").and_then(Value::as_str)?;
            Some((role, described.name.as_deref()?, Digest::from_hex(described.digest.get(SHA_256)?)?))
        })
    }

    /// The subjects as a manifest of whole files.
    pub(super) fn manifest(&self, path: &Path) -> Result<Manifest> {
        let resources = self.subject.iter().map(|subject| {
            let file = subject.name.clone().unwrap_or_default();
            let digest = subject.digest.get(SHA_256).and_then(|digest| Digest::from_hex(digest));
            let digest =
                digest.ok_or_else(|| malformed(path, format!("subject {file:?}"), "no sha256", "one for each subject"))?;
            Ok(Resource { file, range: None, digest })
        });
        let manifest = Manifest::new("subject".to_owned(), Options::default(), resources.collect::<Result<_>>()?);
        manifest.map_err(|error| match error {
            Error::Empty { .. } => malformed(path, "subject", "none", "at least one file"),
            other => malformed(path, "subject", other.to_string(), "distinct relative paths"),
        })
    }
}
