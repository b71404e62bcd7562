//! Collectives and messages between ranks: [`Solo`] and [`Mpi`] behind one trait, [`Communicator`], with handles that own their buffers
//! until waited for; and, between CUDA devices, [`nccl`].
//!
//! # What callers can rely on
//! - **Groups.** [`Communicator::group`] makes a group of any ranks of the job, without communication. A rank may be in many groups;
//!   they share one MPI communicator, and a group of one is [`Solo`].
//! - **Order.** Every rank of a group calls the same collectives, with the same names, in the same order. Before any payload moves the
//!   ranks compare what they entered, the group and its members included; a difference is [`CommError::Mismatch`] on every rank, not a
//!   hang and not mixed-up data. A rank's calls on different groups run in the order submitted, so that order, too, must fit that of
//!   the ranks it shares groups with.
//! - **Overlap.** A call hands its buffer to one thread per rank ("the wire"), which makes every MPI call, and returns at once.
//! - **Messages.** [`Communicator::send_bytes`] waits for nobody and holds nothing up: what is not received yet lies in an outbox.
//!   Waiting for a send gives MPI's error where it could not be sent. [`Communicator::receive_bytes`] holds up what is submitted after
//!   it. Messages between two ranks arrive in the order sent, each with a header whose name, group and number must be those expected.
//! - **Determinism.** A sum is `((x₀ + x₁) + x₂) + …` in rank order, computed once per element by one rank and then copied, so it
//!   is the same bits on every rank and in every run, whatever the message timing, the MPI library or the buffer length. Sums of `bf16`
//!   are fp32 and rounded once.
//! - **Failure.** A dead rank on this host, an exhausted timeout or an MPI error ends the collective with a typed error on every
//!   rank of the job that can still be told, whichever groups it is in. From then on every call returns that first error at once.
//! - **Time-outs** name who hangs. A rank that has waited in vain asks those it waits for what they are doing, then those that these
//!   wait for; the error names the ranks that wait for nobody, what waits for them, and what they do instead ([`Standing`]).
//!   A device that waits in vain has its ranks asked in the same way.
//! - **Traces.** [`Communicator::history`] has the newest collectives and messages one by one, also while one of them is stuck, whether
//!   hosts or devices move them; [`Communicator::traffic`] has the totals.
//!
//! # How it is built
//! A collective begins with a roll call: the first rank of the group compares what all ranks entered. Small payloads ride on it (one
//! round trip in all). Large ones follow in segments, straight from buffer to buffer; sums are formed in equal parts, one per rank, while
//! the segments before and after are under way. Messages of all kinds are matched by sender and kind in order; a wire that waits or has
//! nothing to do looks after its outbox, hears errors that other ranks report and answers their questions.
//!
//! # Ending
//! Dropping the last group of a process ([`Mpi`] is one) delivers what was sent, says goodbye to the others and finalises MPI. After an
//! error it does not finalise (that would wait for ranks that will not come): the program should exit with a status other than 0, or call
//! [`Communicator::abort`].
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

pub use communicator::{Communicator, Pending, stood_still};
pub use entry::{Collective, Ends, Entry, Fingerprint, Operation};
pub use error::CommError;
pub use event::Event;
pub use group::{Mpi, Options};
pub use job::JobHandle;
pub use peers::{DeadPeer, Peer, Place, WhyDead};
pub use record::Traffic;
pub use solo::Solo;
pub use standing::{Standing, Wait};
