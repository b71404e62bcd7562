//! Every level that this kernel offers, as root and as an ordinary user, measured by the canary; and that the canary can fail.
//!
//! Everything that is confined is a process of its own: `examples/confined.rs` and `examples/openings.rs`, which cargo builds
//! with the tests. What a machine lacks is not tested there, and each such test says so in one line.

mod canary;
mod levels;
mod openings;
mod place;
mod refusals;
