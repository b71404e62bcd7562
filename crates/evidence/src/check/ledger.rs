//! Is the ledger whole, signed by a trusted key, and does it continue what was seen before?

use sirocco_ledger::verify::{Expected, verify};

use super::{Check, Finding, Seen};
use crate::error::EvidenceError;
use crate::layout::LEDGER;

pub(super) fn check(seen: &Seen<'_>) -> Check {
    let findings = match findings(seen) {
        Ok(findings) => findings,
        Err(error) => vec![Finding::new(LEDGER, error.to_string())],
    };
    let origin = seen.ledger.as_ref().map_or("a ledger", |(signed, _)| signed.checkpoint.origin.as_str());
    let mut looked_at = format!("{} entries of {origin}", seen.entries().len());
    if !seen.demand.earlier.is_empty() {
        looked_at += ", beside what was seen before";
    }
    Check::of("ledger", looked_at, findings)
}

fn findings(seen: &Seen<'_>) -> Result<Vec<Finding>, EvidenceError> {
    let Ok((signed, _)) = &seen.ledger else { return Ok(seen.unread()) };
    let mut expected = Expected::new(seen.demand.trusted.for_log(&signed.checkpoint.origin)?);
    let mut findings = Vec::new();
    for earlier in &seen.demand.earlier {
        // A checkpoint that nobody trusted has signed says nothing about this ledger.
        if let Err(error) = seen.demand.trusted.for_log(&earlier.checkpoint.origin)?.check(earlier) {
            findings.push(Finding::new("the earlier checkpoint", error.to_string()));
        } else {
            expected.earlier.push(earlier.checkpoint.clone());
        }
    }
    let report = verify(&seen.memory, &expected)?;
    findings.extend(report.findings.iter().map(|finding| Finding::new(format!("{LEDGER}{}", finding.file), finding.to_string())));
    let beside = report.remarks.beyond.iter().chain(&report.remarks.stray);
    findings.extend(beside.map(|path| Finding::new(format!("{LEDGER}{path}"), "is no part of the sealed ledger")));
    if findings.is_empty() && !report.is_sound() {
        findings.push(Finding::new(LEDGER, "is not sound"));
    }
    Ok(findings)
}
