//! The two messages of the roll call, as bytes: the header that a rank sends and the verdict that it gets back.
//!
//! Numbers are little-endian. A message that does not parse is `None`; the caller knows whose it was.

use crate::entry::{Collective, Ends, Entry, Fingerprint, Operation};

/// Longest name that travels; longer names are compared by this many bytes.
const NAME_MAX: usize = 200;
/// Longest text of a fingerprint.
const SHOWN_MAX: usize = 200;
/// A payload up to this many bytes rides on the header. Header and payload stay below 4 KiB, which MPI libraries send eagerly.
pub(super) const INLINE_MAX: usize = 2048;
/// The result of a gather rides on the verdict up to this many bytes.
pub(super) const INLINE_RESULT_MAX: usize = 32 * 1024;
/// Bytes before the texts: operation, inline flag, root, sequence, elements, two digests.
const FIXED: usize = 1 + 1 + 4 + 8 + 8 + 8 + 8;
/// Room for any header: four texts, each with its length before it.
pub(super) const HEADER_MAX: usize = FIXED + 2 * (2 + NAME_MAX) + 2 * (2 + SHOWN_MAX) + INLINE_MAX;

// MPI libraries send eagerly below this.
const _: () = assert!(HEADER_MAX < 4096);

/// Room for any verdict in a group of `size` ranks.
pub(super) fn verdict_max(size: usize) -> usize {
    INLINE_RESULT_MAX + 16 * size + 64
}

/// Whether two names are the same, as far as they travel.
pub(super) fn same_name(one: &str, other: &str) -> bool {
    cut(one, NAME_MAX) == cut(other, NAME_MAX)
}

/// As much of a text as travels: whole characters.
fn cut(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}

/// What a rank enters a collective, or sends a message, with.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Header {
    pub(super) entry: Entry,
    /// The whole payload, where it is small.
    pub(super) payload: Option<Vec<u8>>,
}

impl Header {
    pub(super) fn encode(&self) -> Vec<u8> {
        let entry = &self.entry;
        let payload = self.payload.as_deref().unwrap_or_default();
        let mut bytes = Vec::with_capacity(HEADER_MAX - INLINE_MAX + payload.len());
        bytes.push(operation_code(entry.operation));
        bytes.push(u8::from(self.payload.is_some()));
        bytes.extend((entry.root as u32).to_le_bytes());
        for number in [entry.collective.sequence, entry.elements, entry.members.digest, entry.parts.digest] {
            bytes.extend(number.to_le_bytes());
        }
        let names = [&entry.collective.name, &entry.collective.group].map(|name| cut(name, NAME_MAX));
        for text in names.into_iter().chain([&entry.members.shown, &entry.parts.shown].map(|shown| cut(shown, SHOWN_MAX))) {
            bytes.extend((text.len() as u16).to_le_bytes());
            bytes.extend(text.as_bytes());
        }
        bytes.extend(payload);
        bytes
    }

    /// The header that rank `rank` of the job sent.
    pub(super) fn decode(rank: usize, bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let operation = operation_of(reader.take::<1>()?[0])?;
        let inline = reader.take::<1>()?[0] != 0;
        let root = u32::from_le_bytes(reader.take()?) as usize;
        let [sequence, elements, members, parts] = [reader.number()?, reader.number()?, reader.number()?, reader.number()?];
        let (name, group) = (reader.text()?, reader.text()?);
        let members = Fingerprint { digest: members, shown: reader.text()? };
        let parts = Fingerprint { digest: parts, shown: reader.text()? };
        let message = (operation == Operation::Send).then(|| Box::new(Ends { from: rank, to: root }));
        let collective = Collective { name, group, sequence, message };
        let payload = inline.then(|| reader.0.to_vec());
        Some(Header { entry: Entry { rank, operation, collective, members, elements, parts, root }, payload })
    }
}

/// What the presiding rank answers.
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

    fn number(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn text(&mut self) -> Option<String> {
        let length = usize::from(u16::from_le_bytes(self.take()?));
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        String::from_utf8(text.to_vec()).ok()
    }
}

const OPERATIONS: [Operation; 10] = [
    Operation::AllReduceF32,
    Operation::AllReduceF64,
    Operation::AllGather,
    Operation::Broadcast,
    Operation::Barrier,
    Operation::Leave,
    Operation::ReduceScatterF32,
    Operation::ReduceScatterBf16,
    Operation::Send,
    Operation::Receive,
];

fn operation_code(operation: Operation) -> u8 {
    OPERATIONS.iter().position(|&other| other == operation).map_or(u8::MAX, |at| at as u8)
}

fn operation_of(code: u8) -> Option<Operation> {
    OPERATIONS.get(usize::from(code)).copied()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = (Header::decode(1, &bytes), Verdict::decode(&bytes));
        }

        #[test]
        fn any_header_comes_back(names in ["\\PC{0,150}", "[a-z/]{0,60}"], numbers: [u64; 3], lists: [Vec<u16>; 2], payload: Option<Vec<u8>>) {
            let [name, group] = names;
            let [members, parts] = lists.map(|list| Fingerprint::of(&list.into_iter().map(usize::from).collect::<Vec<_>>()));
            let collective = Collective { name: cut(&name, NAME_MAX).to_owned(), group, sequence: numbers[0], message: None };
            let root = numbers[2] as u32 as usize;
            let entry = Entry { rank: 5, operation: Operation::ReduceScatterBf16, collective, members, elements: numbers[1], parts, root };
            let header = Header { entry, payload };
            prop_assert_eq!(Header::decode(5, &header.encode()), Some(header));
        }
    }

    fn header(payload: Option<Vec<u8>>) -> Header {
        let collective = Collective { name: "gradients".into(), group: "dp".into(), sequence: 1 << 40, message: None };
        let (members, parts) = (Fingerprint::of(&[0, 2, 3]), Fingerprint::of(&[70, 0, 7]));
        let operation = Operation::AllReduceF32;
        Header { entry: Entry { rank: 3, operation, collective, members, elements: 77, parts, root: 2 }, payload }
    }

    #[test]
    fn headers_come_back_as_they_went() {
        for payload in [None, Some(Vec::new()), Some(vec![1, 2, 3])] {
            assert_eq!(Header::decode(3, &header(payload.clone()).encode()), Some(header(payload)));
        }
        for operation in OPERATIONS {
            let mut sent = header(None);
            sent.entry.operation = operation;
            let entry = Header::decode(3, &sent.encode()).unwrap().entry;
            assert_eq!(entry.operation, operation);
            assert_eq!(entry.collective.message, (operation == Operation::Send).then(|| Box::new(Ends { from: 3, to: 2 })));
        }
    }

    #[test]
    fn the_longest_header_fits_its_room() {
        let mut longest = header(Some(vec![0; INLINE_MAX]));
        longest.entry.collective.name = "n".repeat(1000);
        longest.entry.collective.group = "g".repeat(1000);
        longest.entry.members.shown = "7".repeat(1000);
        longest.entry.parts.shown = "7".repeat(1000);
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
