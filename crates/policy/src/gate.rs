//! The one decision point: every action asks it. Only a [`Guard`](crate::Guard) around it lets something pass.

use std::collections::BTreeSet;

use cedar_policy::{AuthorizationError, Authorizer, Response};
use thiserror::Error;

use crate::decision::{Decision, Digests, Effect, Fact, Missing, RuleRef};
use crate::facts::Facts;
use crate::labels::Labels;
use crate::request::Request;
use crate::rules::{Rule, Rules};
use crate::set::Signer;
use crate::world::World;

/// Rules and facts, ready to be asked.
///
/// Anybody can make one, with whatever rules: an answer is words. What admits is a [`Guard`](crate::Guard), which is made of a whole
/// [`PolicySet`](crate::PolicySet) under the demands of the place.
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
    signer: Option<Signer>,
    /// Does it refuse for want of a signature where the facts of a site demand one?
    on_guard: bool,
}

/// A recorded decision that does not come out again.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ReplayError {
    /// It was made from other rules, other facts or another request.
    #[error("{what}: the decision was made with {recorded}, here is {here}")]
    Digest {
        /// Rules, facts, request or the signer of the set.
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
        Gate { rules, facts, signer: None, on_guard: false }
    }

    /// The same of a set that somebody signed.
    pub(crate) fn signed_by(self, signer: Option<Signer>) -> Gate {
        Gate { signer, ..self }
    }

    /// The same where what it says is done.
    pub(crate) fn on_guard(self) -> Gate {
        Gate { on_guard: true, ..self }
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
        Gate { rules: self.rules.clone(), facts, signer: self.signer.clone(), on_guard: self.on_guard }
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
            could_permit: Vec::new(),
            facts: Vec::new(),
            missing: Vec::new(),
            assumed: Vec::new(),
            labels: Labels::default(),
            faults: Vec::new(),
            digests: Digests::new(*self.rules.digest(), *self.facts.digest(), request.digest()),
            signed_by: self.signer.clone(),
        };
        let demanded = self.facts.site(&request.site).is_some_and(|site| site.signed_policies);
        if self.on_guard && demanded && self.signer.is_none() {
            let fault = format!("site:{} takes only signed policies: found a set without a signature", request.site);
            decision.faults.push(fault);
        }
        match World::new(request, &self.facts) {
            Ok(world) => self.decide(request, world, &mut decision),
            Err(fault) => decision.faults.push(fault.to_string()),
        }
        decision
    }

    /// Does the recorded decision follow from this request, these rules and these facts?
    ///
    /// # Errors
    /// What is different.
    pub fn replay(&self, recorded: &Decision, request: &Request) -> Result<(), ReplayError> {
        let here = self.ask(request);
        let (theirs, ours) = (&recorded.digests, &here.digests);
        if recorded.signed_by != here.signed_by {
            let words = |signer: &Option<Signer>| signer.as_ref().map_or_else(|| "nobody".to_owned(), Signer::to_string);
            let (recorded, here) = (words(&recorded.signed_by), words(&here.signed_by));
            return Err(ReplayError::Digest { what: "signer of the set", recorded, here });
        }
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
        if !decision.allowed && decision.rules.is_empty() && decision.unanswered.is_empty() {
            let permits = about.iter().filter(|rule| rule.named.effect == Effect::Permit);
            decision.could_permit = permits.map(|rule| rule.named.clone()).collect();
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
    let places = moved.rules.iter_mut().zip(&recorded.rules);
    let places = places.chain(moved.unanswered.iter_mut().zip(&recorded.unanswered));
    for (ours, theirs) in places.chain(moved.could_permit.iter_mut().zip(&recorded.could_permit)) {
        ours.at = theirs.at.clone();
    }
    moved == *recorded
}
