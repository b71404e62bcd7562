//! On whose word do decisions rest? Approvals that they name, and signatures of the rules, by keys that the reader believes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;
use sirocco_files::BareDigest;
use sirocco_ledger::Digest;
use sirocco_signing::dsse::Envelope;
use sirocco_signing::oms;
use sirocco_signing::trust::role;

use super::{Check, Finding, Seen};
use crate::entries::Numbered;
use crate::layout::{APPROVALS, decision};
use crate::policy::PolicyTexts;
use crate::record::text;

/// What the payload of an approval is.
const PAYLOAD: &str = "application/vnd.sirocco.approval+json";

/// An approval as `crates/custody` writes it, which brings the policy engine with it. A test of the bundle reads one of its making.
#[derive(Deserialize)]
struct Approval {
    v: u32,
    action: String,
    artefact: String,
    run: String,
    approver: String,
    day: String,
    until: String,
}

pub(super) fn check(seen: &Seen<'_>) -> Check {
    let mut findings = seen.unread();
    let (good, bad) = approvals(seen);
    let versions: Vec<PolicyTexts> = PolicyTexts::of_bundle(&seen.files.files).into_values().collect();
    let signed: usize = versions.iter().map(|version| version.signed.len()).sum();
    for one in seen.entries().iter().filter(|one| one.entry.decision.is_some()) {
        let found = unapproved(seen, one, &good).map(|why| match bad.first() {
            Some((file, reason)) => format!("{why}; {file}: {reason}"),
            None => why,
        });
        findings
            .extend(found.into_iter().chain(unsigned(seen, one, &versions)).map(|why| Finding::new(decision(one.index), why)));
    }
    Check::of("signers", format!("{} approvals, {signed} signatures of rules", good.len()), findings)
}

/// Approvals that somebody has signed who may, and the others with the reason.
fn approvals(seen: &Seen<'_>) -> (Vec<Approval>, Vec<(String, String)>) {
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for (name, bytes) in seen.files.in_folder(APPROVALS) {
        let path = format!("{APPROVALS}{name}");
        match approval(seen, &path, bytes) {
            Ok(approval) => good.push(approval),
            Err(why) => bad.push((path, why)),
        }
    }
    (good, bad)
}

fn approval(seen: &Seen<'_>, path: &str, bytes: &[u8]) -> Result<Approval, String> {
    let envelope = Envelope::parse(Path::new(path), bytes).map_err(|error| error.to_string())?;
    let approval: Approval = serde_json::from_slice(&envelope.payload).map_err(|error| format!("its payload: {error}"))?;
    let trusted = seen.demand.trusted.trust.with_role(role::APPROVE).map_err(|error| error.to_string())?;
    let signers = envelope.verify(Path::new(path), PAYLOAD, &trusted).map_err(|error| error.to_string())?;
    if signers.iter().any(|signer| signer.name == approval.approver) {
        Ok(approval)
    } else {
        Err(format!("is not signed by {}, who it says approves", approval.approver))
    }
}

/// A person whose approval a request names, and who has not given it.
fn unapproved(seen: &Seen<'_>, one: &Numbered, good: &[Approval]) -> Option<String> {
    let request: Value = serde_json::from_str(text(&one.entry, "request")?).ok()?;
    let field = |name: &str| request.get(name).and_then(Value::as_str).unwrap_or_default();
    let run = seen.record.as_ref().map(|record| record.run.as_str()).unwrap_or_default();
    let tokens = tokens(seen);
    let is_about = |approval: &Approval| {
        let of_run = approval.run.strip_prefix(run).is_some_and(|rest| rest.starts_with('@'));
        let of_data = tokens.is_empty() || approval.run.rsplit('@').next().is_some_and(|data| tokens.contains(data));
        approval.v == 1 && of_run && of_data && approval.action == field("action") && approval.artefact == field("artefact")
    };
    // Days are written so that their order is that of their letters.
    let in_time = |approval: &Approval| approval.day.as_str() <= field("day") && field("day") <= approval.until.as_str();
    let named = request.get("approved_by").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let given = |who: &str| {
        let theirs = good.iter().filter(|approval| who.strip_prefix("person:") == Some(&approval.approver));
        theirs.filter(|approval| is_about(approval)).any(in_time)
    };
    let mut without = named.filter(|who| !given(who));
    without.next().map(|who| format!("names the approval of {who}, of which no signed file is here that was good then"))
}

/// The digests of the tokens that the run was trained on.
fn tokens(seen: &Seen<'_>) -> BTreeSet<String> {
    let outputs = seen.entries().iter().filter(|one| one.entry.verb == "data.prepared").flat_map(|one| &one.entry.outputs);
    outputs.filter(|(name, _)| name.starts_with("tokens/")).map(|(_, digest)| BareDigest::from(*digest).to_string()).collect()
}

/// The signature that a decision says the rules had, where it is not here.
fn unsigned(seen: &Seen<'_>, one: &Numbered, versions: &[PolicyTexts]) -> Option<String> {
    let signer = text(&one.entry, "signed_by")?;
    let rules = one.entry.decision.as_ref()?.policy;
    let decided = versions.iter().filter(|version| {
        let digests = version.digests();
        Digest::from(digests.rules) == rules && Some(digests.facts.to_string().as_str()) == text(&one.entry, "facts")
    });
    let tried: Vec<_> = decided.flat_map(|version| version.signed.values().map(|bytes| covers(seen, version, bytes))).collect();
    if tried.iter().any(|found| found.as_deref() == Ok(signer)) {
        return None;
    }
    let why = tried.into_iter().find_map(Result::err).map(|why| format!(": {why}")).unwrap_or_default();
    Some(format!("was made by rules that {signer} has signed, and no such signature is here{why}"))
}

/// Who has signed exactly these rules and facts, by name and key.
fn covers(seen: &Seen<'_>, version: &PolicyTexts, bytes: &[u8]) -> Result<String, String> {
    let trust = seen.demand.trusted.trust.with_role(role::POLICY).map_err(|error| error.to_string())?;
    let signed = oms::read_bytes(Path::new(oms::FILE), bytes, &trust).map_err(|error| error.to_string())?;
    let files = signed.manifest.resources.iter().filter(|one| one.file.ends_with(".cedar") || one.file.ends_with(".toml"));
    let files: BTreeMap<&str, BareDigest> = files.map(|one| (one.file.as_str(), one.digest)).collect();
    let here = version.set.iter().map(|(name, text)| (name.as_str(), BareDigest::of(text.as_bytes())));
    if files == here.collect() {
        Ok(format!("{} {}", signed.signer.name, signed.signer.key.fingerprint()))
    } else {
        Err("a signature is of other rules or facts".to_owned())
    }
}
