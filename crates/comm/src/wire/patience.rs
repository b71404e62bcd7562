//! How the wire waits: a short spin, then naps, with an eye on the clock, on the peers and on what other ranks report.

use std::{
    hint, thread,
    time::{Duration, Instant},
};

use super::{
    Wire,
    call::{Call, Trouble, own_business},
    raw::{Arrival, Failure, Message, World},
};
use crate::CommError;

/// Ranks share cores with their own computation, so spinning is kept to about the time that an answer already under way takes.
const SPIN: Duration = Duration::from_micros(20);
/// Naps while an answer is likely soon, and for how long it is.
const SHORT_NAP: Duration = Duration::from_micros(50);
const SOON: Duration = Duration::from_millis(5);
/// Naps after that.
pub(super) const LONG_NAP: Duration = Duration::from_micros(200);
/// Naps of a wait that lasts: each one costs 15 to 30 µs of a core that others want.
const LONGEST_NAP: Duration = Duration::from_millis(2);
/// A nap adds at most this part of it to a wait.
const PART_OF_A_WAIT: u32 = 100;
/// How often a wire with nothing to do looks at the other ranks' reports.
const IDLE_NAP: Duration = Duration::from_millis(100);
/// How often the peers and the other ranks' reports are looked at.
const LOOK: Duration = Duration::from_millis(200);

/// What a look at some unfinished messages found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    Done,
    /// Some of them completed.
    Moved,
    Still,
}

/// Messages that are waited for together.
pub(super) trait Flights {
    fn poll(&mut self, world: &World) -> Result<Found, Failure>;
    /// The ranks that are waited for.
    fn missing(&self) -> Vec<usize>;
}

impl Flights for Vec<Message> {
    fn poll(&mut self, _: &World) -> Result<Found, Failure> {
        let (mut moved, mut open) = (false, 0);
        for message in self.iter_mut().filter(|message| !message.is_done()) {
            let done = message.poll()?;
            moved |= done;
            open += usize::from(!done);
        }
        Ok(match (open, moved) {
            (0, _) => Found::Done,
            (_, true) => Found::Moved,
            (_, false) => Found::Still,
        })
    }

    fn missing(&self) -> Vec<usize> {
        let mut ranks: Vec<usize> = self.iter().filter(|message| !message.is_done()).map(|message| message.peer).collect();
        ranks.sort_unstable();
        ranks.dedup();
        ranks
    }
}

impl Flights for Arrival {
    fn poll(&mut self, _: &World) -> Result<Found, Failure> {
        Ok(if self.message.poll()? { Found::Done } else { Found::Still })
    }

    fn missing(&self) -> Vec<usize> {
        vec![self.message.peer]
    }
}

impl Wire {
    /// Waits until all `flights` are complete.
    pub(super) fn wait(&self, call: &Call, flights: &mut dyn Flights) -> Result<(), Trouble> {
        let mut moved = Instant::now();
        loop {
            match flights.poll(&self.world).map_err(|failure| call.failed(failure))? {
                Found::Done => return Ok(()),
                Found::Moved => {
                    moved = Instant::now();
                    continue;
                }
                Found::Still => {}
            }
            let still = moved.elapsed();
            if still < SPIN {
                hint::spin_loop();
                continue;
            }
            self.obey_abort();
            self.sweep()?;
            if self.watch.looked.get().elapsed() >= LOOK {
                self.look_around(call, flights, still)?;
                self.watch.looked.set(Instant::now());
            }
            if still >= self.timeout {
                return Err(self.inquire(call, flights.missing())?);
            }
            thread::sleep((still / PART_OF_A_WAIT).clamp(SHORT_NAP, LONGEST_NAP));
        }
    }

    /// How long a wire with nothing to do may sleep when it has had nothing to do for as long as `quiet`.
    pub(super) fn nap(&self, quiet: Duration) -> Duration {
        match self.outbox.borrow().is_empty() {
            true => IDLE_NAP,
            false if quiet < SOON => SHORT_NAP,
            false => LONG_NAP,
        }
    }

    /// Nothing to do: keeps messages going, hears what other ranks report and ask, and asks them what this one's devices want to know.
    /// An error here ends whatever is entered next.
    pub(super) fn idle(&mut self) {
        self.ask_for_devices();
        if self.shared.broken.get().is_none()
            && let Err(trouble) = self.look_after_others()
        {
            self.break_off(trouble);
        }
    }

    fn look_after_others(&self) -> Result<(), Trouble> {
        self.sweep()?;
        self.heed_report()?;
        self.answer(None).map_err(|failure| Trouble::own(failure.in_collective(own_business("sirocco/answer"))))
    }

    fn sweep(&self) -> Result<(), Trouble> {
        let mut outbox = self.outbox.borrow_mut();
        if outbox.is_empty() { Ok(()) } else { outbox.sweep(&self.shared.record) }
    }

    /// Has another rank reported an error, has a peer died or left, does another rank ask what this one does?
    fn look_around(&self, call: &Call, flights: &dyn Flights, still: Duration) -> Result<(), Trouble> {
        let failed = |failure| call.failed(failure);
        // A report comes first, since a rank that reports may exit next.
        self.heed_report()?;
        let died = self.shared.roster.get().and_then(|roster| roster.dead().into_iter().next());
        if let Some(dead) = died {
            // It may have reported an error between the two looks.
            self.heed_report()?;
            let (peer, collective) = (dead.peer, call.collective());
            return Err(Trouble::own(CommError::RankDied { rank: peer.rank, host: peer.host, pid: peer.pid, collective }));
        }
        // The devices wait for ranks, too: what they find out ends this call as well.
        if let Some(error) = self.ask_for_devices() {
            return Err(Trouble::told(error));
        }
        let missing = flights.missing();
        if still >= LOOK {
            self.shared.record.waits_for(call.event, &missing);
            self.heed_farewells(call, &missing)?;
        }
        self.say_farewell(call).map_err(failed)?;
        self.answer(Some(&|| self.standing(call, still, missing.clone()))).map_err(failed)
    }

    /// An error if another rank reports one.
    pub(super) fn heed_report(&self) -> Result<(), Trouble> {
        let failed = |failure: Failure| Trouble::own(failure.in_collective(own_business("sirocco/report")));
        self.reported().map_err(failed)?.map_or(Ok(()), |error| Err(Trouble::told(error)))
    }

    /// Polls until done, an MPI error or the end of `limit`, whichever comes first.
    pub(super) fn within(&self, limit: Duration, flights: &mut dyn Flights) {
        let started = Instant::now();
        while started.elapsed() < limit && !matches!(flights.poll(&self.world), Ok(Found::Done) | Err(_)) {
            thread::sleep(SHORT_NAP);
        }
    }
}
