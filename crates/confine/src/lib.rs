//! A process kept from the network, and a measurement of how far. Linux on `x86_64` and `aarch64`.
//!
//! # How a program uses it
//!
//! A program that is to be confined is started by another one, or by itself once more, because a process cannot take variables
//! out of its own environment: `exec` with [`environment::clean`]. Then [`apply`] is the first thing that its `main` does, before
//! any thread: what it needs from outside is open by then (the listener of a server), and everything that it starts is confined
//! with it (mpirun, ranks, the threads of libtorch). What comes back is in force, is measured, and goes into the ledger and into
//! `--json` as it is; a [`Demand`] that cannot be met is an error that says what is possible, never a lower level in silence.
//!
//! ```no_run
//! use sirocco_confine::{Allowed, Demand, Gap, Level, Paths, Refused, apply};
//!
//! fn main() -> Result<(), Refused> {
//!     let paths = Paths { readable: vec!["/usr".into(), "data".into()], writable: vec!["runs/demo".into()] };
//!     let demand = Demand { least: Level::NetworkNamespace, ..Demand::best(Allowed::Nothing, Some(paths)) };
//!     let applied = apply(&demand)?;
//!     assert!(applied.level.number() >= 2 && !applied.gaps.contains(&Gap::Network));
//!     // The work, and its threads, from here on.
//!     Ok(())
//! }
//! ```
//!
//! Who starts it stays outside, and measures before the first step: [`canary::Canary::open`] opens listeners and shows by a helper
//! that is not confined that they can be reached; [`canary::Canary::measure`] confines a second helper in the same way and has it
//! attempt everything, or each rank makes the attempts of a plan of its own ([`canary::Inside::attempts`]). The helper is any
//! program that calls [`child::serve`]. [`child::probe`] asks what this kernel offers.
//!
//! The levels are numbered from 0 to 5, as a policy's `confinement` is: [`Level`]. The crate knows no other of the workspace,
//! prints nothing, reads no variable's value, and has no unsafe code; `docs/confinement.md` shows the ladder.

#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
compile_error!("the system calls of this crate are those of 64-bit Linux");

mod apply;
pub mod canary;
pub mod child;
mod domain;
pub mod environment;
mod error;
pub mod hosts;
mod inherited;
mod level;
mod namespace;
mod paths;
mod peer;
mod probe;
mod rdma;
mod seccomp;
#[cfg(test)]
mod testing;
mod usual;
pub mod witness;

pub use apply::{Applied, Demand, Mechanism, apply, network};
pub use domain::Domain;
pub use error::Refused;
pub use level::{Allowed, Connects, Gap, Level};
pub use namespace::Namespace;
pub use paths::Paths;
pub use probe::Offer;
pub use seccomp::CLOSED;
