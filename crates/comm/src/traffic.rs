//! What each collective moved and how long it took, by name.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// Totals of one collective since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Traffic {
    /// How often it was called.
    pub calls: u64,
    /// Bytes of the results (for a reduction, of the buffer; for a gather, of all parts).
    pub bytes: u64,
    /// Seconds on the wire, from the first MPI call to completion, waiting for other ranks included.
    pub seconds: f64,
    /// The part of `seconds` that passed before all ranks had entered.
    pub waited: f64,
}

/// The totals by name; the wire adds, anybody reads.
#[derive(Debug, Default)]
pub(crate) struct Meter(Mutex<BTreeMap<&'static str, Traffic>>);

impl Meter {
    /// Counts one call of `name`.
    pub(crate) fn add(&self, name: &'static str, bytes: usize, took: Duration, waited: Duration) {
        let mut totals = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let total = totals.entry(name).or_default();
        total.calls += 1;
        total.bytes += bytes as u64;
        total.seconds += took.as_secs_f64();
        total.waited += waited.as_secs_f64();
    }

    /// A copy of the totals.
    pub(crate) fn read(&self) -> BTreeMap<&'static str, Traffic> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
