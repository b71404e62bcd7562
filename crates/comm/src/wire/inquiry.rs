//! Who is to blame when nothing moves. A rank that waits in vain asks the ranks that it waits for what they are doing, then those that
//! these wait for, until it comes to ranks that wait for nobody: those are the ones that hang. Every wire answers, also while it waits
//! or has nothing to do.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet, VecDeque},
    thread,
    time::{Duration, Instant},
};

use super::{
    Tag, Wire,
    call::{Call, Trouble},
    patience::LONG_NAP,
    raw::{Failure, Message},
};
use crate::{
    CommError,
    entry::Operation,
    standing::{Standing, Wait},
};

/// How long an answer may take before the rank counts as silent.
const ANSWER_WITHIN: Duration = Duration::from_millis(1500);
/// Room for an answer.
const ANSWER_MAX: usize = 4096;
/// Most ranks that an answer or a time-out names; either must fit a message.
const NAMED: usize = 256;
/// A rank that has not moved for this long (or a quarter of the timeout) waits; before that it gets on.
const WAITS_AFTER: Duration = Duration::from_secs(1);
/// How long a rank that leaves waits for the others before it says so to everybody.
const FAREWELL_AFTER: Duration = Duration::from_secs(1);

/// What a wire has heard from and owes to the others beside its collectives.
pub(super) struct Watch {
    /// When it last looked.
    pub(super) looked: Cell<Instant>,
    /// The last collective or message, and when it ended.
    last: RefCell<Option<(Call, Instant)>>,
    /// Notes and answers on their way out.
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

