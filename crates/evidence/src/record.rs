//! `evidence.json`: what a bundle has, and by which of its files each claim is supported. Everything in it but the name of its maker can be
//! computed from the other files, and is, when a bundle is checked.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use sirocco_files::Digest;
use sirocco_ledger::{Entry, Fact};

use crate::entries::Numbered;
use crate::layout::{self, APPROVALS, CONFINED, CONFINEMENT, DECISIONS, LEDGER, POLICY, PROOFS, SIGNATURES, Taken, plain};

/// The version of [`Record`].
pub const RECORD_VERSION: u32 = 2;

/// The whole record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// [`RECORD_VERSION`].
    pub v: u32,
    /// The run.
    pub run: String,
    /// The site, by its name in the facts.
    pub site: String,
    /// The account that made the bundle.
    pub made_by: String,
    /// When, by that machine's clock.
    pub made_at: String,
    /// The ledger's own name.
    pub log: String,
    /// Its entries.
    pub entries: u64,
    /// Who and what the entries name.
    pub summary: Summary,
    /// Every question to the policy.
    pub decisions: Vec<Ruling>,
    /// Every node whose confinement was measured.
    pub nodes: Vec<Node>,
    /// Every artefact whose signature is here.
    pub artefacts: Vec<Artefact>,
    /// What the bundle is to show.
    pub claims: Vec<Claim>,
}

/// Who, where, with what and when, as the entries have it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Summary {
    /// Persons and accounts.
    pub identities: BTreeSet<String>,
    /// Machines.
    pub hosts: BTreeSet<String>,
    /// Digests of the programs.
    pub programs: BTreeSet<Digest>,
    /// The time of the first entry.
    pub first: String,
    /// That of the last one.
    pub last: String,
}

/// A question to the policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ruling {
    /// The entry.
    pub entry: u64,
    /// Its verb.
    pub verb: String,
    /// What the policy said.
    pub allowed: bool,
    /// Question and answer.
    pub file: String,
    /// The proof that the ledger has it.
    pub proof: String,
}

/// A node's confinement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// The entry.
    pub entry: u64,
    /// The node.
    pub host: String,
    /// What was attempted there.
    pub file: String,
    /// The proof that the ledger has it.
    pub proof: String,
}

/// An artefact's signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Artefact {
    /// Its name.
    pub artefact: String,
    /// The digest of its names and contents.
    pub digest: Digest,
    /// The entry that published it, if one did.
    pub entry: Option<u64>,
    /// Where its signature and statements lie.
    pub folder: String,
    /// What its directory was called: under this name the weights are looked for.
    pub directory: String,
}

/// Something that the bundle is to show.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// In words.
    pub claim: String,
    /// The check of `sirocco-verify` that looks at it.
    pub check: String,
    /// The files and folders that it rests on.
    pub files: Vec<String>,
}

impl Summary {
    /// What the entries name.
    pub fn of(entries: &[Numbered]) -> Summary {
        let time = |numbered: Option<&Numbered>| numbered.map(|one| one.entry.time.to_string()).unwrap_or_default();
        Summary {
            identities: entries.iter().map(|one| one.entry.identity.clone()).collect(),
            hosts: entries.iter().map(|one| one.entry.host.clone()).collect(),
            programs: entries.iter().map(|one| one.entry.binary).collect(),
            first: time(entries.first()),
            last: time(entries.last()),
        }
    }
}

/// A text among an entry's facts.
pub(crate) fn text<'a>(entry: &'a Entry, name: &str) -> Option<&'a str> {
    match entry.facts.get(name) {
        Some(Fact::Text(text)) => Some(text),
        _ => None,
    }
}

/// Every decision of a ledger.
pub(crate) fn rulings(entries: &[Numbered]) -> Vec<Ruling> {
    let ruling = |one: &Numbered| {
        Some(Ruling {
            entry: one.index,
            verb: one.entry.verb.clone(),
            allowed: one.entry.decision.as_ref()?.allowed,
            file: layout::decision(one.index),
            proof: layout::proof(one.index, &one.entry.verb),
        })
    };
    entries.iter().filter_map(ruling).collect()
}

