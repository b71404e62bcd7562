//! Collectives: [`Solo`] and [`Mpi`] behind one trait, [`Communicator`], with handles that own their buffers until waited for.
//!
//! # What callers can rely on
//! - **Order.** Every rank calls the same collectives, with the same names, in the same order. Before any payload moves the ranks
//!   compare what they entered; a difference is [`CommError::Mismatch`] on every rank, not a hang and not mixed-up data.
//! - **Overlap.** A call hands its buffer to one thread per rank ("the wire"), which makes every MPI call, and returns at once.
//! - **Determinism.** A sum is `((x₀ + x₁) + x₂) + …` in rank order, computed once per element by one rank and then copied, so it
//!   is the same bits on every rank and in every run, whatever the message timing, the MPI library or the buffer length.
//! - **Failure.** A dead rank on this host, an exhausted timeout or an MPI error ends the collective with a typed error on every
//!   rank that can still be told. From then on every call returns that first error at once.
//!
//! # Ending
//! Dropping [`Mpi`] says goodbye to the others and finalises MPI. After an error it does not finalise (that would wait for ranks
//! that will not come): the program should exit with a status other than 0, or call [`Communicator::abort`].
//! This crate installs no signal handler; mpirun sends SIGTERM to the ranks that survive another one's death, and a program that
//! catches it can ask [`Communicator::dead_peers`] which rank died.

mod communicator;
mod entry;
mod error;
mod event;
mod group;
mod job;
mod link;
mod membership;
pub mod nccl;
mod peers;
mod record;
mod solo;
mod standing;
mod wire;

pub use communicator::{Communicator, Pending};
pub use entry::{Collective, Ends, Entry, Fingerprint, Operation};
pub use error::CommError;
pub use event::Event;
pub use group::{Mpi, Options};
pub use peers::{DeadPeer, Peer, Place, WhyDead};
pub use record::Traffic;
pub use solo::Solo;
pub use standing::{Standing, Wait};
