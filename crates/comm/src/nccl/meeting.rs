//! What the ranks of a group tell each other over the host before NCCL may make them wait for each other.

use serde::{Deserialize, Serialize};

use super::{Failure, api::Api, device::Device, handle::Seat};
use crate::{Collective, CommError, Communicator, membership::WORLD};

/// The name of what makes a group, in errors.
pub(super) const JOIN: &str = "nccl/join";
/// How the name of what opens a device begins.
pub(super) const OPEN: &str = "open CUDA device";

/// Whether an error says what a rank lacked when a device was opened or a group of devices made: a driver, a library, a device of its own.
/// Later errors of NCCL are those of ranks that lost each other.
pub fn is_of_joining(error: &CommError) -> bool {
    matches!(error, CommError::Nccl { collective, .. } if collective.name == JOIN || collective.name.starts_with(OPEN))
}

/// What a rank can bring to a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Card {
    /// What is in the way on this rank.
    pub(super) problem: Option<Failure>,
    /// Its device's own number.
    pub(super) device: String,
    /// Its NCCL library's version.
    pub(super) version: i32,
    /// The new group's id, of rank 0.
    pub(super) id: Vec<u8>,
}

impl Card {
    /// Makes the device current on this thread, too, as NCCL expects from here on.
    pub(super) fn new(device: &Device, api: &Api, seat: Seat) -> Result<Self, Failure> {
        let (identity, version) = (device.identity()?, api.version()?);
        device.bind()?;
        let id = if seat.rank == 0 { api.unique_id()? } else { Vec::new() };
        Ok(Card { problem: None, device: identity, version, id })
    }

    /// That of a rank that cannot come.
    pub(super) fn without(problem: Failure) -> Self {
        Card { problem: Some(problem), device: String::new(), version: 0, id: Vec::new() }
    }
}

/// Compares the cards of all ranks: the same error on every rank, or none.
pub(super) fn compare(cards: &[Card]) -> Result<(), Failure> {
    for (rank, card) in cards.iter().enumerate() {
        if let Some(Failure { message, .. }) = &card.problem {
            return Err(refused(format!("rank {rank}: {message}")));
        }
        if let Some(other) = cards[..rank].iter().position(|other| other.device == card.device) {
            return Err(refused(format!("ranks {other} and {rank} have the same device {}, expected one each", card.device)));
        }
        if card.version != cards[0].version {
            let (first, found) = (cards[0].version, card.version);
            return Err(refused(format!("rank {rank} has NCCL {found}, rank 0 has {first}: expected the same everywhere")));
        }
    }
    Ok(())
}

fn refused(message: String) -> Failure {
    Failure::new("joining", message)
}

/// Tells all ranks `own` and returns what each has told, by rank.
pub(super) fn exchange<T>(host: &dyn Communicator, name: &'static str, own: &T) -> Result<Vec<T>, CommError>
where
    T: Serialize + for<'de> Deserialize<'de>,
{
    let parts = host.all_gather_bytes(name, serde_json::to_vec(own).unwrap_or_default()).wait()?;
    let read = |(rank, part): (usize, &Vec<u8>)| {
        serde_json::from_slice(part).map_err(|error| CommError::Garbled {
            rank,
            found: error.to_string(),
            expected: "what a rank of this version brings to a group".to_owned(),
            collective: Collective { name: name.to_owned(), group: WORLD.to_owned(), sequence: 0, message: None },
        })
    };
    parts.iter().enumerate().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Solo;

    fn card(device: &str) -> Card {
        Card { problem: None, device: device.to_owned(), version: 22_703, id: Vec::new() }
    }

    #[test]
    fn ranks_that_fit_together_may_join() {
        assert!(compare(&[card("a"), card("b"), card("c")]).is_ok());
        let own = card("a");
        assert_eq!(exchange(&Solo::new(), "cards", &own).unwrap(), [own]);
    }

    #[test]
    fn errors_of_joining_are_told_from_later_ones() {
        let of = |name: &str| {
            let (name, group) = (name.to_owned(), "dp".to_owned());
            refused(String::new()).in_collective(Collective { name, group, sequence: 0, message: None })
        };
        assert!(is_of_joining(&of(JOIN)) && is_of_joining(&of("open CUDA device 3")));
        assert!(!is_of_joining(&of("gather weights")) && !is_of_joining(&CommError::WireEnded { name: JOIN.to_owned() }));
    }

    #[test]
    fn what_is_in_the_way_is_named_with_its_rank() {
        let without = Card::without(Failure::new("dlopen", "no NCCL library".to_owned()));
        assert_eq!(compare(&[card("a"), without]).unwrap_err().message, "rank 1: no NCCL library");
        let text = compare(&[card("a"), card("b"), card("a")]).unwrap_err().message;
        assert_eq!(text, "ranks 0 and 2 have the same device a, expected one each");
        let older = Card { version: 22_100, ..card("b") };
        let text = compare(&[card("a"), older]).unwrap_err().message;
        assert_eq!(text, "rank 1 has NCCL 22100, rank 0 has 22703: expected the same everywhere");
    }
}