/// What the file of a decision holds: all that its entry says of it, as JSON.
pub(crate) fn ruling_text(one: &Numbered) -> String {
    let entry = &one.entry;
    let request = text(entry, "request").and_then(|request| serde_json::from_str::<serde_json::Value>(request).ok());
    let object = serde_json::json!({
        "entry": one.index, "time": entry.time.to_string(), "identity": entry.identity, "host": entry.host, "verb": entry.verb,
        "artefact": text(entry, "artefact"), "request": request, "allowed": entry.decision.as_ref().map(|decision| decision.allowed),
        "rules": entry.decision.as_ref().map(|decision| &decision.rules), "policy": entry.decision.as_ref().map(|decision| decision.policy),
        "facts": text(entry, "facts"), "signed_by": text(entry, "signed_by"), "answer": text(entry, "answer"),
    });
    format!("{object:#}\n")
}

/// Every measured node of a ledger.
pub(crate) fn nodes(entries: &[Numbered]) -> Vec<Node> {
    let (mut nodes, mut taken) = (Vec::<Node>::new(), Taken::default());
    for one in entries.iter().filter(|one| one.entry.verb == CONFINED) {
        let host = text(&one.entry, "node").or_else(|| text(&one.entry, "host")).unwrap_or(&one.entry.host).to_owned();
        let file = format!("{CONFINEMENT}{}.json", taken.free(&plain(&host)));
        nodes.push(Node { entry: one.index, host, file, proof: layout::proof(one.index, CONFINED) });
    }
    nodes
}

/// What is claimed of every run.
pub(crate) fn claims() -> Vec<Claim> {
    let claim = |check: &str, claim: &str, files: &[&str]| Claim {
        claim: claim.to_owned(),
        check: check.to_owned(),
        files: files.iter().map(|file| (*file).to_owned()).collect(),
    };
    vec![
        claim("signature", "Nothing in this bundle was changed, added or taken away since it was made.", &["model.sig"]),
        claim("ledger", "The history of the run is whole, and signed by the site's ledger key.", &[LEDGER]),
        claim("proofs", "Each entry that a claim rests on is in that history.", &[PROOFS, LEDGER]),
        claim(
            "decisions",
            "The run began, went on and was exported only after the policy had allowed it, by these rules and facts.",
            &[DECISIONS, POLICY, LEDGER],
        ),
        claim(
            "signers",
            "Who approved, and who signed the rules where that is recorded, have signed that with keys of their own.",
            &[APPROVALS, POLICY, DECISIONS],
        ),
        claim(
            "artefacts",
            "Checkpoints and exports are those that the history names, signed, with what they were made of.",
            &[SIGNATURES, LEDGER],
        ),
        claim(
            "confinement",
            "On no node of the run did an attempt to reach the network get through, but for what level 1 says that it leaves open.",
            &[CONFINEMENT, LEDGER],
        ),
    ]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn example() -> Record {
        Record {
            v: RECORD_VERSION,
            run: "demo".to_owned(),
            site: "local".to_owned(),
            made_by: "person:amal".to_owned(),
            made_at: "2026-01-31T12:00:00.000Z".to_owned(),
            log: "sirocco/demo/0".to_owned(),
            entries: 1,
            summary: Summary::default(),
            decisions: Vec::new(),
            nodes: Vec::new(),
            artefacts: Vec::new(),
            claims: claims(),
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(place: prop::sample::Index, byte: u8, noise in prop::collection::vec(any::<u8>(), 0..80)) {
            let mut text = serde_json::to_vec(&example()).unwrap();
            prop_assert_eq!(serde_json::from_slice::<Record>(&text).unwrap(), example());
            let at = place.index(text.len());
            text[at] = byte;
            let _ = serde_json::from_slice::<Record>(&text);
            let _ = serde_json::from_slice::<Record>(&noise);
        }
    }
}
