//! The two messages of the roll call, as bytes: the header that a rank sends and the verdict that it gets back.
//!
//! Numbers are little-endian. A message that does not parse is `None`; the caller knows whose it was.

use crate::{Collective, Entry, Operation};

/// Longest name that travels; longer names are compared by this many bytes.
const NAME_MAX: usize = 200;
/// A payload up to this many bytes rides on the header. Header and payload stay below 4 KiB, which MPI libraries send eagerly.
pub(super) const INLINE_MAX: usize = 2048;
/// The result of a gather rides on the verdict up to this many bytes.
pub(super) const INLINE_RESULT_MAX: usize = 32 * 1024;
/// Bytes before the name: operation, inline flag, name length, root, sequence, elements.
const FIXED: usize = 1 + 1 + 2 + 4 + 8 + 8;
/// Room for any header.
pub(super) const HEADER_MAX: usize = FIXED + NAME_MAX + INLINE_MAX;

/// Room for any verdict in a group of `size` ranks.
pub(super) fn verdict_max(size: usize) -> usize {
    INLINE_RESULT_MAX + 16 * size + 64
}

/// As much of a name as travels.
pub(super) fn cut_name(name: &str) -> &[u8] {
    &name.as_bytes()[..name.len().min(NAME_MAX)]
}

/// What a rank enters a collective with.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Header {
    pub(super) entry: Entry,
    /// The whole payload, where it is small.
    pub(super) payload: Option<Vec<u8>>,
}

impl Header {
    pub(super) fn encode(&self) -> Vec<u8> {
        let entry = &self.entry;
        let name = cut_name(&entry.collective.name);
        let payload = self.payload.as_deref().unwrap_or_default();
        let mut bytes = Vec::with_capacity(FIXED + name.len() + payload.len());
        bytes.push(operation_code(entry.operation));
        bytes.push(u8::from(self.payload.is_some()));
        bytes.extend((name.len() as u16).to_le_bytes());
        bytes.extend((entry.root as u32).to_le_bytes());
        bytes.extend(entry.collective.sequence.to_le_bytes());
        bytes.extend(entry.elements.to_le_bytes());
        bytes.extend(name);
        bytes.extend(payload);
        bytes
    }

    /// The header that rank `rank` sent.
    pub(super) fn decode(rank: usize, bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let operation = operation_of(reader.take::<1>()?[0])?;
        let inline = reader.take::<1>()?[0] != 0;
        let name_length = usize::from(u16::from_le_bytes(reader.take()?));
        let root = u32::from_le_bytes(reader.take()?) as usize;
        let sequence = u64::from_le_bytes(reader.take()?);
        let elements = u64::from_le_bytes(reader.take()?);
        let (name, payload) = reader.0.split_at_checked(name_length)?;
        let collective = Collective { name: String::from_utf8_lossy(name).into_owned(), sequence };
        Some(Header { entry: Entry { rank, operation, collective, elements, root }, payload: inline.then(|| payload.to_vec()) })
    }
}

/// What rank 0 answers.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Verdict {
    /// All ranks are here; the payload follows. For a gather or broadcast, the bytes of each rank.
    Proceed { lengths: Vec<u64> },
    /// All ranks are here, and this is the result. For a gather, it is to be cut by `lengths`.
    Result { lengths: Vec<u64>, bytes: Vec<u8> },
    /// The collective cannot take place: a `CommError` as JSON.
    Failed { error: Vec<u8> },
    /// Not an answer yet: these ranks are still missing.
    Waiting { missing: Vec<u64> },
}

impl Verdict {
    pub(super) fn encode(&self) -> Vec<u8> {
        let (code, numbers, rest): (u8, &[u64], &[u8]) = match self {
            Verdict::Proceed { lengths } => (0, lengths, &[]),
            Verdict::Result { lengths, bytes } => (1, lengths, bytes),
            Verdict::Failed { error } => (2, &[], error),
            Verdict::Waiting { missing } => (3, missing, &[]),
        };
        let mut bytes = Vec::with_capacity(9 + 8 * numbers.len() + rest.len());
        bytes.push(code);
        bytes.extend((numbers.len() as u64).to_le_bytes());
        for number in numbers {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(rest);
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let code = reader.take::<1>()?[0];
        let count = usize::try_from(u64::from_le_bytes(reader.take()?)).ok()?;
        let (numbers, rest) = reader.0.split_at_checked(count.checked_mul(8)?)?;
        let numbers = numbers.chunks_exact(8).map(|eight| u64::from_le_bytes(eight.try_into().unwrap_or_default())).collect();
        Some(match code {
            0 => Verdict::Proceed { lengths: numbers },
            1 => Verdict::Result { lengths: numbers, bytes: rest.to_vec() },
            2 => Verdict::Failed { error: rest.to_vec() },
            3 => Verdict::Waiting { missing: numbers },
            _ => return None,
        })
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }
}

const OPERATIONS: [Operation; 6] = [
    Operation::AllReduceF32,
    Operation::AllReduceF64,
    Operation::AllGather,
    Operation::Broadcast,
    Operation::Barrier,
    Operation::Leave,
];

fn operation_code(operation: Operation) -> u8 {
    OPERATIONS.iter().position(|&other| other == operation).map_or(u8::MAX, |at| at as u8)
}

fn operation_of(code: u8) -> Option<Operation> {
    OPERATIONS.get(usize::from(code)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(payload: Option<Vec<u8>>) -> Header {
        let collective = Collective { name: "gradients".into(), sequence: 1 << 40 };
        Header { entry: Entry { rank: 3, operation: Operation::AllReduceF32, collective, elements: 77, root: 2 }, payload }
    }

    #[test]
    fn headers_come_back_as_they_went() {
        for payload in [None, Some(Vec::new()), Some(vec![1, 2, 3])] {
            assert_eq!(Header::decode(3, &header(payload.clone()).encode()), Some(header(payload)));
        }
        for operation in OPERATIONS {
            let mut sent = header(None);
            sent.entry.operation = operation;
            assert_eq!(Header::decode(3, &sent.encode()).unwrap().entry.operation, operation);
        }
    }

    #[test]
    fn the_longest_header_fits_its_room() {
        let mut longest = header(Some(vec![0; INLINE_MAX]));
        longest.entry.collective.name = "n".repeat(1000);
        assert_eq!(longest.encode().len(), HEADER_MAX);
    }

    #[test]
    fn verdicts_come_back_as_they_went() {
        for verdict in [
            Verdict::Proceed { lengths: vec![] },
            Verdict::Result { lengths: vec![1, 2], bytes: vec![9, 8, 7] },
            Verdict::Failed { error: b"{}".to_vec() },
            Verdict::Waiting { missing: vec![5] },
        ] {
            assert_eq!(Verdict::decode(&verdict.encode()), Some(verdict));
        }
    }

    #[test]
    fn cut_messages_are_refused() {
        let bytes = header(None).encode();
        assert!((0..bytes.len()).all(|length| Header::decode(3, &bytes[..length]).is_none()));
        assert_eq!(Verdict::decode(&[1, 255, 255, 255, 255, 255, 255, 255, 255, 0]), None);
        assert_eq!(Verdict::decode(&[9, 0, 0, 0, 0, 0, 0, 0, 0]), None);
    }
}
