//! What every program does around an action: ask the policy, record it in the ledger, sign or verify what comes of it.
//!
//! The libraries below know nothing of each other: [`sirocco_policy`] decides, [`sirocco_ledger`] remembers, [`sirocco_signing`] signs.
//! Here they meet, once, so that no program can do one of the three and forget the others.
//!
//! ```text
//!  a program's verb ──► Custody::admit ──► policy: Admitted<Verb, T> or Refused
//!                            │                        │
//!                            └──► Book: an entry ◄────┘      what was decided, also when it was refused
//!  what came of it ──► artefact::publish ──► origin.json, provenance.intoto.jsonl, model.sig
//!  what is used    ──► artefact::verified ──► its lineage, for the next question
//! ```
//!
//! This crate reads files and the clock, prints nothing and reads no environment.

mod account;
pub mod approvals;
pub mod artefact;
mod beforehand;
mod book;
mod custody;
mod error;
mod history;
mod keys;
mod lineage;
mod set;
pub mod settled;
mod statement;
mod texts;
pub mod trust;

pub use account::{Account, host, kernel, log_name};
pub use beforehand::Naming;
pub use book::{Book, Deed};
pub use custody::{Custody, Question, Settings, today};
pub use error::{Class, CustodyError};
pub use history::{CHECKPOINT_PUBLISHED, DATA_PREPARED, History, Published, RUN_STARTED, tokens_of};
pub use keys::Keys;
pub use lineage::{Lineage, Origin};
pub use set::{MACHINE, ReadSet};
pub use statement::Statement;
pub use texts::TEXTS;
