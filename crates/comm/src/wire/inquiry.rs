//! Who is to blame when nothing moves. A rank that waits in vain asks the ranks that it waits for what they are doing, then those that
//! these wait for, until it comes to ranks that wait for nobody: those are the ones that hang. Every wire answers, also while it waits
//! or has nothing to do, for its own collectives and for those of its devices.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::mpsc::SyncSender,
    thread,
    time::Instant,
};

use super::{
    Tag, Wire,
    call::{Call, Trouble},
    neighbours::{ANSWER_WITHIN, own_wait},
    patience::LONG_NAP,
    raw::Failure,
};
use crate::{
    CommError,
    entry::Collective,
    error::Missing,
    standing::{Standing, Wait},
};

/// A wait that is not the wire's own, but a device's, and that takes too long.
pub(crate) struct Question {
    pub(crate) wait: Wait,
    /// The error where all ranks that are waited for do their part.
    pub(crate) otherwise: CommError,
    pub(crate) answer: SyncSender<CommError>,
}

impl Wire {
    /// Nothing has moved in `call` for too long: finds out who is to blame.
    pub(super) fn inquire(&self, call: &Call, missing: Vec<usize>) -> Result<Trouble, Trouble> {
        let inquiry = self.ask_around(&own_wait(call, missing))?;
        let nobody = || CommError::WireEnded { name: call.name.to_owned() };
        Ok(Trouble::own(self.with_hosts(inquiry.culprit().or_else(|| inquiry.standstill()).unwrap_or_else(nobody))))
    }

    /// Says where the ranks are that a time-out names: of a host that is out of reach, that is all there is to say.
    fn with_hosts(&self, mut error: CommError) -> CommError {
        if let (CommError::TimedOut { missing, .. }, Some(roster)) = (&mut error, self.shared.roster.get()) {
            missing.hosts = roster.hosts(&missing.ranks);
        }
        error
    }

    /// Finds out what the devices of this rank want to know. The error, if there was anything: it ends everything that comes.
    pub(super) fn ask_for_devices(&self) -> Option<CommError> {
        let mut found = None;
        while let Ok(Question { wait, otherwise, answer }) = self.questions.try_recv() {
            let blame = |inquiry: Inquiry| match inquiry.culprit() {
                Some(error) => error,
                None if inquiry.all_are_in_it() => otherwise,
                None => inquiry.standstill().unwrap_or(otherwise),
            };
            let error = match self.shared.broken.get() {
                Some(error) => error.clone(),
                None => {
                    let blame = |inquiry| Trouble::own(self.with_hosts(blame(inquiry)));
                    self.break_off(self.ask_around(&wait).map_or_else(|trouble| trouble, blame))
                }
            };
            // A device that has given up waiting for the answer finds the error where all calls do.
            let _ = answer.send(error.clone());
            found = Some(error);
        }
        found
    }

    /// Asks those that `own` waits for, and those that they wait for.
    fn ask_around(&self, own: &Wait) -> Result<Inquiry, Trouble> {
        let failed = |failure: Failure| Trouble::own(failure.in_collective(own.collective.clone()));
        let mut inquiry = Inquiry::new(self.world.rank, own.clone());
        let mut asked = Instant::now();
        while asked.elapsed() < ANSWER_WITHIN {
            for (rank, collective) in inquiry.ask_next() {
                self.ask(rank, &collective).map_err(failed)?;
                asked = Instant::now();
            }
            self.obey_abort();
            self.heed_report()?;
            self.answer(Some(&|| Standing::Waiting(own.clone()))).map_err(failed)?;
            while let Some((from, text)) = self.take_message(Tag::Answer).map_err(failed)? {
                inquiry.answered(from, serde_json::from_slice(&text).unwrap_or(Standing::Silent));
            }
            if inquiry.is_complete() {
                break;
            }
            thread::sleep(LONG_NAP);
        }
        // A rank that has given up meanwhile answers as if it had done nothing wrong; its report came first.
        self.heed_report()?;
        Ok(inquiry)
    }
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

    fn waited_for(&self) -> impl Iterator<Item = (usize, &Wait)> {
        self.waits.values().flat_map(|wait| wait.missing.iter().map(move |&rank| (rank, wait)))
    }

    /// The ranks that somebody waits for and that have not been asked yet, and where they are waited for; they count as asked from now on.
    fn ask_next(&mut self) -> Vec<(usize, Collective)> {
        let open = self.waited_for().filter(|(rank, _)| !self.asked.contains(rank));
        let open: BTreeMap<usize, Collective> = open.map(|(rank, wait)| (rank, wait.collective.clone())).collect();
        self.asked.extend(open.keys());
        open.into_iter().collect()
    }

    fn answered(&mut self, rank: usize, standing: Standing) {
        match standing {
            Standing::Waiting(wait) => drop(self.waits.insert(rank, wait)),
            other => drop(self.others.insert(rank, other)),
        }
    }

    /// Whether everybody who is waited for has answered.
    fn is_complete(&self) -> bool {
        self.waited_for().all(|(rank, _)| self.waits.contains_key(&rank) || self.others.contains_key(&rank))
    }

    /// Whether a rank keeps others waiting. One that computes has entered what they wait in, so another may be the one.
    fn hangs(&self, rank: usize, computing_too: bool) -> bool {
        match self.others.get(&rank) {
            Some(Standing::Past { .. }) => false,
            Some(Standing::Queued { .. }) => computing_too,
            _ => !self.waits.contains_key(&rank),
        }
    }

