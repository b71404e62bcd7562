//! The texts that decided, and the digests by which entries of a ledger name them.
//!
//! The digests are those of `crates/policy` (`rules.rs`, `facts.rs`, `digest.rs`), computed a second time here because that crate brings a
//! whole policy engine with it. A test compares both.

use std::collections::BTreeMap;
use std::path::Path;

use sirocco_files::BareDigest;

use crate::error::EvidenceError;
use crate::files::Files;
use crate::layout::POLICY;

/// What a user's own facts add to the digest of the facts.
const OWN: &str = "sirocco own facts v1";
const SCHEMA: &str = "schema.cedarschema";

/// The rules and facts of one version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyTexts {
    /// The schema of the program that decided.
    pub schema: String,
    /// The set's files, by name.
    pub set: BTreeMap<String, String>,
    /// What a user added, by name.
    pub own: BTreeMap<String, String>,
    /// Signatures of the set, by name.
    pub signed: BTreeMap<String, Vec<u8>>,
}

/// What entries name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolicyDigests {
    /// The schema and the rules: `decision.policy`.
    pub rules: BareDigest,
    /// The facts: the fact `facts`.
    pub facts: BareDigest,
}

impl PolicyTexts {
    /// The digests of the texts.
    pub fn digests(&self) -> PolicyDigests {
        let of = |wanted: &dyn Fn(&str) -> bool| of_texts(self.set.iter().filter(|(name, _)| wanted(name)).map(|(_, text)| text));
        let rules = format!("{}\n{}\n", BareDigest::of(self.schema.as_bytes()), of(&|name| name.ends_with(".cedar")));
        let mut facts = of(&|name| name.ends_with(".toml") && decides(name));
        if !self.own.is_empty() {
            facts = BareDigest::of(format!("{OWN}\n{facts}\n{}\n", of_texts(self.own.values())).as_bytes());
        }
        PolicyDigests { rules: BareDigest::of(rules.as_bytes()), facts }
    }

    /// As files of a bundle, version `number`.
    pub(crate) fn files(&self, number: usize) -> impl Iterator<Item = (String, Vec<u8>)> {
        let folder = format!("{POLICY}{number}/");
        let schema = (format!("{folder}{SCHEMA}"), self.schema.clone().into_bytes());
        let in_folder = |part: &str, texts: &BTreeMap<String, String>| -> Vec<(String, Vec<u8>)> {
            texts.iter().map(|(name, text)| (format!("{folder}{part}/{name}"), text.clone().into_bytes())).collect()
        };
        let (set, own) = (in_folder("set", &self.set), in_folder("own", &self.own));
        let signed = self.signed.iter().map(move |(name, bytes)| (format!("{folder}signed/{name}"), bytes.clone()));
        std::iter::once(schema).chain(set).chain(own).chain(signed)
    }

    /// Whether a file of a bundle is part of a version: the schema, rules and facts, a table of cases, a user's own facts, a signature.
    pub(crate) fn has_place_for(path: &str) -> bool {
        let rest = path.strip_prefix(POLICY).and_then(|path| path.split_once('/')).map(|(_, rest)| rest);
        rest.is_some_and(|rest| match rest.split_once('/') {
            None => rest == SCHEMA,
            Some(("set", name)) => name.ends_with(".cedar") || name.ends_with(".toml"),
            Some((part, _)) => part == "own" || part == "signed",
        })
    }

    /// Those that a run has kept (`RUN/policy/`), in the order of their digests.
    ///
    /// # Errors
    /// A directory that cannot be read; more than a bundle may have.
    pub fn kept(run: &Path) -> Result<Vec<PolicyTexts>, EvidenceError> {
        let folder = run.join(POLICY);
        if !folder.is_dir() {
            return Ok(Vec::new());
        }
        let files = Files::read(&folder)?.files.into_iter();
        // A hidden one was being written when somebody stopped the program.
        let files = files.filter(|(name, _)| !name.starts_with('.')).map(|(name, bytes)| (format!("{POLICY}{name}"), bytes));
        Ok(PolicyTexts::of_bundle(&files.collect()).into_values().collect())
    }

