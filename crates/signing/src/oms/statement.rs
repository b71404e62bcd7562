//! The signed statement: OMS v1.0, sections 5 and 6.6, with the field order of its appendix A.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Number;

use crate::Digest;
use crate::distinct::distinct;
use crate::error::{Error, Result, malformed};
use crate::manifest::{ALWAYS_IGNORED, Manifest, Method, Options, Resource};
use crate::oms::FILE;
use crate::resource::path_problem;

const STATEMENT: &str = "https://in-toto.io/Statement/v1";
const PREDICATE: &str = "https://model_signing/signature/v1.0";
/// The one hash that every implementation must have, and the only one here.
const HASH: &str = "sha256";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StatementText {
    #[serde(rename = "_type")]
    kind: String,
    subject: Vec<SubjectText>,
    #[serde(rename = "predicateType")]
    predicate_type: String,
    predicate: PredicateText,
}

#[derive(Serialize, Deserialize)]
struct SubjectText {
    name: String,
    #[serde(deserialize_with = "distinct")]
    digest: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PredicateText {
    resources: Vec<ResourceText>,
    serialization: SerializationText,
}

/// Fields besides these are ignored, as section 5.2.1 demands: they are signed and say nothing about the bytes.
#[derive(Serialize, Deserialize)]
struct ResourceText {
    name: String,
    digest: String,
    algorithm: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SerializationText {
    method: String,
    hash_type: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    shard_size: Option<Number>,
    allow_symlinks: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ignore_paths: Option<Vec<String>>,
}

/// The bytes to sign.
pub(super) fn write(path: &Path, manifest: &Manifest) -> Result<Vec<u8>> {
    let resources = manifest.resources.iter().map(|resource| ResourceText {
        name: resource.name(),
        digest: resource.digest.to_string(),
        algorithm: HASH.to_owned(),
    });
    let (method, shard_size) = match manifest.options.method {
        Method::Files => ("files", None),
        Method::Shards { size } => ("shards", Some(size.get().into())),
    };
    let always = ALWAYS_IGNORED.iter().map(|name| (*name).to_owned());
    // Named for verifiers that do not leave the signature out by themselves.
    let own = manifest.resources.iter().all(|resource| resource.file != FILE).then(|| FILE.to_owned());
    let ignored: BTreeSet<String> = always.chain(manifest.options.ignore.iter().cloned()).chain(own).collect();
    let statement = StatementText {
        kind: STATEMENT.to_owned(),
        subject: vec![SubjectText {
            name: manifest.model.clone(),
            digest: BTreeMap::from([(HASH.to_owned(), manifest.oms_root_digest().to_string())]),
        }],
        predicate_type: PREDICATE.to_owned(),
        predicate: PredicateText {
            resources: resources.collect(),
            serialization: SerializationText {
                method: method.to_owned(),
                hash_type: HASH.to_owned(),
                shard_size,
                allow_symlinks: manifest.options.follow_links,
                ignore_paths: Some(ignored.into_iter().collect()),
            },
        },
    };
    serde_json::to_vec(&statement).map_err(|error| malformed(path, "the statement", error.to_string(), "JSON"))
}

/// Reads bytes whose signature has been verified.
pub(super) fn read(path: &Path, payload: &[u8]) -> Result<Manifest> {
    let statement: StatementText = serde_json::from_slice(payload)
        .map_err(|error| malformed(path, "the statement", error.to_string(), "an OMS v1.0 statement in JSON"))?;
    for (part, found, expected) in
        [("_type", &statement.kind, STATEMENT), ("predicateType", &statement.predicate_type, PREDICATE)]
    {
        if found != expected {
            return Err(malformed(path, part, format!("{found:?}"), expected));
        }
    }
    let options = options(path, statement.predicate.serialization)?;
    let resources = resources(path, statement.predicate.resources, options.method)?;
    let Ok([subject]) = <[SubjectText; 1]>::try_from(statement.subject) else {
        return Err(malformed(path, "subject", "none or several", "one"));
    };
    let manifest = Manifest { model: subject.name, options, resources };
    let signed = subject.digest.get(HASH).cloned().unwrap_or_default();
    let root = manifest.oms_root_digest();
    if signed != root.to_string() {
        return Err(malformed(path, "subject.digest", format!("{signed:?}"), format!("{root}, the digest of all resources")));
    }
    Ok(manifest)
}

fn options(path: &Path, text: SerializationText) -> Result<Options> {
    supported(path, "serialization.hash_type", &text.hash_type)?;
    let method = match (text.method.as_str(), text.shard_size.as_ref().map(whole)) {
        ("files", None) => Method::Files,
        ("shards", Some(Some(size))) => Method::Shards { size },
        (method @ ("files" | "shards"), size) => {
            let size = size.map_or("no shard_size", |size| {
                if size.is_none() { "a shard_size that is no positive whole number" } else { "a shard_size" }
            });
            let expected = "a positive shard_size with the method \"shards\" and none with \"files\"";
            return Err(malformed(path, "serialization", format!("{size} with the method {method:?}"), expected));
        }
        (other, _) => return Err(malformed(path, "serialization.method", format!("{other:?}"), "\"files\" or \"shards\"")),
    };
    // The reference writes a directory's entry with or without a slash at its end.
    let ignore = text.ignore_paths.unwrap_or_default().into_iter();
    let ignore = ignore.map(|entry| entry.strip_suffix('/').map(str::to_owned).unwrap_or(entry)).collect();
    let options = Options { method, ignore, follow_links: text.allow_symlinks };
    options.check().map_err(|error| malformed(path, "serialization.ignore_paths", error.to_string(), "relative paths"))?;
    Ok(options)
}

/// A whole positive number. The reference keeps statements in protobuf, which has no integers here, and writes `100.0`.
fn whole(number: &Number) -> Option<NonZeroU64> {
    const EXACT: f64 = 9_007_199_254_740_992.0; // 2⁵³: below it every whole number is exact
    let float = || number.as_f64().filter(|float| float.fract() == 0.0 && (1.0..EXACT).contains(float)).map(|float| float as u64);
    number.as_u64().or_else(float).and_then(NonZeroU64::new)
}

fn supported(path: &Path, part: &'static str, found: &str) -> Result<()> {
    if found == HASH {
        return Ok(());
    }
    Err(Error::Unsupported { path: path.to_owned(), part, found: format!("{found:?}"), expected: "sha256" })
}

/// Keeps the order of the statement. The specification sorts by name and the reference part of a path by part: they differ where one name has a
/// character below `/`, and both are complete and unambiguous.
fn resources(path: &Path, texts: Vec<ResourceText>, method: Method) -> Result<Vec<Resource>> {
    if texts.is_empty() {
        return Err(malformed(path, "resources", "none", "at least one"));
    }
    // The specification names the hash alone; the reference (1.1.1) adds how it was applied, and refuses shards without it.
    let suffix = match method {
        Method::Files => String::new(),
        Method::Shards { size } => format!("-sharded-{size}"),
    };
    let mut seen = BTreeSet::new();
    let resources = texts.into_iter().map(|text| {
        supported(path, "resources.algorithm", text.algorithm.strip_suffix(&suffix).unwrap_or(&text.algorithm))?;
        let bad = |found: &str, expected: &str| malformed(path, format!("resource {:?}", text.name), found, expected);
        let digest = Digest::from_hex(&text.digest).ok_or_else(|| bad(&text.digest, "64 lowercase hexadecimal digits"))?;
        let (file, range) = match method {
            Method::Files => (text.name.as_str(), None),
            Method::Shards { size } => {
                let shard = Resource::split_shard(&text.name).filter(|(_, start, end)| is_shard(*start, *end, size));
                let (file, start, end) = shard.ok_or_else(|| bad("no shard", "FILE:START:END, a shard of shard_size bytes"))?;
                (file, Some((start, end)))
            }
        };
        if let Some(problem) = path_problem(file) {
            return Err(bad(problem, "a path relative to the model's directory"));
        }
        let resource = Resource { file: file.to_owned(), range, digest };
        if !seen.insert(resource.name()) {
            return Err(bad("the same name twice", "each name once"));
        }
        Ok(resource)
    });
    resources.collect()
}

/// Whether a range is one of the shards that a file is cut into: it begins at a multiple of their size and has at most that many bytes.
fn is_shard(start: u64, end: u64, size: NonZeroU64) -> bool {
    let length = end.checked_sub(start);
    start % size == 0 && length.is_some_and(|length| (1..=size.get()).contains(&length))
}

#[cfg(test)]
mod tests;
