//! A table of requests and the answers that are expected: the test of a ministry's rules, in TOML.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use toml::Spanned;

use crate::confinement::Confinement;
use crate::day::Day;
use crate::decision::Decision;
use crate::digest::Sha256Digest;
use crate::error::PolicyError;
use crate::gate::Gate;
use crate::labels::Labels;
use crate::name::Name;
use crate::request::{Action, Request, Who};
use crate::source::{Place, Source};
use crate::tables::read;

/// The answer that a case expects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Expected {
    /// It is allowed.
    Allow,
    /// It is refused.
    Deny,
}

/// One request and the answer that is expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// What it shows, in words.
    pub name: String,
    /// Where it stands.
    pub at: Place,
    /// The question.
    pub request: Request,
    /// The answer.
    pub expect: Expected,
    /// A rule that has to have a part in it, by its `@id`.
    pub rule: Option<String>,
    /// Facts that have to be missing, as `residency of data:circulars`.
    pub missing: BTreeSet<String>,
    /// What whoever asks describes in a file of their own.
    pub own_facts: Option<Source>,
}

/// A table of cases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cases {
    /// In the order of the file.
    pub cases: Vec<Case>,
}

/// What came of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome<'a> {
    /// The case.
    pub case: &'a Case,
    /// The gate's answer.
    pub decision: Decision,
    /// What is different from what was expected; none if the case passed.
    pub differences: Vec<String>,
}

/// `[usual]` or a `[[case]]`: what a case leaves out is as usual.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Entry {
    name: Option<String>,
    expect: Option<Expected>,
    rule: Option<String>,
    missing: BTreeSet<String>,
    who: Option<Who>,
    action: Option<Action>,
    artefact: Option<Name>,
    made: Option<BTreeMap<Name, BTreeSet<Name>>>,
    recorded: Option<BTreeMap<Name, Labels>>,
    verified_records: Option<BTreeSet<Name>>,
    digests: Option<BTreeMap<Name, Sha256Digest>>,
    paths: Option<BTreeMap<Name, String>>,
    site: Option<String>,
    node: Option<String>,
    confinement: Option<Confinement>,
    planned: Option<bool>,
    purpose: Option<String>,
    day: Option<Day>,
    approved_by: Option<BTreeSet<Who>>,
    recipients: Option<BTreeSet<String>>,
    /// The text of a file of the user's own.
    own_facts: Option<String>,
    /// Keys of `[usual]` that this case is without.
    without: BTreeSet<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    usual: Option<Spanned<Entry>>,
    #[serde(default)]
    case: Vec<Spanned<Entry>>,
}

impl Cases {
    /// Reads a table of cases.
    ///
    /// # Errors
    /// Text that is not TOML, an unknown key, a value of the wrong form, a case that is not complete.
    pub fn parse(source: &Source) -> Result<Cases, PolicyError> {
        let file: File = read(source)?;
        let usual = match &file.usual {
            None => Entry::default(),
            Some(usual) => {
                let entry = usual.get_ref();
                if entry.name.is_some() || entry.expect.is_some() || entry.rule.is_some() || !entry.missing.is_empty() {
                    let message = "[usual] holds name, expect, rule or missing: expected them in each [[case]]".to_owned();
                    return Err(PolicyError::Toml { at: source.place(usual.span().start), message });
                }
                entry.clone()
            }
        };
        let mut cases: Vec<Case> = Vec::with_capacity(file.case.len());
        for entry in file.case {
            let case = entry_to_case(&source.place(entry.span().start), entry.into_inner(), usual.clone())?;
            if let Some(first) = cases.iter().find(|other| other.name == case.name) {
                let message = format!(
                    "the name {:?} is that of the case at {}: expected a name of its own for every case",
                    case.name, first.at
                );
                return Err(PolicyError::Toml { at: case.at, message });
            }
            cases.push(case);
        }
        Ok(Cases { cases })
    }

    /// Asks the gate about every case.
    pub fn run<'a>(&'a self, gate: &Gate) -> Vec<Outcome<'a>> {
        self.cases.iter().map(|case| case.run(gate)).collect()
    }
}

