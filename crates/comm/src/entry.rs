//! What a rank enters: the operations, the name and number of a collective, and the description that ranks compare.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::membership::WORLD;

/// The operations that a rank can enter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operation {
    /// Sum of `f32` buffers.
    AllReduceF32,
    /// Sum of `f64` buffers.
    AllReduceF64,
    /// Each rank's part of the sum of `f32` buffers.
    ReduceScatterF32,
    /// Each rank's part of the sum of `bf16` buffers.
    ReduceScatterBf16,
    /// Every rank's bytes on every rank.
    AllGather,
    /// One rank's bytes on every rank.
    Broadcast,
    /// Nobody goes on before everybody came.
    Barrier,
    /// Bytes to one rank.
    Send,
    /// Bytes from one rank.
    Receive,
    /// The end: the rank dropped its communicator.
    Leave,
}

impl Operation {
    /// Whether the data are counted in bytes and not in elements.
    fn counts_bytes(self) -> bool {
        matches!(self, Operation::AllGather | Operation::Broadcast | Operation::Send | Operation::Receive)
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Operation::AllReduceF32 => "all_reduce_f32",
            Operation::AllReduceF64 => "all_reduce_f64",
            Operation::ReduceScatterF32 => "reduce_scatter_f32",
            Operation::ReduceScatterBf16 => "reduce_scatter_bf16",
            Operation::AllGather => "all_gather_bytes",
            Operation::Broadcast => "broadcast_bytes",
            Operation::Barrier => "barrier",
            Operation::Send => "send_bytes",
            Operation::Receive => "receive_bytes",
            Operation::Leave => "leave",
        })
    }
}

/// The two ends of a message between two ranks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ends {
    /// The rank that sends.
    pub from: usize,
    /// The rank that receives.
    pub to: usize,
}

/// One collective, or one message between two ranks: its name, its group and its number. Every rank counts for itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collective {
    /// The name that the caller gave.
    pub name: String,
    /// The group's name; "world" for all ranks.
    pub group: String,
    /// How many collectives of the group (or messages of the group in this direction) this rank had entered before. In the group of
    /// all ranks number 0 is the meeting at the start.
    pub sequence: u64,
    /// For a message: from where to where. Boxed, so that an error that names a collective stays small.
    pub message: Option<Box<Ends>>,
}

impl fmt::Display for Collective {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "`{}` ", self.name)?;
        if self.group != WORLD {
            write!(out, "of {} ", self.group)?;
        }
        match self.message.as_deref() {
            None => write!(out, "(collective {})", self.sequence),
            Some(Ends { from, to }) => write!(out, "(message {} from rank {from} to rank {to})", self.sequence),
        }
    }
}

/// A list of numbers that ranks must agree on: a digest that is compared and the beginning of the list, for people.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// Differs for lists that differ.
    pub digest: u64,
    /// "0, 2, 4".
    pub shown: String,
}

impl Fingerprint {
    /// That of `numbers`.
    pub(crate) fn of(numbers: &[usize]) -> Self {
        const SHOWN: usize = 8;
        // FNV-1a over the numbers as 64-bit words: lists differ by mistake here, not by malice.
        let mix = |hash: u64, number: &usize| (hash ^ *number as u64).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(29);
        let digest = numbers.iter().fold(0xcbf2_9ce4_8422_2325 ^ numbers.len() as u64, mix);
        Fingerprint { digest, shown: list(numbers, SHOWN) }
    }
}

/// What one rank entered; two of these that differ make a [`CommError::Mismatch`](crate::CommError::Mismatch).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The rank that entered it.
    pub rank: usize,
    /// What it does.
    pub operation: Operation,
    /// The name and number.
    pub collective: Collective,
    /// The ranks of the group.
    pub members: Fingerprint,
    /// Elements in this rank's buffer.
    pub elements: u64,
    /// For a reduction that leaves each rank its part: the elements of each part.
    pub parts: Fingerprint,
    /// The rank that broadcasts or, of a message, the rank at the other end; else 0.
    pub root: usize,
}

impl fmt::Display for Entry {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "rank {} entered {} {}", self.rank, self.operation, self.collective)?;
        match self.operation {
            Operation::Broadcast => write!(out, " from rank {}", self.root),
            Operation::Barrier | Operation::Leave | Operation::Receive => Ok(()),
            Operation::ReduceScatterF32 | Operation::ReduceScatterBf16 => {
                write!(out, " with {} elements in parts of {}", self.elements, self.parts.shown)
            }
            _ if self.operation.counts_bytes() => write!(out, " with {} bytes", self.elements),
            _ => write!(out, " with {} elements", self.elements),
        }
    }
}

/// Numbers or names as people write them: "3", "1, 2, 5", at most `most` of them.
pub(crate) fn list<T: ToString>(items: &[T], most: usize) -> String {
    let mut text = items.iter().take(most).map(T::to_string).collect::<Vec<_>>().join(", ");
    if items.len() > most {
        text.push_str(&format!(" and {} more", items.len() - most));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_list_is_cut() {
        assert_eq!(list(&[3], 16), "3");
        assert_eq!(list(&(0..20).collect::<Vec<_>>(), 4), "0, 1, 2, 3 and 16 more");
    }

    #[test]
    fn fingerprints_differ_when_lists_do() {
        let lists: [&[usize]; 7] = [&[], &[0], &[1], &[0, 1], &[1, 0], &[0, 0, 1], &[0, 1, 0]];
        for (at, one) in lists.iter().enumerate() {
            for (other_at, other) in lists.iter().enumerate() {
                assert_eq!(Fingerprint::of(one) == Fingerprint::of(other), at == other_at, "{one:?} {other:?}");
            }
        }
    }

    #[test]
    fn a_message_says_from_where_to_where() {
        let message = Some(Box::new(Ends { from: 2, to: 3 }));
        let collective = Collective { name: "activations".into(), group: "pp".into(), sequence: 4, message };
        assert_eq!(collective.to_string(), "`activations` of pp (message 4 from rank 2 to rank 3)");
    }
}
