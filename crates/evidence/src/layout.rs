//! What the files of a bundle are called.

use std::collections::{BTreeMap, BTreeSet};

use sirocco_ledger::Entry;

/// What is here, for programs.
pub const RECORD: &str = "evidence.json";
/// What is here, for people.
pub const PAGE: &str = "index.html";
/// The ledger, as a folder.
pub const LEDGER: &str = "ledger/";
/// Proofs that entries are in the ledger.
pub const PROOFS: &str = "proofs/";
/// Questions to the policy, with answers.
pub const DECISIONS: &str = "decisions/";
/// Rules and facts.
pub const POLICY: &str = "policy/";
/// Signed approvals by other people.
pub const APPROVALS: &str = "approvals/";
/// Signatures of artefacts.
pub const SIGNATURES: &str = "signatures/";
/// Reports of what nodes let out.
pub const CONFINEMENT: &str = "confinement/";
/// Public keys, for information.
pub const KEYS: &str = "keys/";

/// The verb of entries about a node's confinement.
pub const CONFINED: &str = "node.confined";
/// The verb of a checkpoint that was published.
pub const PUBLISHED: &str = "checkpoint.published";
/// The verb of what has left a run's directory.
pub const EXPORTED: &str = "artefact.exported";
/// The verb of what was packed to be carried elsewhere.
pub const SENT: &str = "artefact.sent";
/// The verb of a run's beginning.
pub const STARTED: &str = "run.started";
/// The verb of a run that goes on.
pub const RESUMED: &str = "run.resumed";
/// What verbs of decisions begin with.
pub const ASKED: &str = "policy.";

/// Does a claim rest on this entry, so that it has a proof of its own?
pub fn is_proven(entry: &Entry) -> bool {
    entry.decision.is_some() || [CONFINED, PUBLISHED, EXPORTED, SENT].contains(&entry.verb.as_str())
}

/// The proof of an entry.
pub fn proof(index: u64, verb: &str) -> String {
    format!("{PROOFS}{index:08}-{verb}.tlog-proof")
}

/// The question and the answer of an entry.
pub fn decision(index: u64) -> String {
    format!("{DECISIONS}{index:08}.json")
}

/// A name as part of a path: what is no letter, digit, `-`, `_` or `.` becomes `_`.
pub fn plain(name: &str) -> String {
    let kept: String = name.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' }).collect();
    if kept.is_empty() || kept.starts_with('.') { format!("_{kept}") } else { kept }
}

/// Names that are given out once each.
#[derive(Debug, Default)]
pub struct Taken {
    names: BTreeSet<String>,
    /// The next number of a name that was wanted before: a ledger of anybody's making may want one a million times.
    next: BTreeMap<String, u64>,
}

impl Taken {
    /// `wanted`, or the first of `wanted-2`, `wanted-3`, … that is not taken; now it is.
    pub fn free(&mut self, wanted: &str) -> String {
        let mut name = wanted.to_owned();
        while !self.names.insert(name.clone()) {
            let next = self.next.entry(wanted.to_owned()).or_insert(2);
            name = format!("{wanted}-{next}");
            *next = next.saturating_add(1);
        }
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_one_part_of_a_path() {
        assert_eq!(plain("node-1.site"), "node-1.site");
        assert_eq!([plain("../a"), plain(""), plain("a/b"), plain("é")], ["_.._a", "_", "a_b", "_"].map(str::to_owned));
        let mut taken = Taken::default();
        assert_eq!(["a-2", "a", "a", "a", "a-2"].map(|wanted| taken.free(wanted)), ["a-2", "a", "a-3", "a-4", "a-2-2"]);
    }
}
