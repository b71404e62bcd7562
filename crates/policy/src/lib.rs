//! May this be done? A ministry's rules (Cedar) and facts (TOML) → decisions, and the only maker of [`Admitted`].
//!
//! Pure: texts come in with the names of their files, the day comes in with the request; nothing is opened, printed or asked of a clock.
//! Labels are inherited from data to endpoint, the strictest wins ([`Labels`]). What is not known is refused, by name ([`Missing`]).
//! A directory of rules, facts and cases is a [`PolicySet`], signed or not; under the demands of a place it becomes a [`Guard`], which admits.

mod admitted;
mod attributes;
mod bounds;
mod cases;
mod changes;
mod confinement;
mod country;
mod day;
mod decision;
mod digest;
mod error;
mod explain;
mod facts;
mod gate;
mod guard;
mod known;
mod labels;
mod lineage;
mod manifest;
mod name;
mod reads;
mod request;
mod rules;
mod set;
mod source;
mod tables;
pub mod verb;
mod world;
mod written;

pub use admitted::Admitted;
pub use cases::{Case, Cases, Expected, Outcome};
pub use changes::Change;
pub use confinement::Confinement;
pub use country::Country;
pub use day::Day;
pub use decision::{Decision, Digests, Effect, Fact, Missing, RuleRef};
pub use digest::Sha256Digest;
pub use error::PolicyError;
pub use explain::{ExplainedRule, Explanation, explain};
pub use facts::{Described, Facts, PrincipalFacts, Purpose, RecipientFacts, SiteFacts};
pub use gate::{Gate, ReplayError};
pub use guard::{Demands, Guard, NotTaken, Refused};
pub use labels::{Classification, Expiry, Labels, Licences, PersonalData, Purposes, Residency};
pub use manifest::{Manifest, ManifestError};
pub use name::{Kind, Name};
pub use request::{Action, Request, Who, WhoKind};
pub use rules::{Rule, Rules, SCHEMA};
pub use set::{PolicySet, SetError, Signature, Signer};
pub use source::{Place, Source};
pub use verb::{Guarded, Verb};
