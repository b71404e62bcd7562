//! A process kept from the network, and a measurement of how far. Linux on `x86_64` and `aarch64`.
//!
//! [`apply`] confines the calling process to a [`Wish`] with what the kernel has, and says what is in force; a [`Demand`] that
//! cannot be met is an error that names what is possible, never a lower rung in silence. [`canary::measure`] tries from inside to
//! reach listeners outside, by every way that it knows, and reports each attempt. [`child::probe`] asks what this kernel offers.
//! [`environment`] sorts out variables that lead away.
//!
//! The crate knows no other of the workspace, prints nothing, reads no environment, and has no unsafe code; `docs/confinement.md`
//! shows the ladder.

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
mod probe;
mod seccomp;

pub use apply::{Applied, Demand, apply, network};
pub use domain::{Domain, Paths};
pub use error::Refused;
pub use level::{Connects, Gap, Level, Wish};
pub use namespace::Namespace;
pub use probe::Offer;
pub use seccomp::CLOSED;
