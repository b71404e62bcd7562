//! Does `evidence.json` say what the other files say?

use std::collections::BTreeSet;

use super::{Check, Finding, Seen};
use crate::gather::derived;
use crate::layout::{CONFINEMENT, DECISIONS, RECORD, SIGNATURES};
use crate::record::{RECORD_VERSION, Record, Summary, claims, nodes, rulings};

pub(super) fn check(seen: &Seen<'_>) -> Check {
    let mut findings = seen.unread();
    match (&seen.record, &seen.ledger) {
        (None, _) => findings.push(Finding::new(RECORD, "is missing, or no record of an evidence bundle")),
        (Some(record), _) if record.v != RECORD_VERSION => findings.push(Finding::new(
            RECORD,
            format!("is of version {}, and this program checks version {RECORD_VERSION}: pack the evidence again", record.v),
        )),
        (Some(record), Ok((signed, entries))) => {
            let of_ledger = Record {
                v: RECORD_VERSION,
                log: signed.checkpoint.origin.clone(),
                entries: signed.checkpoint.size,
                summary: Summary::of(entries),
                decisions: rulings(entries),
                nodes: nodes(entries),
                claims: claims(),
                ..record.clone()
            };
            if of_ledger != *record {
                findings
                    .push(Finding::new(RECORD, format!("does not say what the ledger says: {}", difference(record, &of_ledger))));
            }
            let named = signed.checkpoint.origin.strip_prefix("sirocco/").and_then(|rest| rest.rsplit_once('/'));
            if named.is_none_or(|(run, _)| run != record.run) {
                findings.push(Finding::new(
                    RECORD,
                    format!("is of the run {}, the ledger is {}", record.run, signed.checkpoint.origin),
                ));
            }
            findings.extend(again(seen));
        }
        _ => {}
    }
    Check::of("record", format!("{RECORD} beside {} entries", seen.entries().len()), findings)
}

/// The first field that differs.
fn difference(found: &Record, expected: &Record) -> &'static str {
    let fields = [
        ("v", found.v == expected.v),
        ("log", found.log == expected.log),
        ("entries", found.entries == expected.entries),
        ("summary", found.summary == expected.summary),
        ("decisions", found.decisions == expected.decisions),
        ("nodes", found.nodes == expected.nodes),
        ("claims", found.claims == expected.claims),
    ];
    fields.into_iter().find(|(_, same)| !same).map_or("nothing", |(name, _)| name)
}

/// Files that say again what entries say: the same, and no others.
fn again(seen: &Seen<'_>) -> Vec<Finding> {
    let derived = derived(seen.entries());
    let mut findings = Vec::new();
    for (name, bytes) in &derived {
        match seen.files.get(name) {
            None => findings.push(Finding::new(name, "is missing")),
            Some(found) if found != bytes => findings.push(Finding::new(name, "is not what the ledger's entry says")),
            Some(_) => {}
        }
    }
    let mut folders = BTreeSet::new();
    for name in seen.files.files.keys() {
        if (name.starts_with(DECISIONS) || name.starts_with(CONFINEMENT)) && !derived.contains_key(name) {
            findings.push(Finding::new(name, "has no entry in the ledger"));
        }
        folders.extend(name.strip_prefix(SIGNATURES).and_then(|rest| rest.split_once('/')).map(|(folder, _)| folder));
    }
    let recorded: BTreeSet<&str> =
        seen.record.iter().flat_map(|record| &record.artefacts).map(|one| one.folder.as_str()).collect();
    for folder in folders.into_iter().map(|folder| format!("{SIGNATURES}{folder}/")) {
        if !recorded.contains(folder.as_str()) {
            findings.push(Finding::new(folder, format!("is not named in {RECORD}")));
        }
    }
    findings
}
