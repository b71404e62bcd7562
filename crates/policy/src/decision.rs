//! A decision, with everything that is needed to explain it and to replay it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::digest::Sha256Digest;
use crate::labels::Labels;
use crate::name::Name;
use crate::request::{Action, Who};
use crate::set::Signer;
use crate::source::Place;

/// What a rule does where it applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// It allows, unless another rule forbids.
    Permit,
    /// It refuses, whatever other rules say.
    Forbid,
}

/// A rule that a decision rests on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleRef {
    /// Its `@id`.
    pub id: String,
    /// What it does.
    pub effect: Effect,
    /// Its `@advice`: what to do about it.
    pub advice: Option<String>,
    /// Where it stands.
    pub at: Place,
}

/// A fact that the rules of this decision read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fact {
    /// As rules write it, such as `resource.residency`.
    pub path: String,
    /// What it is about, such as `data:circulars` or `site:meluxina`.
    pub about: String,
    /// In words, such as `residency`.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// A fact that a rule needs and that nobody gave.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Missing {
    /// As rules write it, such as `resource.residency`.
    pub path: String,
    /// What it is about, such as `data:circulars`.
    pub about: String,
    /// In words, such as `residency`.
    pub name: String,
    /// Why it is not known.
    pub why: String,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} ({})", self.name, self.about, self.why)
    }
}

/// What a decision was made from. Same digests, same decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Digests {
    /// Of the schema and the rules.
    pub rules: Sha256Digest,
    /// Of the facts.
    pub facts: Sha256Digest,
    /// Of the request.
    pub request: Sha256Digest,
    /// Of the three above.
    pub all: Sha256Digest,
}

impl Digests {
    pub(crate) fn new(rules: Sha256Digest, facts: Sha256Digest, request: Sha256Digest) -> Digests {
        let all = Sha256Digest::of(format!("sirocco decision v1\n{rules}\n{facts}\n{request}\n").as_bytes());
        Digests { rules, facts, request, all }
    }
}

/// The answer of the gate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decision {
    /// Who asked.
    pub who: Who,
    /// What was to be done.
    pub action: Action,
    /// With what.
    pub artefact: Name,
    /// May it be done?
    pub allowed: bool,
    /// The rules that decided: those that permit, or those that forbid. None where nothing permits it.
    pub rules: Vec<RuleRef>,
    /// Rules that could not be evaluated for want of a fact; each is a refusal.
    pub unanswered: Vec<RuleRef>,
    /// Where no rule forbids it and none permits it: those that permit the action elsewhere.
    pub could_permit: Vec<RuleRef>,
    /// The facts that rules for this action read.
    pub facts: Vec<Fact>,
    /// The facts that they read in vain.
    pub missing: Vec<Missing>,
    /// What was assumed because this is a plan: to be measured before it is done.
    pub assumed: Vec<String>,
    /// What the artefact inherits: to be recorded with it, once it is made.
    pub labels: Labels,
    /// What is wrong with the request or with a rule as such; each is a refusal.
    pub faults: Vec<String>,
    /// What it was made from.
    pub digests: Digests,
    /// Whose signature the rules and the set's facts had.
    pub signed_by: Option<Signer>,
}

impl Decision {
    /// Every rule that has a part in it.
    pub fn rule_ids(&self) -> impl Iterator<Item = &str> {
        self.rules.iter().chain(&self.unanswered).map(|rule| rule.id.as_str())
    }

    /// The rules whose advice is of use: those that decided, or where nothing permits it those that could.
    pub fn to_heed(&self) -> impl Iterator<Item = &RuleRef> {
        self.rules.iter().chain(&self.unanswered).chain(&self.could_permit)
    }

    /// In words, why it is refused where no rule forbids it and no fact is missing.
    pub fn nothing_permits(&self) -> String {
        let could: Vec<&str> = self.could_permit.iter().map(|rule| rule.id.as_str()).collect();
        if could.is_empty() { "no rule permits it".to_owned() } else { format!("no rule permits it; {} could", could.join(", ")) }
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let answer = if self.allowed { "allowed" } else { "refused" };
        write!(f, "{} {} by {}: {answer}", self.action, self.artefact, self.who)?;
        let mut reasons: Vec<String> = self.faults.clone();
        reasons.extend(self.rules.iter().map(|rule| format!("rule {}", rule.id)));
        reasons.extend(self.missing.iter().map(|missing| format!("not known: {missing}")));
        reasons.extend(self.assumed.iter().map(|assumed| format!("assumed: {assumed}")));
        if reasons.is_empty() {
            reasons.push(self.nothing_permits());
        }
        write!(f, " ({})", reasons.join("; "))
    }
}
