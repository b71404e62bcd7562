//! Does every proof lead from its entry to the ledger's signed root, and has every entry one that a claim rests on?

use std::collections::BTreeMap;

use sirocco_ledger::tlog_proof::TlogProof;

use super::{Check, Finding, Seen};
use crate::entries::Numbered;
use crate::layout::{PROOFS, is_proven, proof};

pub(super) fn check(seen: &Seen<'_>) -> Check {
    let mut findings = seen.unread();
    let proven = seen.entries().iter().filter(|one| is_proven(&one.entry));
    let mut expected: BTreeMap<String, &Numbered> = proven.map(|one| (proof(one.index, &one.entry.verb), one)).collect();
    let mut count = 0;
    for (name, bytes) in seen.files.in_folder(PROOFS) {
        let path = format!("{PROOFS}{name}");
        let wrong = match expected.remove(&path) {
            Some(one) => holds(seen, bytes, one).err(),
            None => Some("is of no entry that a claim rests on".to_owned()),
        };
        findings.extend(wrong.map(|wrong| Finding::new(path, wrong)));
        count += 1;
    }
    findings.extend(expected.into_keys().map(|name| Finding::new(name, "is missing")));
    Check::of("proofs", format!("{count} proofs"), findings)
}

fn holds(seen: &Seen<'_>, bytes: &[u8], one: &Numbered) -> Result<(), String> {
    let proof = TlogProof::parse(bytes).map_err(|error| error.to_string())?;
    if proof.index != one.index || proof.extra.as_deref() != Some(&one.text) {
        return Err(format!("is of entry {}, or of other words than the ledger's: expected entry {}", proof.index, one.index));
    }
    let Ok((signed, _)) = &seen.ledger else { return Ok(()) };
    if proof.checkpoint.checkpoint != signed.checkpoint {
        return Err("leads to another checkpoint than the ledger's".to_owned());
    }
    let policy = seen.demand.trusted.for_log(&signed.checkpoint.origin).map_err(|error| error.to_string())?;
    proof.verify(&one.text, &policy).map(drop).map_err(|error| error.to_string())
}
