//! Are the weights that the reader has those that were signed?

use std::path::PathBuf;

use sirocco_signing::oms;

use super::{Check, Finding, Seen, State, artefacts};
use crate::record::Artefact;

pub(super) fn check(seen: &Seen<'_>) -> Check {
    let recorded = seen.record.as_ref().map(|record| record.artefacts.as_slice()).unwrap_or_default();
    let asked = &seen.demand.artefacts;
    if asked.is_empty() {
        let looked_at = "no weights were given".to_owned();
        return Check { check: "weights", state: State::Skipped, looked_at, findings: Vec::new() };
    }
    let (mut findings, mut compared, mut absent) = (Vec::new(), Vec::new(), Vec::new());
    for artefact in recorded {
        match find(asked, artefact) {
            None => absent.push(artefact.directory.as_str()),
            Some(directory) => {
                compared.push(artefact.directory.as_str());
                findings.extend(one(seen, artefact, &directory));
            }
        }
    }
    if compared.is_empty() {
        let given: Vec<String> = asked.iter().map(|path| path.display().to_string()).collect();
        let expected: Vec<&str> = recorded.iter().map(|one| one.directory.as_str()).collect();
        findings
            .push(Finding::new(given.join(", "), format!("none of the signed directories is there: {}", expected.join(", "))));
    }
    let mut looked_at = format!("{} directories compared", compared.len());
    if !absent.is_empty() {
        looked_at += &format!("; not there: {}", absent.join(", "));
    }
    Check::of("weights", looked_at, findings)
}

/// The directory of this name: one that was given, or in one that was given.
fn find(asked: &[PathBuf], artefact: &Artefact) -> Option<PathBuf> {
    let own = asked.iter().find(|path| path.canonicalize().is_ok_and(|real| real.ends_with(&artefact.directory)));
    let inside = asked.iter().map(|path| path.join(&artefact.directory));
    // A name from the bundle is looked for in one place, and leads nowhere else.
    let plain = !artefact.directory.contains('/') && !["", ".", ".."].contains(&artefact.directory.as_str());
    own.cloned().into_iter().chain(inside).find(|path| plain && path.is_dir())
}

fn one(seen: &Seen<'_>, artefact: &Artefact, directory: &std::path::Path) -> Vec<Finding> {
    let signed = match artefacts::signed(seen, artefact) {
        Ok((signed, _)) => signed,
        Err(finding) => return vec![finding],
    };
    let path = |name: &str| directory.join(name).display().to_string();
    match signed.manifest.compare(directory, &[oms::FILE.to_owned()], &[]) {
        Err(error) => vec![Finding::new(directory.display().to_string(), error.to_string())],
        Ok((differences, _)) => {
            let all = |names: &[String], what: &str| -> Vec<Finding> {
                names.iter().map(|name| Finding::new(path(name), what)).collect()
            };
            [
                all(&differences.changed, "was changed"),
                all(&differences.missing, "is missing"),
                all(&differences.extra, "was added: it is not signed"),
            ]
            .concat()
        }
    }
}
