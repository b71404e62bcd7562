//! What this process's collectives did: totals by name, and the newest of them one by one.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::{
    Event,
    entry::{Ends, Operation},
    membership::WORLD,
};

/// How many events are kept: a few steps of a large run.
const KEPT: usize = 4096;

/// Totals of one collective since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Traffic {
    /// How often it was called.
    pub calls: u64,
    /// Bytes of the results (for a reduction, of the buffer; for a gather, of all parts; for a message, of the message).
    pub bytes: u64,
    /// Seconds on the wire, from the first MPI call to completion, waiting for other ranks included.
    pub seconds: f64,
    /// The part of `seconds` that passed before all ranks had entered.
    pub waited: f64,
}

/// Which event: counted from the start of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EventId(u64);

/// What is known of an event when it is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) group: &'static str,
    pub(crate) name: &'static str,
    pub(crate) operation: Operation,
    pub(crate) sequence: u64,
    pub(crate) message: Option<Ends>,
    pub(crate) bytes: u64,
}

/// The record of one process: the wire writes, anybody reads.
#[derive(Debug)]
pub(crate) struct Record {
    start: Instant,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    totals: BTreeMap<(&'static str, &'static str), Traffic>,
    events: VecDeque<Event>,
    /// The number of the oldest event that is kept.
    oldest: u64,
}

impl Record {
    pub(crate) fn new() -> Self {
        Record { start: Instant::now(), state: Mutex::default() }
    }

    /// Begins an event.
    pub(crate) fn submit(&self, asked: Asked) -> EventId {
        let Asked { group, name, operation, sequence, message, bytes } = asked;
        let submitted = self.start.elapsed();
        let (entered, together, done, failed, waits_for) = (None, None, None, false, Vec::new());
        let event = Event {
            group,
            name,
            operation,
            sequence,
            message,
            bytes,
            submitted,
            entered,
            together,
            done,
            failed,
            waits_for,
            seen: submitted,
        };
        let mut state = self.state();
        if state.events.len() == KEPT {
            state.events.pop_front();
            state.oldest += 1;
        }
        state.events.push_back(event);
        EventId(state.oldest + state.events.len() as u64 - 1)
    }

    /// The wire has come to it.
    pub(crate) fn entered(&self, id: EventId) {
        let now = self.start.elapsed();
        self.change(id, |event| event.entered = Some(now));
    }

    /// All ranks have entered it.
    pub(crate) fn together(&self, id: EventId) {
        let now = self.start.elapsed();
        self.change(id, |event| {
            event.together.get_or_insert(now);
            event.waits_for.clear();
        });
    }

    /// It stands still because of these ranks.
    pub(crate) fn waits_for(&self, id: EventId, ranks: &[usize]) {
        self.change(id, |event| ranks.clone_into(&mut event.waits_for));
    }

    /// It has ended well, having moved `bytes`: counts it.
    pub(crate) fn done(&self, id: EventId, bytes: u64) {
        let now = self.start.elapsed();
        let mut state = self.state();
        let Some(event) = state.event(id) else { return };
        (event.done, event.bytes) = (Some(now), event.bytes.max(bytes));
        event.waits_for.clear();
        let entered = event.entered.unwrap_or(now);
        let waited = event.together.map_or(Duration::ZERO, |together| together.saturating_sub(entered));
        let key = (event.group, event.name);
        let total = state.totals.entry(key).or_default();
        total.calls += 1;
        total.bytes += bytes;
        total.seconds += now.saturating_sub(entered).as_secs_f64();
        total.waited += waited.as_secs_f64();
    }

    /// It has ended in an error.
    pub(crate) fn failed(&self, id: EventId) {
        let now = self.start.elapsed();
        self.change(id, |event| (event.done, event.failed) = (Some(now), true));
    }

    /// An event that is done when it is asked for.
    pub(crate) fn at_once(&self, asked: Asked) {
        let id = self.submit(asked);
        let submitted = self.change(id, |event| {
            (event.entered, event.together, event.done) = (Some(event.submitted), Some(event.submitted), Some(event.submitted));
        });
        debug_assert!(submitted, "the newest event is kept");
        let mut state = self.state();
        let total = state.totals.entry((asked.group, asked.name)).or_default();
        total.calls += 1;
        total.bytes += asked.bytes;
    }

    /// The totals by name; "group/name" for groups other than the world.
    pub(crate) fn traffic(&self) -> BTreeMap<String, Traffic> {
        let named = |(group, name): (&str, &str)| if group == WORLD { name.to_owned() } else { format!("{group}/{name}") };
        self.state().totals.iter().map(|(&key, &total)| (named(key), total)).collect()
    }

    /// The newest events, oldest first.
    pub(crate) fn history(&self) -> Vec<Event> {
        let seen = self.start.elapsed();
        self.state().events.iter().map(|event| Event { seen, ..event.clone() }).collect()
    }

    fn change(&self, id: EventId, change: impl FnOnce(&mut Event)) -> bool {
        self.state().event(id).map(change).is_some()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The event, unless it is too old to be kept.
    fn event(&mut self, id: EventId) -> Option<&mut Event> {
        let at = id.0.checked_sub(self.oldest)?;
        self.events.get_mut(usize::try_from(at).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(group: &'static str, sequence: u64) -> Asked {
        Asked { group, name: "sum", operation: Operation::AllReduceF32, sequence, message: None, bytes: 8 }
    }

    #[test]
    fn events_go_through_their_stages_and_are_counted_by_group_and_name() {
        let record = Record::new();
        let (id, other) = (record.submit(asked("dp", 0)), record.submit(asked(WORLD, 0)));
        assert_eq!(record.history()[0].entered, None);
        record.entered(id);
        record.waits_for(id, &[4]);
        assert_eq!(record.history()[0].waits_for, [4]);
        record.together(id);
        record.done(id, 8);
        let event = &record.history()[0];
        assert!(event.waits_for.is_empty() && !event.failed);
        assert!(event.submitted <= event.entered.unwrap() && event.entered <= event.together && event.together <= event.done);
        record.entered(other);
        record.failed(other);
        assert!(record.history()[1].failed);
        let traffic = record.traffic();
        assert_eq!((traffic.len(), traffic["dp/sum"].calls, traffic["dp/sum"].bytes), (1, 1, 8));
    }

    #[test]
    fn only_the_newest_events_are_kept() {
        let record = Record::new();
        let first = record.submit(asked(WORLD, 0));
        (1..KEPT as u64 + 10).for_each(|sequence| record.at_once(asked(WORLD, sequence)));
        record.done(first, 8);
        let history = record.history();
        assert_eq!((history.len(), history[0].sequence), (KEPT, 10));
        assert_eq!(history.last().unwrap().sequence, KEPT as u64 + 9);
        assert_eq!(record.traffic()["sum"].calls, KEPT as u64 + 9);
    }
}