impl Case {
    fn run(&self, gate: &Gate) -> Outcome<'_> {
        let mut differences = Vec::new();
        let own = self.own_facts.as_ref().map(|own| gate.facts().clone().with_own(std::slice::from_ref(own)));
        let decision = match own {
            None => gate.ask(&self.request),
            Some(Ok(facts)) => gate.with_facts(facts).ask(&self.request),
            Some(Err(error)) => {
                differences.push(error.to_string());
                gate.ask(&self.request)
            }
        };
        if decision.allowed != (self.expect == Expected::Allow) {
            let word = if decision.allowed { "allow" } else { "deny" };
            let expected = if self.expect == Expected::Allow { "allow" } else { "deny" };
            differences.push(format!("expected {expected}, found {word}: {decision}"));
        }
        if let Some(rule) = self.rule.as_ref().filter(|rule| decision.rule_ids().all(|id| id != *rule)) {
            let found: Vec<_> = decision.rule_ids().collect();
            let found = if found.is_empty() { "none".to_owned() } else { found.join(", ") };
            differences.push(format!("expected rule {rule}, found {found}"));
        }
        let missing: BTreeSet<String> = decision.missing.iter().map(|lack| format!("{} of {}", lack.name, lack.about)).collect();
        for lack in self.missing.difference(&missing) {
            differences.push(format!("expected that {lack} is missing, found {missing:?}"));
        }
        Outcome { case: self, decision, differences }
    }
}

fn entry_to_case(at: &Place, entry: Entry, mut usual: Entry) -> Result<Case, PolicyError> {
    let fault = |message: String| PolicyError::Toml { at: at.clone(), message };
    for key in &entry.without {
        leave_out(&mut usual, key).map_err(&fault)?;
    }
    let need =
        |what: &str, example: &str| fault(format!("this case has no {what}: expected {what} = {example}, here or in [usual]"));
    let request = Request {
        who: entry.who.or(usual.who).ok_or_else(|| need("who", "\"person:NAME\""))?,
        action: entry.action.or(usual.action).ok_or_else(|| need("action", "\"train\""))?,
        artefact: entry.artefact.or(usual.artefact).ok_or_else(|| need("artefact", "\"checkpoint:NAME\""))?,
        made: entry.made.or(usual.made).unwrap_or_default(),
        recorded: entry.recorded.or(usual.recorded).unwrap_or_default(),
        verified_records: entry.verified_records.or(usual.verified_records).unwrap_or_default(),
        digests: entry.digests.or(usual.digests).unwrap_or_default(),
        paths: entry.paths.or(usual.paths).unwrap_or_default(),
        places: BTreeMap::new(),
        site: entry.site.or(usual.site).ok_or_else(|| need("site", "\"NAME\""))?,
        node: entry.node.or(usual.node),
        confinement: entry.confinement.or(usual.confinement),
        planned: entry.planned.or(usual.planned).unwrap_or_default(),
        purpose: entry.purpose.or(usual.purpose),
        day: entry.day.or(usual.day).ok_or_else(|| need("day", "2026-11-22"))?,
        approved_by: entry.approved_by.or(usual.approved_by).unwrap_or_default(),
        recipients: entry.recipients.or(usual.recipients).unwrap_or_default(),
    };
    let named = |what: &str, example: &str| fault(format!("this case has no {what}: expected {what} = {example}"));
    Ok(Case {
        name: entry.name.filter(|name| !name.is_empty()).ok_or_else(|| named("name", "\"what it shows\""))?,
        request,
        expect: entry.expect.ok_or_else(|| named("expect", "\"allow\" or \"deny\""))?,
        rule: entry.rule,
        missing: entry.missing,
        own_facts: entry.own_facts.or(usual.own_facts).map(|text| Source::new(format!("own_facts at {at}"), text)),
        at: at.clone(),
    })
}

fn leave_out(usual: &mut Entry, key: &str) -> Result<(), String> {
    match key {
        "node" => usual.node = None,
        "confinement" => usual.confinement = None,
        "purpose" => usual.purpose = None,
        "made" => usual.made = None,
        "recorded" => usual.recorded = None,
        "verified_records" => usual.verified_records = None,
        "digests" => usual.digests = None,
        "paths" => usual.paths = None,
        "own_facts" => usual.own_facts = None,
        "approved_by" => usual.approved_by = None,
        "recipients" => usual.recipients = None,
        _ => {
            let expected = "node, confinement, purpose, made, recorded, verified_records, digests, paths, own_facts, approved_by or recipients";
            return Err(format!("without = [{key:?}]: expected {expected}"));
        }
    }
    Ok(())
}
