//! What the caller knows about a run → the statement. A statement with a gap is not made.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::Digest;
use crate::error::{Error, Result};
use crate::manifest::{Manifest, Method};
use crate::provenance::statement::{
    BuildDefinition, Builder, Descriptor, Metadata, PREDICATE, Provenance, RunDetails, SHA_256, STATEMENT, Statement,
};

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Build {
    /// A base model and data became a checkpoint, an adapter or a model.
    FineTune,
    /// A base model and an adapter became one model.
    Merge,
}

impl Build {
    /// The build type: a URI that never changes its meaning.
    #[must_use]
    pub fn uri(self) -> &'static str {
        match self {
            Self::FineTune => "urn:sirocco:build:fine-tune:v1",
            Self::Merge => "urn:sirocco:build:merge:v1",
        }
    }

    /// What must be among the inputs.
    fn needs(self) -> &'static [Role] {
        match self {
            Self::FineTune => &[Role::BaseModel, Role::Data, Role::Configuration, Role::Binary, Role::Policy],
            Self::Merge => &[Role::BaseModel, Role::Adapter, Role::Binary, Role::Policy],
        }
    }
}

/// What an input was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The model that was trained further or merged into.
    BaseModel,
    /// A checkpoint that the run went on from.
    Checkpoint,
    /// An adapter that was merged.
    Adapter,
    /// What was learned from.
    Data,
    /// The run file or recipe.
    Configuration,
    /// A program.
    Binary,
    /// A container image.
    Container,
    /// The rules that allowed it.
    Policy,
}

impl Role {
    /// The word for it in the annotation `role`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::BaseModel => "base-model",
            Self::Checkpoint => "checkpoint",
            Self::Adapter => "adapter",
            Self::Data => "data",
            Self::Configuration => "configuration",
            Self::Binary => "binary",
            Self::Container => "container",
            Self::Policy => "policy",
        }
    }
}

/// One thing that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// What for.
    pub role: Role,
    /// What it is called: a file's name, a model's name.
    pub name: String,
    /// What it is called everywhere, where it has such a name.
    pub uri: Option<String>,
    /// SHA-256 of the file, or [`Manifest::digest`] of the directory.
    pub digest: Digest,
    /// Whether it is a directory.
    pub directory: bool,
}

/// Everything that a statement says besides the files that it is about.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// What was done.
    pub build: Build,
    /// A name of the run that no other run of this builder has.
    pub run: String,
    /// Who ran it, as a URI: the site.
    pub builder: String,
    /// Component → version.
    pub versions: BTreeMap<String, String>,
    /// When it started: RFC 3339 in UTC, such as `2026-01-31T12:00:00Z`.
    pub started: String,
    /// When it ended.
    pub finished: String,
    /// What a person asked for.
    pub parameters: Map<String, Value>,
    /// What the programs settled themselves.
    pub settled: Map<String, Value>,
    /// Everything that was read.
    pub inputs: Vec<Input>,
}

impl Facts {
    /// The statement about the files of a manifest.
    pub(super) fn statement(&self, manifest: &Manifest) -> Result<Statement> {
        self.check()?;
        if manifest.options.method != Method::Files {
            return Err(bad("subject", "digests of shards".to_owned(), "digests of whole files"));
        }
        let subject = manifest.resources.iter().map(|resource| Descriptor {
            name: Some(resource.file.clone()),
            digest: BTreeMap::from([(SHA_256.to_owned(), resource.digest.to_string())]),
            ..Descriptor::default()
        });
        Ok(Statement {
            kind: STATEMENT.to_owned(),
            subject: subject.collect(),
            predicate_type: PREDICATE.to_owned(),
            predicate: Provenance { build_definition: self.definition(), run_details: self.run_details() },
        })
    }

    fn definition(&self) -> BuildDefinition {
        BuildDefinition {
            build_type: self.build.uri().to_owned(),
            external_parameters: self.parameters.clone(),
            internal_parameters: self.settled.clone(),
            resolved_dependencies: self.inputs.iter().map(Input::described).collect(),
        }
    }

    fn run_details(&self) -> RunDetails {
        RunDetails {
            builder: Builder { id: self.builder.clone(), version: self.versions.clone() },
            metadata: Some(Metadata {
                invocation_id: Some(self.run.clone()),
                started_on: Some(self.started.clone()),
                finished_on: Some(self.finished.clone()),
            }),
            byproducts: Vec::new(),
        }
    }

