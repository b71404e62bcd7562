//! Are checkpoints and exports signed by a key that may sign them, are they those of the ledger, and do their statements speak of them?

use std::collections::BTreeMap;
use std::path::Path;

use sirocco_files::{BareDigest, Digest};
use sirocco_signing::oms::{self, Signed};
use sirocco_signing::provenance;
use sirocco_signing::trust::{Trust, role};

use super::{Check, Finding, Seen};
use crate::gather::{ORIGIN, name_in, publishing};
use crate::record::Artefact;

pub(super) fn check(seen: &Seen<'_>) -> Check {
    let mut findings = seen.unread();
    let artefacts = seen.record.as_ref().map(|record| record.artefacts.as_slice()).unwrap_or_default();
    for artefact in artefacts {
        findings.extend(one(seen, artefact));
    }
    Check::of("artefacts", format!("{} signed directories", artefacts.len()), findings)
}

/// The role that a key needs for an artefact.
fn role_for(artefact: &str) -> &'static str {
    if artefact.starts_with("checkpoint:") { role::CHECKPOINT } else { role::RELEASE }
}

/// The signature of an artefact, by a key that may sign it.
pub(super) fn signed(seen: &Seen<'_>, artefact: &Artefact) -> Result<(Signed, Trust), Finding> {
    let path = format!("{}{}", artefact.folder, oms::FILE);
    let bytes = seen.files.get(&path).ok_or_else(|| Finding::new(&path, "is missing"))?;
    let trust = seen.demand.trusted.trust.with_role(role_for(&artefact.artefact));
    let trust = trust.map_err(|error| Finding::new(&path, error.to_string()))?;
    let signed = oms::read_bytes(Path::new(&path), bytes, &trust).map_err(|error| Finding::new(&path, error.to_string()))?;
    Ok((signed, trust))
}

fn one(seen: &Seen<'_>, artefact: &Artefact) -> Vec<Finding> {
    let (signed, trust) = match signed(seen, artefact) {
        Ok(signed) => signed,
        Err(finding) => return vec![finding],
    };
    let path = |name: &str| format!("{}{name}", artefact.folder);
    let mut findings = Vec::new();
    let digest = Digest::from(signed.manifest.digest());
    if digest != artefact.digest {
        findings.push(Finding::new(path(oms::FILE), format!("is of {digest}, expected {}", artefact.digest)));
    }
    let entry = publishing(seen.entries(), &artefact.artefact, digest).map(|one| one.index);
    if entry.is_none() || entry != artefact.entry {
        findings
            .push(Finding::new(path(oms::FILE), format!("no entry of the ledger published {} with {digest}", artefact.artefact)));
    }
    let lines: BTreeMap<&str, BareDigest> = signed.manifest.resources.iter().map(|one| (one.file.as_str(), one.digest)).collect();
    for name in [ORIGIN, provenance::FILE] {
        let bytes = seen.files.get(&path(name));
        match bytes {
            None => findings.push(Finding::new(path(name), "is missing")),
            Some(bytes) if lines.get(name) != Some(&BareDigest::of(bytes)) => {
                findings.push(Finding::new(path(name), "is not the file that was signed with the artefact"));
            }
            Some(_) => {}
        }
    }
    let origin = seen.files.get(&path(ORIGIN)).and_then(name_in);
    if origin.as_deref() != Some(&artefact.artefact) {
        findings
            .push(Finding::new(path(ORIGIN), format!("is of {}, expected {}", origin.unwrap_or_default(), artefact.artefact)));
    }
    findings.extend(statement(seen, &path(provenance::FILE), &lines, &trust));
    findings
}

/// One statement of a trusted key has the signed files as its subjects, all of them but itself.
fn statement(seen: &Seen<'_>, path: &str, signed: &BTreeMap<&str, BareDigest>, trust: &Trust) -> Option<Finding> {
    let bytes = seen.files.get(path)?;
    let statements = match provenance::read_bytes(Path::new(path), bytes, trust) {
        Ok(statements) => statements,
        Err(error) => return Some(Finding::new(path, error.to_string())),
    };
    let expected: BTreeMap<&str, String> =
        signed.iter().filter(|(name, _)| **name != provenance::FILE).map(|(name, digest)| (*name, digest.to_string())).collect();
    let mut why = "has no statement".to_owned();
    for stated in statements {
        match stated {
            Err(error) => why = error.to_string(),
            Ok(stated) => {
                let subjects = stated.statement.subject.iter();
                let subjects: BTreeMap<&str, String> = subjects
                    .map(|one| (one.name.as_deref().unwrap_or_default(), one.digest.get("sha256").cloned().unwrap_or_default()))
                    .collect();
                if subjects == expected {
                    return None;
                }
                why = "speaks of other files than those that are signed".to_owned();
            }
        }
    }
    Some(Finding::new(path, why))
}