    /// Every version of a bundle, by its folder. What is no text counts as an empty one: then no digest is right.
    pub(crate) fn of_bundle(files: &BTreeMap<String, Vec<u8>>) -> BTreeMap<String, PolicyTexts> {
        let mut versions = BTreeMap::<String, PolicyTexts>::new();
        for (path, bytes) in files {
            let Some((version, rest)) = path.strip_prefix(POLICY).and_then(|path| path.split_once('/')) else { continue };
            let text = String::from_utf8(bytes.clone()).unwrap_or_default();
            let texts = versions.entry(format!("{POLICY}{version}")).or_default();
            match rest.split_once('/') {
                Some(("signed", name)) => drop(texts.signed.insert(name.to_owned(), bytes.clone())),
                None if rest == SCHEMA => texts.schema = text,
                Some(("set", name)) => drop(texts.set.insert(name.to_owned(), text)),
                Some(("own", name)) => drop(texts.own.insert(name.to_owned(), text)),
                _ => {}
            }
        }
        versions
    }
}

/// Whether a file of a set has a part in decisions: rules and facts have, tables of cases have none.
pub(crate) fn decides(name: &str) -> bool {
    let is_cases = name.rsplit('/').next() == Some("cases.toml") || name.ends_with(".cases.toml");
    (name.ends_with(".cedar") || name.ends_with(".toml")) && !is_cases
}

/// One digest for several texts: that of their digests in order, a line each.
fn of_texts<'a>(texts: impl Iterator<Item = &'a String>) -> BareDigest {
    let mut lines: Vec<String> = texts.map(|text| format!("{}\n", BareDigest::of(text.as_bytes()))).collect();
    lines.sort_unstable();
    BareDigest::of(lines.concat().as_bytes())
}

#[cfg(test)]
mod tests {
    use sirocco_policy::{PolicySet, SCHEMA, Source};

    use super::*;

    const RULE: &str = "@id(\"all\") permit(principal, action, resource);\n";

    #[test]
    fn the_digests_are_those_that_decisions_name() {
        let set = [("a.cedar", RULE), ("facts.toml", ""), ("more.toml", ""), ("cases.toml", "")];
        let own = "[data.letters]\npath = \"letters.jsonl\"\n";
        let sources = set.map(|(name, text)| Source::new(name, text));
        let parsed = PolicySet::parse(&sources).unwrap();
        let mut texts = PolicyTexts {
            schema: SCHEMA.to_owned(),
            set: set.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect(),
            ..PolicyTexts::default()
        };
        let expected =
            |set: &PolicySet| PolicyDigests { rules: *set.gate().rules().digest(), facts: *set.gate().facts().digest() };
        assert_eq!(texts.digests(), expected(&parsed));
        let parsed = parsed.with_own(&[Source::new("mine.toml", own)]).unwrap();
        texts.own.insert("mine.toml".to_owned(), own.to_owned());
        assert_eq!(texts.digests(), expected(&parsed));
    }

    #[test]
    fn a_version_is_read_back_from_its_files() {
        let texts = PolicyTexts {
            schema: "s".to_owned(),
            set: BTreeMap::from([("a.cedar".to_owned(), "a".to_owned())]),
            own: BTreeMap::from([("000-mine.toml".to_owned(), "m".to_owned())]),
            signed: BTreeMap::from([("0.sig".to_owned(), vec![0xff])]),
        };
        let files: BTreeMap<_, _> = texts.files(1).collect();
        assert!(files.keys().all(|name| PolicyTexts::has_place_for(name)));
        assert_eq!(PolicyTexts::of_bundle(&files), BTreeMap::from([("policy/1".to_owned(), texts)]));
    }
}
