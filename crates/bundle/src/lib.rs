//! Bundles for sites without a network: artefacts and data go from one site to another in one signed file, on whatever a person carries.
//!
//! ```text
//! FILE.tar                     ustar, without times and owners: the same artefacts give the same bytes but for day and signature
//!   model.sig                  first: OpenSSF Model Signing over everything below, so that a reader knows what has to come
//!   bundle.json                what each part is, its labels and where it comes from, every file with size and SHA-256; who packed it, when,
//!                              for whom, for what                                                        Record
//!   parts/NAME[/…]             the files, in the order of their names
//!
//! DIR/                         what opening makes of it: the same files, and
//!   facts.toml                 the labels of what has no record of its own, for `[policy] facts`         facts
//! ```
//!
//! ```text
//!  Part::of ──► Admitted<SendOut, Part> ──► pack ──► FILE.tar ──► Bundle::open: every byte compared ──► incoming
//!                                                        DIR ◄── unpack ◄── Admitted<Import, Incoming> ◄────┘
//! ```
//!
//! Nothing is unpacked that was not verified and admitted, and nothing is packed that was not admitted: the types say so. A reader compares
//! every header with the one that `pack` would have written, so that there is one form of a bundle and no other.
//!
//! Nothing here prints, and nothing reads the environment or the clock.

mod error;
mod facts;
mod incoming;
mod names;
mod pack;
mod part;
mod pulse;
mod read;
mod record;
mod unpack;
mod walk;

pub use error::BundleError;
pub use facts::FACTS;
pub use incoming::Incoming;
pub use pack::{Cover, Packed, pack};
pub use part::Part;
pub use pulse::{Pulse, silent};
pub use read::Bundle;
pub use record::{FileRecord, Form, PartRecord, RECORD, Record};
