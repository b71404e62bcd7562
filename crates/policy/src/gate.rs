//! The one decision point: every action asks it, and only it makes [`Admitted`].

use std::collections::BTreeSet;

use cedar_policy::{AuthorizationError, Authorizer, Response};
use thiserror::Error;

use crate::admitted::Admitted;
use crate::decision::{Decision, Digests, Fact, Missing, RuleRef};
use crate::facts::Facts;
use crate::labels::Labels;
use crate::request::Request;
use crate::rules::{Rule, Rules};
use crate::world::World;

/// Rules and facts, ready to be asked.
///
/// ```
/// use sirocco_policy::{Facts, Gate, Rules, Source};
///
/// let rules = "@id(\"at-home\")\npermit(principal, action, resource) when { context.site.country == \"LU\" };";
/// let facts = "[site.bissen]\ncountry = \"LU\"\n[site.elsewhere]\ncountry = \"DE\"\n";
/// let gate = Gate::new(Rules::parse(&[Source::new("policy.cedar", rules)])?, Facts::parse(&[Source::new("facts.toml", facts)])?);
/// let request = |site: &str| {
///     let text = format!(r#"{{"who":"person:a","action":"prepare","artefact":"data:b","site":"{site}","day":"2026-11-22"}}"#);
///     serde_json::from_str(&text).expect("a request")
/// };
/// assert!(gate.ask(&request("bissen")).allowed);
/// assert!(!gate.ask(&request("elsewhere")).allowed);
/// assert_eq!(gate.ask(&request("nowhere")).missing[0].about, "site:nowhere");
/// # Ok::<(), sirocco_policy::PolicyError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Gate {
    rules: Rules,
    facts: Facts,
}

/// The gate said no, or said yes to a plan only.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{decision}")]
pub struct Refused {
    /// What it said.
    pub decision: Box<Decision>,
}

/// A recorded decision that does not come out again.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ReplayError {
    /// It was made from other rules, other facts or another request.
    #[error("{what}: the decision was made with {recorded}, here is {here}")]
    Digest {
        /// Rules, facts or request.
        what: &'static str,
        /// The recorded digest.
        recorded: String,
        /// The digest here.
        here: String,
    },
    /// The same rules, facts and request give another answer: the record was changed, or the program was.
    #[error("from the same rules, facts and request follows another decision: {here}")]
    Differs {
        /// What follows here.
        here: Box<Decision>,
    },
}

impl Gate {
    /// A gate with these rules and facts.
    pub fn new(rules: Rules, facts: Facts) -> Gate {
        Gate { rules, facts }
    }

    /// Its rules.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Its facts.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// The same rules with other facts.
    pub fn with_facts(&self, facts: Facts) -> Gate {
        Gate { rules: self.rules.clone(), facts }
    }

    /// May this be done? Always an answer: what cannot be decided is refused, and the answer says why.
    pub fn ask(&self, request: &Request) -> Decision {
        let mut decision = Decision {
            who: request.who.clone(),
            action: request.action,
            artefact: request.artefact.clone(),
            allowed: false,
            rules: Vec::new(),
            unanswered: Vec::new(),
            facts: Vec::new(),
            missing: Vec::new(),
            assumed: Vec::new(),
            labels: Labels::default(),
            faults: Vec::new(),
            digests: Digests::new(*self.rules.digest(), *self.facts.digest(), request.digest()),
        };
        match World::new(request, &self.facts) {
            Ok(world) => self.decide(request, world, &mut decision),
            Err(fault) => decision.faults.push(fault.to_string()),
        }
        decision
    }

    /// Lets `thing` pass if what `request` says about it is allowed.
    ///
    /// # Errors
    /// The decision, if it is a refusal, or if it rests on assumptions of a plan.
    pub fn admit<T>(&self, request: &Request, thing: T) -> Result<Admitted<T>, Refused> {
        let mut decision = self.ask(request);
        if request.planned {
            decision.faults.push("a plan was asked about: expected what was measured where it is done".to_owned());
            decision.allowed = false;
        }
        if decision.allowed { Ok(Admitted::new(thing, decision)) } else { Err(Refused { decision: Box::new(decision) }) }
    }

