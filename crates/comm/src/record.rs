//! What this process's collectives did: totals by name, and the newest of them one by one.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::{
    Event,
    entry::{Collective, Ends, Operation},
    membership::WORLD,
};

/// How many events that have ended are kept: a few steps of a large run. Those that have not are all kept.
const KEPT: usize = 4096;

/// Totals of one collective since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Traffic {
    /// How often it was called.
    pub calls: u64,
    /// Bytes of the results (for a reduction, of the buffer; for a gather, of all parts; for a message, of the message).
    pub bytes: u64,
    /// Seconds on the wire, from the first MPI call to completion, waiting for other ranks included; between devices, from beginning
    /// to end on this rank's device.
    pub seconds: f64,
    /// The part of `seconds` that passed before all ranks had entered; 0 between devices, where nobody knows.
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
    /// Whether devices move it.
    pub(crate) device: bool,
}

/// The record of one process: the wire and the watches of devices write, anybody reads.
#[derive(Debug)]
pub(crate) struct Record {
    start: Instant,
    state: Mutex<State>,
}

/// Events by number.
#[derive(Debug, Default)]
struct State {
    totals: BTreeMap<(&'static str, &'static str), Traffic>,
    next: u64,
    open: BTreeMap<u64, Event>,
    ended: BTreeMap<u64, Event>,
}

impl Record {
    pub(crate) fn new() -> Self {
        Record { start: Instant::now(), state: Mutex::default() }
    }

    /// Begins an event.
    pub(crate) fn submit(&self, asked: Asked) -> EventId {
        let event = asked.event(self.start.elapsed());
        let mut state = self.state();
        let id = state.number();
        state.open.insert(id.0, event);
        id
    }