    fn check(&self) -> Result<()> {
        let named = self.inputs.iter().filter_map(|input| input.uri.as_ref()).map(|uri| ("the uri of an input", uri));
        for (part, text) in [("builder", &self.builder)].into_iter().chain(named) {
            if !text.contains(':') {
                return Err(bad(part, format!("{text:?}"), "a URI"));
            }
        }
        if self.run.is_empty() {
            return Err(bad("run", "nothing".to_owned(), "a name of the run"));
        }
        for (part, time) in [("started", &self.started), ("finished", &self.finished)] {
            if !is_timestamp(time) {
                return Err(bad(part, format!("{time:?}"), "a time in UTC as 2026-01-31T12:00:00Z"));
            }
        }
        if let Some(nameless) = self.inputs.iter().find(|input| input.name.is_empty()) {
            return Err(bad("inputs", format!("a {} without a name", nameless.role.name()), "a name for every input"));
        }
        let missing = self.build.needs().iter().find(|role| self.inputs.iter().all(|input| input.role != **role));
        missing.map_or(Ok(()), |role| {
            Err(bad("inputs", format!("no {}", role.name()), "every kind of input that the build type names"))
        })
    }
}

impl Input {
    fn described(&self) -> Descriptor {
        let digest_of = if self.directory { "directory" } else { "file" };
        let annotations = [("role", self.role.name()), ("digestOf", digest_of)];
        Descriptor {
            name: Some(self.name.clone()),
            uri: self.uri.clone(),
            digest: BTreeMap::from([(SHA_256.to_owned(), self.digest.to_string())]),
            annotations: annotations.into_iter().map(|(key, value)| (key.to_owned(), Value::from(value))).collect(),
        }
    }
}

fn bad(part: &'static str, found: String, expected: &'static str) -> Error {
    Error::BadFact { part, found, expected }
}

/// Whether a text is a moment in UTC as RFC 3339 writes it: `2026-01-31T12:00:00Z`, with or without a fraction of the second.
pub(super) fn is_timestamp(text: &str) -> bool {
    let Some((whole, fraction)) = text.strip_suffix('Z').map(|text| text.split_once('.').unwrap_or((text, "0"))) else {
        return false;
    };
    let form = b"dddd-dd-ddTdd:dd:dd";
    let fits = |(found, form): (u8, &u8)| if *form == b'd' { found.is_ascii_digit() } else { found == *form };
    let number = |from: usize| whole.get(from..from + 2).and_then(|text| text.parse::<u8>().ok()).unwrap_or(u8::MAX);
    let year = whole.get(..4).and_then(|text| text.parse::<u16>().ok()).unwrap_or(0);
    let (hour, minute, second) = (number(11), number(14), number(17));
    whole.len() == form.len()
        && whole.bytes().zip(form).all(fits)
        && (1..=days(year, number(5))).contains(&number(8))
        && hour < 24
        && minute < 60
        // A leap second is the last of its day.
        && (second < 60 || (hour, minute, second) == (23, 59, 60))
        && !fraction.is_empty()
        && fraction.bytes().all(|byte| byte.is_ascii_digit())
}

/// Days of a month in the Gregorian calendar; none where there is no such month.
fn days(year: u16, month: u8) -> u8 {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_in_utc_and_exists() {
        for good in [
            "2026-01-31T12:00:00Z",
            "1985-04-12T23:20:50.52Z",
            "2016-12-31T23:59:60Z",
            "2024-02-29T00:00:00Z",
            "2000-02-29T00:00:00Z",
        ] {
            assert!(is_timestamp(good), "{good}");
        }
        for bad in [
            "",
            "Z",
            "2026-01-31",
            "2026-01-31T12:00:00",
            "2026-01-31T12:00:00+01:00",
            "2026-13-31T12:00:00Z",
            "2026-01-00T12:00:00Z",
            "2026-02-31T12:00:00Z",
            "2026-02-29T12:00:00Z",
            "2100-02-29T12:00:00Z",
            "2026-04-31T12:00:00Z",
            "2026-00-01T12:00:00Z",
            "2026-01-31T12:00:60Z",
            "2026-01-31T24:00:00Z",
            "2026-01-31T12:00:00.Z",
            "2026-01-31 12:00:00Z",
            "é026-01-31T12:00:0Z",
        ] {
            assert!(!is_timestamp(bad), "{bad}");
        }
    }
}
