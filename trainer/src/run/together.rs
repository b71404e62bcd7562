//! What all ranks do and then agree on: any rank's failure is every rank's, and no collective waits for work of unknown length.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sirocco_comm::Communicator;

use crate::failure::Failure;

/// Longest pause between two questions whether all ranks are done.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// A round of agreement: the collective's name, and what a rank that failed "could not" do, for the others' words.
#[derive(Clone, Copy)]
pub(crate) struct Round {
    pub(crate) name: &'static str,
    pub(crate) failed: &'static str,
}

/// Every rank's outcome, or the first failure with the rank it happened on. The rank that failed keeps its own words, also if the others
/// cannot be told.
pub(crate) fn everyone<T: Serialize + DeserializeOwned>(
    communicator: &dyn Communicator,
    round: Round,
    mine: Result<T, Failure>,
) -> Result<Vec<T>, Failure> {
    let told = match &mine {
        Ok(value) => json!({ "ok": value }),
        Err(failure) => json!({ "failed": failure.told() }),
    };
    let all = communicator.all_gather_bytes(round.name, told.to_string().into_bytes()).wait();
    mine?;
    let all = all.map_err(Failure::collective)?;
    let mut values = Vec::with_capacity(all.len());
    for (rank, told) in all.iter().enumerate() {
        let mut told: Value = serde_json::from_slice(told).map_err(Failure::failed)?;
        if let Some(failed) = told.get("failed") {
            return Err(Failure::of_another(failed, &format!("rank {rank} {}", round.failed)));
        }
        values.push(serde_json::from_value(told["ok"].take()).map_err(Failure::failed)?);
    }
    Ok(values)
}

/// Waits until `is_done` holds on every rank, however long that takes: ranks ask each other again and again, so that no collective stands
/// still for longer than the work of a moment.
pub(crate) fn until_all(communicator: &dyn Communicator, is_done: impl Fn() -> bool) -> Result<(), Failure> {
    let mut pause = Duration::from_millis(1);
    while everyone(communicator, Round { name: "done", failed: "could not wait" }, Ok(is_done()))?.contains(&false) {
        std::thread::sleep(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    Ok(())
}

/// Every rank does its share of some work, of whatever length; then as [`everyone`].
pub(crate) fn together<T: Serialize + DeserializeOwned + Send>(
    communicator: &dyn Communicator,
    round: Round,
    work: impl FnOnce() -> Result<T, Failure> + Send,
) -> Result<Vec<T>, Failure> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(work);
        let waited = until_all(communicator, || thread.is_finished());
        let mine = thread.join().unwrap_or_else(|_| Err(Failure::failed("a thread of this rank ended before its work was done")));
        match waited {
            Ok(()) => everyone(communicator, round, mine),
            Err(failure) => mine.and(Err(failure)),
        }
    })
}

#[cfg(test)]
mod tests {
    use sirocco_comm::Solo;

    use super::*;

    const ROUND: Round = Round { name: "test", failed: "could not add" };

    #[test]
    fn work_of_any_length_ends_in_every_rank_s_outcome() {
        let slow = || {
            std::thread::sleep(Duration::from_millis(30));
            Ok(3)
        };
        assert_eq!(together(&Solo::new(), ROUND, slow).unwrap(), [3]);
        let failure = together(&Solo::new(), ROUND, || Err::<u8, _>(Failure::failed("no"))).unwrap_err();
        assert_eq!(failure.message(), "no");
    }
}
