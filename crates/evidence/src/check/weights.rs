//! Are the weights that the reader has those that were signed?

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

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
    let (mut findings, mut fitting, mut found) = (Vec::new(), Vec::new(), BTreeSet::new());
    let mut places: BTreeMap<PathBuf, Vec<&Artefact>> = BTreeMap::new();
    for given in asked {
        let mut there: Vec<_> = recorded.iter().filter_map(|artefact| Some((find(given, artefact)?, artefact))).collect();
        let others = under(given).into_iter().filter(|path| !there.iter().any(|(known, _)| known == path));
        let renamed: Vec<_> =
            others.filter_map(|path| signed_as(seen, recorded, &path).map(|artefact| (path, artefact))).collect();
        there.extend(renamed);
        if there.is_empty() {
            // Whoever names a place wants to know of what lies there.
            let expected: Vec<&str> = recorded.iter().map(|one| one.directory.as_str()).collect();
            let why = format!("none of the signed directories is there: {}", expected.join(", "));
            findings.push(Finding::new(given.display().to_string(), why));
        }
        for (directory, artefact) in there {
            found.insert(artefact.folder.as_str());
            places.entry(directory).or_default().push(artefact);
        }
    }
    for (directory, artefacts) in &mut places {
        artefacts.sort_by_key(|artefact| artefact.entry);
        artefacts.dedup_by_key(|artefact| artefact.folder.as_str());
        // Exports to places of one name cannot all lie in this one: it has to be one of them, and says which.
        let differences: Vec<_> = artefacts.iter().map(|artefact| one(seen, artefact, directory)).collect();
        let fits = differences.iter().zip(artefacts.iter()).rfind(|(differences, _)| differences.is_empty());
        match fits.map(|(_, artefact)| (&artefact.directory, artefact.entry)) {
            Some((directory, Some(entry))) => fitting.push(format!("{directory} is that of entry {entry}")),
            Some((directory, None)) => fitting.push(directory.clone()),
            None => findings.extend(differences.into_iter().next_back().unwrap_or_default()),
        }
    }
    let mut looked_at = format!("{} directories compared", places.len());
    if !fitting.is_empty() {
        looked_at += &format!(": {}", fitting.join(", "));
    }
    let absent: Vec<&str> =
        recorded.iter().filter(|one| !found.contains(one.folder.as_str())).map(|one| one.directory.as_str()).collect();
    if !absent.is_empty() {
        looked_at += &format!("; not there: {}", absent.join(", "));
    }
    let strange: Vec<String> = asked.iter().flat_map(|given| beside(given, &places)).collect();
    if !strange.is_empty() {
        looked_at += &format!("; not of this run, and not compared: {}", strange.join(", "));
    }
    Check::of("weights", looked_at, findings)
}

/// The directory of an artefact: the one that was given, or one in it.
fn find(given: &Path, artefact: &Artefact) -> Option<PathBuf> {
    // A name from the bundle is looked for in one place, and leads nowhere else.
    if artefact.directory.contains('/') || ["", ".", ".."].contains(&artefact.directory.as_str()) {
        return None;
    }
    let is_it = given.canonicalize().is_ok_and(|real| real.ends_with(&artefact.directory));
    let directory = if is_it { given.to_owned() } else { given.join(&artefact.directory) };
    directory.is_dir().then_some(directory)
}

/// A place that was given, and the directories in it.
fn under(given: &Path) -> Vec<PathBuf> {
    let entries = given.read_dir().into_iter().flatten().flatten().map(|entry| entry.path());
    let mut paths: Vec<PathBuf> = entries.filter(|path| path.is_dir()).chain([given.to_owned()]).collect();
    paths.sort();
    paths
}

/// The artefact of which a directory, whatever it is called, has the signature.
fn signed_as<'a>(seen: &Seen<'_>, recorded: &'a [Artefact], directory: &Path) -> Option<&'a Artefact> {
    let path = directory.join(oms::FILE);
    let length = path.metadata().ok().filter(std::fs::Metadata::is_file)?.len();
    let is_there = |signature: &[u8]| {
        usize::try_from(length) == Ok(signature.len()) && std::fs::read(&path).is_ok_and(|found| found == signature)
    };
    let signature = |artefact: &Artefact| seen.files.get(&format!("{}{}", artefact.folder, oms::FILE));
    recorded.iter().find(|artefact| signature(artefact).is_some_and(&is_there))
}

/// What lies in a directory of artefacts and is none that the evidence names.
fn beside(given: &Path, places: &BTreeMap<PathBuf, Vec<&Artefact>>) -> Vec<String> {
    if places.contains_key(given) {
        return Vec::new();
    }
    let others = under(given).into_iter().filter(|path| path != given && !places.contains_key(path));
    others.map(|path| path.display().to_string()).collect()
}

fn one(seen: &Seen<'_>, artefact: &Artefact, directory: &Path) -> Vec<Finding> {
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
