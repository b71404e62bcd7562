//! What a wire owes to the others beside its collectives: answers to what they ask, and a word when it leaves.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    time::{Duration, Instant},
};

use super::{
    Tag, Wire,
    call::{Call, Trouble},
    fitting::fitting,
    raw::{Failure, Message},
};
use crate::{
    CommError, Event,
    entry::{Collective, Operation},
    standing::{Standing, Wait},
};

/// How long an answer may take before the rank counts as silent.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_millis(1500);
/// Room for a question, an answer or a farewell.
pub(super) const NOTE_MAX: usize = 4096;
/// Most ranks that a wait names.
const NAMED: usize = 256;
/// A rank that has not moved for this long (or a quarter of the timeout) waits; before that it gets on.
const WAITS_AFTER: Duration = Duration::from_secs(1);
/// How long a rank that leaves waits for the others before it says so to everybody.
const FAREWELL_AFTER: Duration = Duration::from_secs(1);
/// How long a rank that has left tries to complete what it has sent beside its collectives.
const CLEAR_WITHIN: Duration = Duration::from_millis(300);

/// What a wire has heard from and owes to the others beside its collectives.
pub(super) struct Watch {
    /// When it last looked.
    pub(super) looked: Cell<Instant>,
    /// The last collective or message, and when it ended.
    last: RefCell<Option<(Call, Instant)>>,
    /// Questions, answers, notes and farewells on their way out.
    outgoing: RefCell<Vec<Message>>,
    /// The ranks that have left.
    left: RefCell<BTreeSet<usize>>,
    farewell_said: Cell<bool>,
    started: Instant,
}

impl Watch {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Watch {
            looked: Cell::new(now),
            last: RefCell::default(),
            outgoing: RefCell::default(),
            left: RefCell::default(),
            farewell_said: Cell::new(false),
            started: now,
        }
    }

    /// Remembers `call` as the last one.
    pub(super) fn ended(&self, call: Call) {
        *self.last.borrow_mut() = Some((call, Instant::now()));
    }
}

impl Wire {
    /// What this rank does while nothing has moved in `call` for as long as `still`.
    pub(super) fn standing(&self, call: &Call, still: Duration, missing: Vec<usize>) -> Standing {
        if still < WAITS_AFTER.min(self.timeout / 4) {
            return Standing::Busy { collective: call.collective() };
        }
        Standing::Waiting(own_wait(call, missing))
    }

    /// What this rank does while its wire has nothing to do: its device may have.
    fn standing_idle(&self) -> Standing {
        if let Some(event) = self.shared.record.oldest_on_device() {
            return standing_of_device(&event);
        }
        let of_wire = self.watch.last.borrow().as_ref().map(|(call, ended)| (call.collective(), ended.elapsed()));
        let of_device = self.shared.record.last_on_device();
        let newest = of_wire.into_iter().chain(of_device).min_by_key(|(_, since)| *since);
        let (last, since) = newest.map_or((None, self.watch.started.elapsed()), |(last, since)| (Some(last), since));
        Standing::Idle { last, seconds: since.as_secs_f64() }
    }

    /// What this rank has to say of a collective between devices; `None` if it has not entered it, or it is none.
    fn standing_in(&self, asked: &Collective) -> Option<Standing> {
        let record = &self.shared.record;
        let event = record.on_device(asked)?;
        Some(match (event.entered, event.done) {
            (_, Some(_)) => Standing::Past { collective: asked.clone() },
            (Some(_), None) => Standing::Waiting(wait_of_device(&event)),
            // The device may wait in one before it.
            (None, None) => record.oldest_on_device().map_or(Standing::Queued { collective: asked.clone() }, |oldest| {
                if oldest.is(asked) { Standing::Queued { collective: asked.clone() } } else { standing_of_device(&oldest) }
            }),
        })
    }

    /// Answers the ranks that ask what this one does; `None`: nothing.
    pub(super) fn answer(&self, standing: Option<&dyn Fn() -> Standing>) -> Result<(), Failure> {
        let mut outgoing = self.watch.outgoing.borrow_mut();
        for message in outgoing.iter_mut() {
            message.poll()?;
        }
        outgoing.retain(|message| !message.is_done());
        while let Some((from, text)) = self.take_message(Tag::Ask)? {
            let asked: Option<Collective> = serde_json::from_slice(&text).ok();
            let at_large = || standing.map_or_else(|| self.standing_idle(), |standing| standing());
            let standing = asked.and_then(|asked| self.standing_in(&asked)).unwrap_or_else(at_large);
            outgoing.push(self.world.send_bytes(fitting(&standing, NOTE_MAX), from, Tag::Answer)?);
        }
        Ok(())
    }

