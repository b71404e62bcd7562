//! `sirocco ledger verify`.
use serde::Serialize;
use sirocco_evidence::{Trusted, read_checkpoint};
use sirocco_ledger::tlog_proof::checkpoint;
use sirocco_ledger::verify::{Expected, Finding, verify};

use super::{broken, find, not_evident, trust_of};
use crate::cli;
use crate::failure::{Failure, Kind};
use crate::output;

/// The fields of `--json`, in their order.
#[derive(Serialize)]
struct Verified {
    ok: bool,
    ledger: String,
    log: String,
    trust: String,
    entries: u64,
    root: Option<String>,
    findings: Vec<Finding>,
    recovered: Vec<u64>,
    clock_backwards: u64,
}

pub(super) fn run(arguments: &cli::LedgerVerify) -> Result<(), Failure> {
    let ledger = find(&arguments.place)?;
    let believed = trust_of(&arguments.place, arguments.trust.as_deref())?;
    let trusted = Trusted::read(&believed);
    let trusted = trusted.map_err(|error| not_evident(error).help("--trust DIR, with NAME.pub and ledger/NAME.pub in it"))?;
    let sealed =
        checkpoint(&ledger).map_err(|error| broken(&error).help("a ledger is sealed at each checkpoint and at a run's end"))?;
    let log = sealed.checkpoint.origin;
    let mut expected = Expected::new(trusted.for_log(&log).map_err(not_evident)?);
    for path in &arguments.earlier {
        let earlier = read_checkpoint(path).map_err(not_evident)?;
        let policy = trusted.for_log(&earlier.checkpoint.origin).map_err(not_evident)?;
        policy.check(&earlier).map_err(|error| Failure::new(Kind::Input, format_args!("{}: {error}", path.display())))?;
        expected.earlier.push(earlier.checkpoint);
    }
    let report = verify(&ledger, &expected).map_err(|error| broken(&error))?;
    let verified = Verified {
        ok: report.is_sound(),
        ledger: ledger.path().display().to_string(),
        log,
        trust: believed.display().to_string(),
        entries: report.size,
        root: report.root.map(|root| root.to_string()),
        findings: report.findings,
        recovered: report.remarks.recovered,
        clock_backwards: report.remarks.clock_backwards,
    };
    if arguments.json && verified.ok {
        return output::json(&verified);
    }
    let help = match arguments.trust {
        Some(_) => "keep a copy as it is, and ask who could write there".to_owned(),
        // The ledger of somebody else, or a copy of it, is signed with other keys.
        None => format!(
            "the keys of {} are believed: --trust DIR names those of whoever keeps the ledger; if it is theirs, keep a copy as it is, and ask who \
             could write there",
            verified.trust
        ),
    };
    tell(&verified, arguments.json, help)
}

fn tell(verified: &Verified, as_json: bool, help: String) -> Result<(), Failure> {
    let Some(first) = verified.findings.first() else {
        output::line(format_args!("{}: {} entries, whole and signed", verified.ledger, verified.entries))?;
        output::line(format_args!("{}{}", output::named("log"), verified.log))?;
        output::line(format_args!("{}{}", output::named("believed"), verified.trust))?;
        return match &verified.root {
            Some(root) => output::line(format_args!("{}{root}", output::named("root"))),
            None => Ok(()),
        };
    };
    if !as_json {
        verified.findings.iter().try_for_each(output::line)?;
    }
    let message = format!("{}: {} findings; the first: {first}", verified.ledger, verified.findings.len());
    Err(Failure::new(Kind::Input, message).help(help))
}