    /// Names the rank nearest to this one that waits for ranks which do not wait themselves, and those.
    fn culprit(&self) -> Option<CommError> {
        [false, true].into_iter().find_map(|computing_too| {
            let mut order = VecDeque::from([self.own]);
            let mut seen = BTreeSet::from([self.own]);
            while let Some(rank) = order.pop_front() {
                let Some(wait) = self.waits.get(&rank) else { continue };
                let hanging: Vec<usize> = wait.missing.iter().copied().filter(|&rank| self.hangs(rank, computing_too)).collect();
                if !hanging.is_empty() {
                    return Some(self.timed_out(rank, wait, hanging));
                }
                order.extend(wait.missing.iter().copied().filter(|&rank| seen.insert(rank)));
            }
            None
        })
    }

    /// Whether all that this rank waits for are in the same collective as it, or past it.
    fn all_are_in_it(&self) -> bool {
        let same = |wait: &Wait| self.waits.get(&self.own).is_some_and(|own| own.collective == wait.collective);
        let is_in_it = |rank: &usize| match (self.waits.get(rank), self.others.get(rank)) {
            (Some(wait), _) => same(wait),
            (None, other) => matches!(other, Some(Standing::Past { .. })),
        };
        self.waits.get(&self.own).is_some_and(|own| own.missing.iter().all(is_in_it))
    }

    /// Where all wait for each other: names this rank and those that it waits for.
    fn standstill(&self) -> Option<CommError> {
        self.waits.get(&self.own).map(|own| self.timed_out(self.own, own, own.missing.clone()))
    }

    fn timed_out(&self, rank: usize, wait: &Wait, ranks: Vec<usize>) -> CommError {
        let first = ranks.first().unwrap_or(&rank);
        let standing = match self.waits.get(first) {
            // A long list would not fit a message.
            Some(wait) => {
                let missing = wait.missing.iter().take(16).copied().collect();
                Standing::Waiting(Wait { missing, ..wait.clone() })
            }
            None => self.others.get(first).cloned().unwrap_or(Standing::Silent),
        };
        let (collective, seconds) = (wait.collective.clone(), wait.seconds);
        let missing = Box::new(Missing { ranks, hosts: Vec::new(), standing });
        CommError::TimedOut { collective, rank, seconds, missing }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(name: &str, missing: &[usize]) -> Wait {
        let collective = Collective { name: name.into(), group: "pp".into(), sequence: 3, message: None };
        Wait { collective, seconds: 2.0, missing: missing.to_vec() }
    }

    fn waiting(name: &str, missing: &[usize]) -> Standing {
        Standing::Waiting(wait(name, missing))
    }

    /// What rank 0 learns when the ranks answer as given; a rank that is not listed is silent.
    fn learned(own: &[usize], standings: &[(usize, Standing)]) -> Inquiry {
        let mut inquiry = Inquiry::new(0, wait("a", own));
        loop {
            let asked = inquiry.ask_next();
            for (rank, standing) in standings.iter().filter(|(rank, _)| asked.iter().any(|(asked, _)| asked == rank)) {
                inquiry.answered(*rank, standing.clone());
            }
            if asked.is_empty() {
                return inquiry;
            }
        }
    }

    fn concluded(own: &[usize], standings: &[(usize, Standing)]) -> String {
        let inquiry = learned(own, standings);
        inquiry.culprit().or_else(|| inquiry.standstill()).unwrap().to_string()
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

    #[test]
    fn each_rank_is_asked_about_what_it_is_waited_for_in() {
        let mut inquiry = Inquiry::new(0, wait("a", &[1]));
        assert_eq!(inquiry.ask_next(), [(1, wait("a", &[]).collective)]);
        inquiry.answered(1, waiting("b", &[0, 2]));
        assert_eq!(inquiry.ask_next(), [(2, wait("b", &[]).collective)]);
    }

    #[test]
    fn a_rank_that_computes_is_to_blame_only_where_no_other_is() {
        let queued = Standing::Queued { collective: wait("a", &[]).collective };
        let idle = Standing::Idle { last: None, seconds: 9.0 };
        let text = concluded(&[1, 2], &[(1, queued.clone()), (2, waiting("b", &[3])), (3, idle)]);
        assert!(text.ends_with("waiting for rank 3: rank 3 has entered nothing for 9.0 s"), "{text}");
        let text = concluded(&[1, 2], &[(1, queued), (2, waiting("a", &[0, 1]))]);
        let expected = "waiting for rank 1: rank 1 is still computing what comes before `a` of pp (collective 3)";
        assert!(text.ends_with(expected), "{text}");
    }

    #[test]
    fn ranks_that_do_their_part_are_not_blamed() {
        let past = Standing::Past { collective: wait("a", &[]).collective };
        let inquiry = learned(&[1, 2], &[(1, waiting("a", &[0, 2])), (2, past.clone())]);
        assert!(inquiry.culprit().is_none() && inquiry.all_are_in_it());
        let inquiry = learned(&[1, 2], &[(1, waiting("b", &[0])), (2, past)]);
        assert!(inquiry.culprit().is_none() && !inquiry.all_are_in_it());
        assert!(!learned(&[1], &[]).all_are_in_it());
    }
}