    /// The wire, or the device, has come to it.
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
        self.count(id, bytes, None);
    }

    /// A device's operation has ended well, having taken `seconds` by the device's own clock: counts it.
    pub(crate) fn done_on_device(&self, id: EventId, seconds: f64) {
        self.count(id, 0, Some(seconds));
    }

    fn count(&self, id: EventId, bytes: u64, seconds: Option<f64>) {
        let now = self.start.elapsed();
        let mut state = self.state();
        let Some(mut event) = state.open.remove(&id.0) else { return };
        let bytes = if event.device { event.bytes } else { bytes };
        (event.done, event.bytes) = (Some(now), event.bytes.max(bytes));
        event.waits_for.clear();
        let entered = event.entered.unwrap_or(now);
        let waited = event.together.map_or(Duration::ZERO, |together| together.saturating_sub(entered));
        let total = state.totals.entry((event.group, event.name)).or_default();
        total.calls += 1;
        total.bytes += bytes;
        total.seconds += seconds.unwrap_or_else(|| now.saturating_sub(entered).as_secs_f64());
        total.waited += waited.as_secs_f64();
        state.keep(id, event);
    }

    /// It has ended in an error.
    pub(crate) fn failed(&self, id: EventId) {
        let now = self.start.elapsed();
        let mut state = self.state();
        let Some(mut event) = state.open.remove(&id.0) else { return };
        (event.done, event.failed) = (Some(now), true);
        state.keep(id, event);
    }

    /// An event that is done when it is asked for.
    pub(crate) fn at_once(&self, asked: Asked) {
        let now = self.start.elapsed();
        let mut event = asked.event(now);
        (event.entered, event.together, event.done) = (Some(now), Some(now), Some(now));
        let mut state = self.state();
        let total = state.totals.entry((asked.group, asked.name)).or_default();
        total.calls += 1;
        total.bytes += asked.bytes;
        let id = state.number();
        state.keep(id, event);
    }

    /// The totals by name; "group/name" for groups other than the world.
    pub(crate) fn traffic(&self) -> BTreeMap<String, Traffic> {
        let named = |(group, name): (&str, &str)| if group == WORLD { name.to_owned() } else { format!("{group}/{name}") };
        self.state().totals.iter().map(|(&key, &total)| (named(key), total)).collect()
    }

    /// The newest events, oldest first.
    pub(crate) fn history(&self) -> Vec<Event> {
        let seen = self.start.elapsed();
        let state = self.state();
        let all: BTreeMap<_, _> = state.open.iter().chain(&state.ended).collect();
        all.into_values().map(|event| Event { seen, ..event.clone() }).collect()
    }

    /// A collective between devices, whatever has become of it.
    pub(crate) fn on_device(&self, wanted: &Collective) -> Option<Event> {
        let seen = self.start.elapsed();
        let state = self.state();
        let is_it = |event: &&Event| event.device && event.is(wanted);
        let found = state.open.values().find(is_it).or_else(|| state.ended.values().rev().find(is_it));
        found.map(|event| Event { seen, ..event.clone() })
    }

    /// The oldest collective between devices that has not ended: what this rank's device is at.
    pub(crate) fn oldest_on_device(&self) -> Option<Event> {
        let seen = self.start.elapsed();
        self.state().open.values().find(|event| event.device).map(|event| Event { seen, ..event.clone() })
    }

    /// The collective between devices that was the last to end, and how long ago.
    pub(crate) fn last_on_device(&self) -> Option<(Collective, Duration)> {
        let now = self.start.elapsed();
        let state = self.state();
        let last = state.ended.values().filter(|event| event.device).max_by_key(|event| event.done)?;
        Some((last.collective(), now.saturating_sub(last.done?)))
    }

    fn change(&self, id: EventId, change: impl FnOnce(&mut Event)) {
        if let Some(event) = self.state().open.get_mut(&id.0) {
            change(event);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn number(&mut self) -> EventId {
        self.next += 1;
        EventId(self.next - 1)
    }

    /// Keeps an event that has ended, and as many others as there is room for.
    fn keep(&mut self, id: EventId, event: Event) {
        self.ended.insert(id.0, event);
        if self.ended.len() > KEPT {
            self.ended.pop_first();
        }
    }
}

impl Asked {
    fn event(self, submitted: Duration) -> Event {
        let Asked { group, name, operation, sequence, message, bytes, device } = self;
        Event {
            group,
            name,
            operation,
            sequence,
            message,
            device,
            bytes,
            submitted,
            entered: None,
            together: None,
            done: None,
            failed: false,
            waits_for: Vec::new(),
            seen: submitted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(group: &'static str, sequence: u64) -> Asked {
        Asked { group, name: "sum", operation: Operation::AllReduceF32, sequence, message: None, bytes: 8, device: false }
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
    fn of_what_has_ended_the_newest_are_kept_and_all_of_the_rest() {
        let record = Record::new();
        let first = record.submit(asked(WORLD, 0));
        (1..KEPT as u64 + 10).for_each(|sequence| record.at_once(asked(WORLD, sequence)));
        let history = record.history();
        assert_eq!((history.len(), history[0].sequence, history[0].done, history[1].sequence), (KEPT + 1, 0, None, 10));
        assert_eq!(history.last().unwrap().sequence, KEPT as u64 + 9);
        // However late it ends, it is counted.
        record.done(first, 8);
        assert_eq!(record.traffic()["sum"].calls, KEPT as u64 + 10);
        assert_eq!(record.history().len(), KEPT);
    }

    #[test]
    fn what_devices_do_is_told_apart_and_counted_by_their_clock() {
        let record = Record::new();
        let on_device = |sequence| Asked { device: true, ..asked("dp", sequence) };
        record.submit(asked("dp", 0));
        let (first, second) = (record.submit(on_device(0)), record.submit(on_device(1)));
        assert_eq!(record.oldest_on_device().map(|event| (event.sequence, event.device)), Some((0, true)));
        assert!(record.last_on_device().is_none());
        record.entered(first);
        record.done_on_device(first, 0.25);
        record.failed(second);
        let names = [on_device(0), on_device(1), on_device(2)].map(|asked| asked.event(Duration::ZERO).collective());
        let found = names.each_ref().map(|name| record.on_device(name).map(|event| (event.done.is_some(), event.failed)));
        assert_eq!(found, [Some((true, false)), Some((true, true)), None]);
        assert_eq!(record.last_on_device().map(|(last, _)| last), Some(names[1].clone()));
        assert!(record.oldest_on_device().is_none());
        assert_eq!(record.traffic()["dp/sum"], Traffic { calls: 1, bytes: 8, seconds: 0.25, waited: 0.0 });
    }
}
