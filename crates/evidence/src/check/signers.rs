//! On whose word do decisions rest? Approvals that they name, and signatures of the rules, by keys that the reader believes.

use std::collections::BTreeSet;
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
use crate::layout::{APPROVALS, RESUMED, STARTED, decision};
use crate::policy::{PolicyTexts, decides};
use crate::record::text;

/// What the payload of an approval is.
const PAYLOAD: &str = "application/vnd.sirocco.approval+json";
/// The version of an approval.
const VERSION: u32 = 1;

/// An approval as `crates/custody` writes it, which brings the policy engine with it. A test reads one of its making.
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

/// What others have signed, verified once for all decisions.
struct Signed {
    approvals: Vec<Approval>,
    /// What approvals call the run: its name, the digest of its settings and that of its tokens.
    runs: BTreeSet<String>,
    rules: Vec<SignedRules>,
    /// Why the first file shows nothing that shows nothing.
    set_aside: Option<String>,
}

/// One version of the rules and facts.
struct SignedRules {
    rules: Digest,
    facts: String,
    /// The fingerprints of the keys that have signed it.
    keys: BTreeSet<String>,
}

pub(super) fn check(seen: &Seen<'_>) -> Check {
    let mut findings = seen.unread();
    let signed = Signed::of(seen);
    // Whoever was named in a refusal has allowed nothing.
    let allowed = |one: &&Numbered| one.entry.decision.as_ref().is_some_and(|decision| decision.allowed);
    for one in seen.entries().iter().filter(allowed) {
        let found = signed.unapproved(one).into_iter().chain(signed.unsigned(one));
        findings.extend(found.map(|why| Finding::new(decision(one.index), signed.with_reason(why))));
    }
    let rules: usize = signed.rules.iter().map(|version| version.keys.len()).sum();
    Check::of("signers", format!("{} approvals, {rules} signatures of rules", signed.approvals.len()), findings)
}

impl Signed {
    fn of(seen: &Seen<'_>) -> Signed {
        let begins = seen.entries().iter().filter(|one| [STARTED, RESUMED].contains(&one.entry.verb.as_str()));
        let runs = begins.filter_map(|one| text(&one.entry, "run_id")).map(str::to_owned).collect();
        let mut signed = Signed { approvals: Vec::new(), runs, rules: Vec::new(), set_aside: None };
        for (name, bytes) in seen.files.in_folder(APPROVALS) {
            let path = format!("{APPROVALS}{name}");
            let approval = approval(seen, Path::new(&path), bytes);
            signed.approvals.extend(approval.map_err(|why| signed.set_aside.get_or_insert(format!("{path}: {why}")).len()).ok());
        }
        for (folder, version) in PolicyTexts::of_bundle(&seen.files.files) {
            let mut keys = BTreeSet::new();
            for bytes in version.signed.values() {
                match covers(seen, &version, bytes) {
                    Ok(key) => drop(keys.insert(key)),
                    Err(why) => drop(signed.set_aside.get_or_insert(format!("{folder}/signed: {why}"))),
                }
            }
            let digests = version.digests();
            signed.rules.push(SignedRules { rules: digests.rules.into(), facts: digests.facts.to_string(), keys });
        }
        signed
    }

    fn with_reason(&self, why: String) -> String {
        self.set_aside.iter().fold(why, |why, reason| format!("{why}; {reason}"))
    }

    /// A person whose approval a request names, and who has not given it.
    fn unapproved(&self, one: &Numbered) -> Option<String> {
        let request: Value = serde_json::from_str(text(&one.entry, "request")?).ok()?;
        let field = |name: &str| request.get(name).and_then(Value::as_str).unwrap_or_default();
        // Days are written so that their order is that of their letters.
        let is_good = |approval: &Approval| {
            approval.v == VERSION
                && approval.action == field("action")
                && approval.artefact == field("artefact")
                && self.runs.contains(&approval.run)
                && approval.day.as_str() <= field("day")
                && field("day") <= approval.until.as_str()
        };
        let named = request.get("approved_by").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        let given = |who: &str| {
            let theirs = self.approvals.iter().filter(|approval| who.strip_prefix("person:") == Some(&approval.approver));
            theirs.into_iter().any(is_good)
        };
        let mut without = named.filter(|who| !given(who));
        without.next().map(|who| format!("names the approval of {who}, of which no signed file is here that was good then"))
    }

    /// The signature that a decision says the rules had, where it is not here.
    fn unsigned(&self, one: &Numbered) -> Option<String> {
        let signer = text(&one.entry, "signed_by")?;
        let (rules, facts) = (one.entry.decision.as_ref()?.policy, text(&one.entry, "facts")?);
        // The name is what the site calls that key; its fingerprint is the same everywhere.
        let key = signer.rsplit(' ').next()?;
        let decided = |version: &&SignedRules| version.rules == rules && version.facts == facts;
        let is_signed = self.rules.iter().filter(decided).any(|version| version.keys.contains(key));
        (!is_signed).then(|| format!("was made by rules that {signer} has signed, and no such signature is here"))
    }
}

fn approval(seen: &Seen<'_>, path: &Path, bytes: &[u8]) -> Result<Approval, String> {
    let envelope = Envelope::parse(path, bytes).map_err(|error| error.to_string())?;
    let approval: Approval = serde_json::from_slice(&envelope.payload).map_err(|error| format!("its payload: {error}"))?;
    let trusted = seen.demand.trusted.trust.with_role(role::APPROVE).map_err(|error| error.to_string())?;
    let signers = envelope.verify(path, PAYLOAD, &trusted).map_err(|error| error.to_string())?;
    if signers.iter().any(|signer| signer.name == approval.approver) {
        Ok(approval)
    } else {
        Err(format!("is not signed by {}, who it says approves", approval.approver))
    }
}

/// The key that has signed exactly these rules and facts, by its fingerprint. Names of files and tables of cases decide nothing.
fn covers(seen: &Seen<'_>, version: &PolicyTexts, bytes: &[u8]) -> Result<String, String> {
    let trust = seen.demand.trusted.trust.with_role(role::POLICY).map_err(|error| error.to_string())?;
    let signed = oms::read_bytes(Path::new(oms::FILE), bytes, &trust).map_err(|error| error.to_string())?;
    let covered = signed.manifest.resources.iter().filter(|one| decides(&one.file)).map(|one| one.digest);
    let here = version.set.iter().filter(|(name, _)| decides(name)).map(|(_, text)| BareDigest::of(text.as_bytes()));
    if covered.collect::<BTreeSet<_>>() == here.collect() {
        Ok(signed.signer.key.fingerprint().to_string())
    } else {
        Err("is of other rules or facts".to_owned())
    }
}