    /// Does the recorded decision follow from this request, these rules and these facts?
    ///
    /// # Errors
    /// What is different.
    pub fn replay(&self, recorded: &Decision, request: &Request) -> Result<(), ReplayError> {
        let here = self.ask(request);
        let (theirs, ours) = (&recorded.digests, &here.digests);
        for (what, recorded, here) in
            [("rules", theirs.rules, ours.rules), ("facts", theirs.facts, ours.facts), ("request", theirs.request, ours.request)]
        {
            if recorded != here {
                return Err(ReplayError::Digest { what, recorded: recorded.to_string(), here: here.to_string() });
            }
        }
        if same(recorded, &here) { Ok(()) } else { Err(ReplayError::Differs { here: Box::new(here) }) }
    }

    fn decide(&self, request: &Request, world: World, decision: &mut Decision) {
        let response = Authorizer::new().is_authorized(&world.request, &self.rules.set, &world.entities);
        let about: Vec<&Rule> = self.rules.iter().filter(|rule| rule.actions.contains(&request.action)).collect();
        let unanswered = self.unanswered(&response);
        let mut missing = BTreeSet::new();
        for (rule, message) in &unanswered {
            let lacking: Vec<Missing> = world.missing.iter().filter(|lack| rule.reads.reads(&lack.path)).cloned().collect();
            if lacking.is_empty() {
                decision.faults.push(format!("rule {} cannot be evaluated: {message}", rule.named.id));
            }
            missing.extend(lacking);
        }
        decision.unanswered = unanswered.iter().map(|(rule, _)| rule.named.clone()).collect();
        if !world.unknown_lineage.is_empty() {
            // Cedar would take "made from nothing" for an answer.
            let asks = about.iter().filter(|rule| rule.reads.lineage);
            for rule in asks {
                missing.extend(world.unknown_lineage.iter().cloned());
                decision.unanswered.push(rule.named.clone());
            }
        }
        decision.unanswered.sort_by(|a, b| a.id.cmp(&b.id));
        decision.unanswered.dedup();
        decision.missing = missing.into_iter().collect();
        let sure = decision.unanswered.is_empty() && decision.faults.is_empty();
        decision.allowed = sure && response.decision() == cedar_policy::Decision::Allow;
        // A permit decides nothing where another rule could not be evaluated.
        if decision.allowed || response.decision() == cedar_policy::Decision::Deny {
            decision.rules = self.determining(&response);
        }
        let read = |fact: &Fact| about.iter().any(|rule| rule.reads.reads(&fact.path));
        decision.facts = world.facts.into_iter().filter(read).collect();
        decision.facts.sort();
        decision.facts.dedup();
        decision.assumed = world.assumed;
        decision.labels = world.labels;
    }

    fn determining(&self, response: &Response) -> Vec<RuleRef> {
        let ids: BTreeSet<&str> = response.diagnostics().reason().map(AsRef::as_ref).collect();
        ids.into_iter().filter_map(|id| self.rules.get(id)).map(|rule| rule.named.clone()).collect()
    }

    /// Rules whose evaluation failed. Cedar skips them; here each is a refusal.
    fn unanswered(&self, response: &Response) -> Vec<(&Rule, String)> {
        let errors = response.diagnostics().errors();
        let failed = errors.filter_map(|error| match error {
            AuthorizationError::PolicyEvaluationError(error) => {
                Some((self.rules.get(error.policy_id().as_ref())?, error.inner().to_string()))
            }
        });
        failed.collect()
    }
}

/// Equal, wherever the rules' files lie.
fn same(recorded: &Decision, here: &Decision) -> bool {
    let mut moved = here.clone();
    for (ours, theirs) in moved.rules.iter_mut().zip(&recorded.rules).chain(moved.unanswered.iter_mut().zip(&recorded.unanswered))
    {
        ours.at = theirs.at.clone();
    }
    moved == *recorded
}