    fn idle(&self) -> Standing {
        let last = self.last.borrow();
        let since = last.as_ref().map_or(self.started, |(_, ended)| *ended);
        Standing::Idle { last: last.as_ref().map(|(call, _)| call.collective()), seconds: since.elapsed().as_secs_f64() }
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

    /// Answers the ranks that ask what this one does; `None`: nothing.
    pub(super) fn answer(&self, standing: Option<&dyn Fn() -> Standing>) -> Result<(), Failure> {
        let mut outgoing = self.watch.outgoing.borrow_mut();
        for message in outgoing.iter_mut() {
            message.poll()?;
        }
        outgoing.retain(|message| !message.is_done());
        while let Some((from, _)) = self.take_message(Tag::Ask)? {
            let standing = standing.map_or_else(|| self.watch.idle(), |standing| standing());
            outgoing.push(self.world.send_bytes(serde_json::to_vec(&standing).unwrap_or_default(), from, Tag::Answer)?);
        }
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

    /// Nothing has moved in `call` for too long: finds out who is to blame.
    pub(super) fn inquire(&self, call: &Call, missing: Vec<usize>) -> Result<Trouble, Trouble> {
        let failed = |failure| call.failed(failure);
        let own = own_wait(call, missing);
        let mut inquiry = Inquiry::new(self.world.rank, own.clone());
        let mut asked = Instant::now();
        while asked.elapsed() < ANSWER_WITHIN {
            for rank in inquiry.ask_next() {
                self.watch.outgoing.borrow_mut().push(self.world.send_bytes(vec![0], rank, Tag::Ask).map_err(failed)?);
                asked = Instant::now();
            }
            self.obey_abort();
            self.heed_report(call)?;
            self.answer(Some(&|| Standing::Waiting(own.clone()))).map_err(failed)?;
            while let Some((from, text)) = self.take_message(Tag::Answer).map_err(failed)? {
                inquiry.answered(from, serde_json::from_slice(&text).unwrap_or(Standing::Silent));
            }
            if inquiry.is_complete() {
                break;
            }
            thread::sleep(LONG_NAP);
        }
        let nobody = || CommError::WireEnded { name: call.name.to_owned() };
        Ok(Trouble::own(inquiry.conclude().unwrap_or_else(nobody)))
    }

    /// A short message that has arrived, and from whom.
    fn take_message(&self, tag: Tag) -> Result<Option<(usize, Vec<u8>)>, Failure> {
        let Some(from) = self.world.probe(tag) else { return Ok(None) };
        let mut message = self.world.expect(ANSWER_MAX, from, tag)?;
        self.within(ANSWER_WITHIN, &mut message);
        Ok(Some((from, message.bytes().unwrap_or_default().to_vec())))
    }
}

/// This rank's wait in `call`.
fn own_wait(call: &Call, mut missing: Vec<usize>) -> Wait {
    missing.truncate(NAMED);
    Wait { collective: call.collective(), seconds: call.started.elapsed().as_secs_f64(), missing }
}

/// What is known of the ranks that wait for each other.
struct Inquiry {
    own: usize,
    asked: BTreeSet<usize>,
    waits: BTreeMap<usize, Wait>,
    others: BTreeMap<usize, Standing>,
}

impl Inquiry {
    fn new(own: usize, wait: Wait) -> Self {
        Inquiry { own, asked: BTreeSet::from([own]), waits: BTreeMap::from([(own, wait)]), others: BTreeMap::new() }
    }

    fn waited_for(&self) -> impl Iterator<Item = usize> {
        self.waits.values().flat_map(|wait| &wait.missing).copied()
    }

    /// The ranks that somebody waits for and that have not been asked yet; they count as asked from now on.
    fn ask_next(&mut self) -> Vec<usize> {
        let ranks: BTreeSet<usize> = self.waited_for().filter(|rank| !self.asked.contains(rank)).collect();
        self.asked.extend(&ranks);
        ranks.into_iter().collect()
    }

    fn answered(&mut self, rank: usize, standing: Standing) {
        match standing {
            Standing::Waiting(wait) => drop(self.waits.insert(rank, wait)),
            other => drop(self.others.insert(rank, other)),
        }
    }

    /// Whether everybody who is waited for has answered.
    fn is_complete(&self) -> bool {
        self.waited_for().all(|rank| self.waits.contains_key(&rank) || self.others.contains_key(&rank))
    }

    /// Names the rank nearest to this one that waits for ranks which do not wait themselves, and those. Where all wait for each other:
    /// this one and those that it waits for.
    fn conclude(&self) -> Option<CommError> {
        let mut order = VecDeque::from([self.own]);
        let mut seen = BTreeSet::from([self.own]);
        while let Some(rank) = order.pop_front() {
            let Some(wait) = self.waits.get(&rank) else { continue };
            let (waiting, hanging): (Vec<usize>, Vec<usize>) =
                wait.missing.iter().partition(|rank| self.waits.contains_key(rank));
            if !hanging.is_empty() {
                return Some(self.timed_out(rank, wait, hanging));
            }
            order.extend(waiting.into_iter().filter(|rank| seen.insert(*rank)));
        }
        self.waits.get(&self.own).map(|own| self.timed_out(self.own, own, own.missing.clone()))
    }

    fn timed_out(&self, rank: usize, wait: &Wait, missing: Vec<usize>) -> CommError {
        let first = missing.first().unwrap_or(&rank);
        let standing = match self.waits.get(first) {
            // A long list would not fit a message.
            Some(wait) => {
                let missing = wait.missing.iter().take(16).copied().collect();
                Standing::Waiting(Wait { missing, ..wait.clone() })
            }
            None => self.others.get(first).cloned().unwrap_or(Standing::Silent),
        };
        let (collective, seconds) = (wait.collective.clone(), wait.seconds);
        CommError::TimedOut { collective, rank, seconds, missing, standing: Box::new(standing) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Collective;

    fn wait(name: &str, missing: &[usize]) -> Wait {
        let collective = Collective { name: name.into(), group: "pp".into(), sequence: 3, message: None };
        Wait { collective, seconds: 2.0, missing: missing.to_vec() }
    }

    fn waiting(name: &str, missing: &[usize]) -> Standing {
        Standing::Waiting(wait(name, missing))
    }

    /// What rank 0 concludes when the ranks answer as given; a rank that is not listed is silent.
    fn concluded(own: &[usize], standings: &[(usize, Standing)]) -> String {
        let mut inquiry = Inquiry::new(0, wait("a", own));
        loop {
            let asked = inquiry.ask_next();
            for (rank, standing) in standings.iter().filter(|(rank, _)| asked.contains(rank)) {
                inquiry.answered(*rank, standing.clone());
            }
            if asked.is_empty() {
                return inquiry.conclude().unwrap().to_string();
            }
        }
    }

    #[test]
    fn a_chain_is_followed_to_the_rank_that_hangs() {
        let idle = Standing::Idle { last: None, seconds: 9.0 };
        let chain = [(1, waiting("b", &[2])), (2, waiting("c", &[3])), (3, idle)];
        let text = concluded(&[1], &chain);
        assert_eq!(
            text,
            "no progress in `c` of pp (collective 3) 2.0 s after rank 2 entered it, waiting for rank 3: \
             rank 3 has entered nothing for 9.0 s"
        );
        let text = concluded(&[1], &chain[..1]);
        assert!(text.ends_with("after rank 1 entered it, waiting for rank 2: rank 2 does not answer"), "{text}");
    }

    #[test]
    fn of_several_missing_ranks_only_those_that_do_not_wait_are_named() {
        let busy = Standing::Busy { collective: Collective { name: "x".into(), group: "dp".into(), sequence: 1, message: None } };
        let text = concluded(&[1, 2, 3], &[(1, waiting("a", &[0, 2])), (3, busy)]);
        assert!(text.ends_with("after rank 0 entered it, waiting for rank 2, 3: rank 2 does not answer"), "{text}");
    }

    #[test]
    fn ranks_that_wait_for_each_other_say_so() {
        let text = concluded(&[1], &[(1, waiting("b", &[0]))]);
        assert!(text.ends_with("waiting for rank 1: rank 1 is in `b` of pp (collective 3), waiting for rank 0"), "{text}");
    }
}
