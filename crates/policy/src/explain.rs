//! Why a decision is as it is, and the smallest single change that turns it.

use serde::Serialize;

use crate::changes::{Change, candidates};
use crate::decision::{Decision, Fact, Missing, RuleRef};
use crate::error::PolicyError;
use crate::gate::Gate;
use crate::request::Request;

/// A decision taken apart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The decision.
    pub decision: Decision,
    /// The rules that have a part in it, with their text and what they read.
    pub rules: Vec<ExplainedRule>,
    /// Single changes that turn the answer, the smallest first. Empty: no single change does.
    pub changes: Vec<Change>,
    /// What is wrong with the request as such; then nothing was tried.
    pub fault: Option<String>,
}

/// A rule that has a part in a decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExplainedRule {
    /// Name, effect, advice and place.
    pub rule: RuleRef,
    /// Its `@source`.
    pub source: Option<String>,
    /// Its text.
    pub text: String,
    /// The facts that it reads.
    pub facts: Vec<Fact>,
    /// The facts that it reads in vain.
    pub missing: Vec<Missing>,
}

/// Asks the gate, and then asks it again after each single change of the request or of a fact.
pub fn explain(gate: &Gate, request: &Request) -> Explanation {
    let decision = gate.ask(request);
    let tried = turns(gate, request, decision.allowed);
    let rules = decision.rules.iter().chain(&decision.unanswered).filter_map(|named| {
        let rule = gate.rules().get(&named.id)?;
        Some(ExplainedRule {
            rule: named.clone(),
            source: rule.source.clone(),
            text: rule.text.clone(),
            facts: decision.facts.iter().filter(|fact| rule.reads.reads(&fact.path)).cloned().collect(),
            missing: decision.missing.iter().filter(|lack| rule.reads.lacks(&lack.path)).cloned().collect(),
        })
    });
    Explanation {
        rules: rules.collect(),
        fault: tried.as_ref().err().map(PolicyError::to_string),
        changes: tried.unwrap_or_default(),
        decision,
    }
}

/// Every single change after which the answer is the other one; of those that differ only in how far they go, the nearest.
fn turns(gate: &Gate, request: &Request, allowed: bool) -> Result<Vec<Change>, PolicyError> {
    let mut turning: Vec<(Change, String)> = Vec::new();
    for candidate in candidates(gate.facts(), request)? {
        if turning.iter().any(|(_, subject)| *subject == candidate.subject) {
            continue;
        }
        let decision = match candidate.facts {
            Some(facts) => gate.with_facts(facts).ask(&candidate.request),
            None => gate.ask(&candidate.request),
        };
        if decision.allowed != allowed {
            turning.push((candidate.change, candidate.subject));
        }
    }
    Ok(turning.into_iter().map(|(change, _)| change).collect())
}
