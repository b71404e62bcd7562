//! Evidence bundles: one directory, or one tar file, from which somebody who has nothing of Sirocco but `sirocco-verify` and the public keys
//! of those whom they trust can see what was done in a run, who allowed it, and that nothing of the record was changed since.
//!
//! ```text
//! BUNDLE/
//!   index.html            for people; nothing rests on it
//!   evidence.json         what is here, and by which files each claim is supported           record
//!   ledger/               the run's ledger as it was sealed: checkpoint and tiles             check::ledger
//!   proofs/N-VERB.tlog-proof    one for each entry that a claim rests on                      check::proofs
//!   decisions/N.json      what the policy was asked and what it said, out of the entries      check::decisions
//!   policy/V/             the rules and facts that decided: schema, set/, own/                check::decisions
//!   signatures/NAME/      model.sig, provenance.intoto.jsonl and origin.json of an artefact   check::artefacts
//!   confinement/HOST.json the attempts to get out of a node, and what became of them          check::confinement
//!   keys/                 public keys, to be compared with those that are trusted: never trusted for lying here
//!   model.sig             a signature over all other files                                    check::signature
//! ```
//!
//! Everything but the weights is small, so a bundle is held in memory. Nothing here prints, and nothing reads the environment or the clock.

pub mod check;
mod entries;
mod error;
mod files;
mod gather;
pub mod layout;
mod policy;
mod proof;
mod record;
mod tar;
mod trusted;
mod write;

pub use check::{Check, Demand, Finding, Report, State, verify};
pub use entries::{Numbered, sealed};
pub use error::EvidenceError;
pub use files::{Files, Odd};
pub use gather::{Gathered, Parts, approvals};
pub use policy::{PolicyDigests, PolicyTexts};
pub use proof::{Proven, proven};
pub use record::{Artefact, Claim, Node, RECORD_VERSION, Record, Ruling, Summary};
pub use trusted::{Trusted, read_checkpoint};
