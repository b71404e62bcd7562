//! The gate where work is done: it was made under the demands of the place, and only it makes [`Admitted`].

use serde::Deserialize;
use thiserror::Error;

use crate::admitted::Admitted;
use crate::decision::Decision;
use crate::digest::Sha256Digest;
use crate::error::PolicyError;
use crate::gate::Gate;
use crate::request::Request;
use crate::source::Source;
use crate::tables::read;
use crate::verb::{Guarded, Verb};

/// What a place demands of every policy set that is used there.
///
/// It stands where the place is described, and never in the set: what a set says of itself falls with the set.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Demands {
    /// Does it take only sets that somebody signed whom it trusts?
    pub signed_policies: bool,
    /// The one set that it takes, by [`crate::PolicySet::digest`]. A signature does not say that a set is the newest; this does.
    pub policy_set: Option<Sha256Digest>,
    /// Where that stands, for messages.
    #[serde(skip)]
    pub said_in: String,
}

impl Demands {
    /// Reads a file of demands: `signed_policies = true` and `policy_set = "DIGEST"`, each of which may be left out.
    ///
    /// # Errors
    /// Text that is not TOML, an unknown key, a value of the wrong form.
    pub fn parse(source: &Source) -> Result<Demands, PolicyError> {
        let demands: Demands = read(source)?;
        Ok(Demands { said_in: source.name.clone(), ..demands })
    }

    /// Does a set with this digest and this signature answer to it?
    pub(crate) fn check(&self, digest: Sha256Digest, is_signed: bool) -> Result<(), NotTaken> {
        let said_in = || self.said_in.clone();
        if self.signed_policies && !is_signed {
            return Err(NotTaken::Unsigned { said_in: said_in() });
        }
        match self.policy_set {
            Some(expected) if expected != digest => Err(NotTaken::Other { said_in: said_in(), expected, found: digest }),
            _ => Ok(()),
        }
    }
}

/// Why a policy set is not taken at this place.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NotTaken {
    /// It has no signature that was verified.
    #[error(
        "{said_in} demands signed policies (signed_policies = true): found a set without a signature of a trusted key; \
         have those who answer for it sign its directory"
    )]
    Unsigned {
        /// Where the demand stands.
        said_in: String,
    },
    /// It is another set.
    #[error("{said_in} demands the policy set {expected}: found {found}")]
    Other {
        /// Where the demand stands.
        said_in: String,
        /// The set that is demanded.
        expected: Sha256Digest,
        /// The one at hand.
        found: Sha256Digest,
    },
}

/// The gate said no, said yes to a plan only, or was asked about something else.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{decision}")]
pub struct Refused {
    /// What it said.
    pub decision: Box<Decision>,
}

/// A gate whose set the place takes. Only [`crate::PolicySet::guard`] makes one.
///
/// ```
/// use sirocco_policy::{Admitted, Demands, Name, PolicySet, Request, Source, verb};
///
/// fn stage(data: Admitted<verb::Prepare, Name>) -> Name {
///     data.into_parts().0
/// }
///
/// let files = [Source::new("policy.cedar", "@id(\"all\")\npermit(principal, action, resource);"), Source::new("facts.toml", "")];
/// let set = PolicySet::parse(&files)?;
/// let guard = set.guard(&[])?;
/// let text = r#"{"who":"person:a","action":"prepare","artefact":"data:b","site":"s","day":"2026-11-22"}"#;
/// let request: Request = serde_json::from_str(text).expect("a request");
/// assert_eq!(stage(guard.admit(&request, request.artefact.clone())?), request.artefact);
///
/// let strict = Demands::parse(&Source::new("configs/sites/strict.toml", "signed_policies = true"))?;
/// assert!(set.guard(&[strict]).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Guard {
    gate: Gate,
}

impl Guard {
    pub(crate) fn new(gate: Gate) -> Guard {
        Guard { gate: gate.on_guard() }
    }

    /// The gate, to ask, to explain and to replay. It refuses what the guard refuses.
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Lets `thing` pass for the action `A` if what `request` says about it is allowed.
    ///
    /// # Errors
    /// The decision, if it is a refusal, rests on assumptions of a plan, or is about another action or another artefact than `thing`.
    pub fn admit<A: Verb, T: Guarded>(&self, request: &Request, thing: T) -> Result<Admitted<A, T>, Refused> {
        let mut decision = self.gate.ask(request);
        let mut faults = Vec::new();
        if request.planned {
            faults.push("a plan was asked about: expected what was measured where it is done".to_owned());
        }
        if request.action != A::ACTION {
            faults.push(format!("it was asked about {}: expected {}, which is what is to be done", request.action, A::ACTION));
        }
        if request.artefact != *thing.artefact() {
            let artefact = thing.artefact();
            faults.push(format!("it was asked about {}: expected {artefact}, which is what is at hand", request.artefact));
        }
        decision.allowed &= faults.is_empty();
        decision.faults.extend(faults);
        if decision.allowed { Ok(Admitted::new(thing, decision)) } else { Err(Refused { decision: Box::new(decision) }) }
    }
}