    /// Asks `rank` what it does in `collective`, or else at large.
    pub(super) fn ask(&self, rank: usize, collective: &Collective) -> Result<(), Failure> {
        let question = self.world.send_bytes(fitting(collective, NOTE_MAX), rank, Tag::Ask)?;
        self.watch.outgoing.borrow_mut().push(question);
        Ok(())
    }

    /// Ends `call` if one of the ranks that it waits for has left.
    pub(super) fn heed_farewells(&self, call: &Call, missing: &[usize]) -> Result<(), Trouble> {
        let failed = |failure| call.failed(failure);
        while let Some((from, _)) = self.take_message(Tag::Farewell).map_err(failed)? {
            self.watch.left.borrow_mut().insert(from);
        }
        let left = self.watch.left.borrow();
        match missing.iter().find(|&rank| left.contains(rank)) {
            // Whoever leaves waits for the others to leave, but not for those to receive something that have left.
            Some(&rank) if call.operation != Operation::Leave || !self.outbox.borrow().is_empty() => {
                Err(Trouble::own(CommError::Left { rank, waiting: self.world.rank, collective: call.collective() }))
            }
            _ => Ok(()),
        }
    }

    /// A rank that leaves and has waited for a while tells all others, which may wait for it in a group that the first rank is not in.
    pub(super) fn say_farewell(&self, call: &Call) -> Result<(), Failure> {
        // What it has sent comes first.
        let leaving = call.operation == Operation::Leave && self.outbox.borrow().is_empty();
        if leaving && call.started.elapsed() >= FAREWELL_AFTER && !self.watch.farewell_said.replace(true) {
            for rank in self.everybody.others() {
                self.watch.outgoing.borrow_mut().push(self.world.send_bytes(vec![0], rank, Tag::Farewell)?);
            }
        }
        Ok(())
    }

    /// Looks after messages that their sender does not wait for.
    pub(super) fn see_off(&self, messages: impl Iterator<Item = Message>) {
        self.watch.outgoing.borrow_mut().extend(messages);
    }

    /// All ranks have left: completes what went to and fro beside the collectives, so that MPI is finalised with nothing under way.
    /// Farewells are all there is by then; one that fails is missed by nobody.
    pub(super) fn clear_away(&self) {
        let mut outgoing = self.watch.outgoing.take();
        while let Ok(Some(_)) = self.take_message(Tag::Farewell) {}
        self.within(CLEAR_WITHIN, &mut outgoing);
    }

    /// A short message that has arrived, and from whom.
    pub(super) fn take_message(&self, tag: Tag) -> Result<Option<(usize, Vec<u8>)>, Failure> {
        let Some(from) = self.world.probe(tag) else { return Ok(None) };
        let mut message = self.world.expect(NOTE_MAX, from, tag)?;
        self.within(ANSWER_WITHIN, &mut message);
        Ok(Some((from, message.bytes().unwrap_or_default().to_vec())))
    }
}

/// This rank's wait in `call`.
pub(super) fn own_wait(call: &Call, mut missing: Vec<usize>) -> Wait {
    missing.truncate(NAMED);
    Wait { collective: call.collective(), seconds: call.started.elapsed().as_secs_f64(), missing }
}

/// What a device does that has not ended `event`, the oldest that it was given.
fn standing_of_device(event: &Event) -> Standing {
    match event.entered {
        None => Standing::Queued { collective: event.collective() },
        Some(_) if event.waits_for.is_empty() => Standing::Busy { collective: event.collective() },
        Some(_) => Standing::Waiting(wait_of_device(event)),
    }
}

fn wait_of_device(event: &Event) -> Wait {
    let since = event.entered.map_or(Duration::ZERO, |entered| event.seen.saturating_sub(entered));
    let missing = event.waits_for.iter().copied().take(NAMED).collect();
    Wait { collective: event.collective(), seconds: since.as_secs_f64(), missing }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_computes_gets_on_or_waits() {
        let at = |seconds| Some(Duration::from_secs(seconds));
        let event = Event {
            group: "dp",
            name: "gradients",
            operation: Operation::AllReduceF32,
            sequence: 7,
            message: None,
            device: true,
            bytes: 8,
            submitted: Duration::ZERO,
            entered: None,
            together: None,
            done: None,
            failed: false,
            waits_for: Vec::new(),
            seen: Duration::from_secs(5),
        };
        let text = |event: &Event| standing_of_device(event).to_string();
        assert_eq!(text(&event), "is still computing what comes before `gradients` of dp (collective 7)");
        let event = Event { entered: at(2), ..event };
        assert_eq!(text(&event), "is still getting on with `gradients` of dp (collective 7)");
        let event = Event { waits_for: vec![1, 2], ..event };
        assert_eq!(text(&event), "is in `gradients` of dp (collective 7), waiting for rank 1, 2");
        assert_eq!(wait_of_device(&event).seconds, 3.0);
    }
}
