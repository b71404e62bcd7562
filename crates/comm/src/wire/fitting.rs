//! Messages that must fit their room: long texts are cut, and say so; long lists of ranks end early.

use serde::Serialize;
use serde_json::Value;

/// What stands at the end of a text that was cut.
const CUT: &str = "… (cut)";
/// Texts are not cut below this many bytes: names of variants, which are texts here, stay whole.
const SHORTEST: usize = 32;

/// `value` as JSON of at most `most` bytes. Empty where even its shortest form is longer, which the receiver cannot read and says so.
pub(super) fn fitting(value: &impl Serialize, most: usize) -> Vec<u8> {
    let Ok(mut value) = serde_json::to_value(value) else { return Vec::new() };
    let mut longest = most;
    loop {
        let text = value.to_string().into_bytes();
        if text.len() <= most {
            return text;
        }
        longest /= 2;
        if longest < SHORTEST {
            return Vec::new();
        }
        shorten(&mut value, longest);
    }
}

fn shorten(value: &mut Value, longest: usize) {
    match value {
        Value::String(text) if text.len() > longest => {
            text.truncate(text.floor_char_boundary(longest));
            text.push_str(CUT);
        }
        Value::Array(list) => {
            list.truncate(longest);
            list.iter_mut().for_each(|value| shorten(value, longest));
        }
        Value::Object(fields) => fields.values_mut().for_each(|value| shorten(value, longest)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        CommError,
        entry::{Collective, Entry, Fingerprint, Operation},
    };

    fn collective(name: String) -> Collective {
        Collective { name, group: "world".into(), sequence: 1 << 40, message: None }
    }

    fn back(error: &CommError, most: usize) -> CommError {
        let bytes = fitting(error, most);
        assert!(bytes.len() <= most, "{} bytes", bytes.len());
        serde_json::from_slice(&bytes).unwrap()
    }

    #[test]
    fn what_fits_is_not_changed() {
        let error = CommError::Mpi { call: "MPI_Isend".into(), message: "é".repeat(50), collective: collective("a".into()) };
        assert_eq!(back(&error, 4096), error);
    }

    #[test]
    fn a_long_text_is_cut_and_says_so() {
        let error = CommError::Mpi { call: "MPI_Isend".into(), message: "é".repeat(5000), collective: collective("a".into()) };
        let CommError::Mpi { call, message, collective } = back(&error, 4096) else { panic!("another error") };
        assert_eq!((call.as_str(), collective.name.as_str()), ("MPI_Isend", "a"));
        assert!(message.starts_with("éé") && message.ends_with("é… (cut)") && message.len() > 1000, "{message}");
    }

    #[test]
    fn the_longest_mismatch_fits() {
        let long = || "\u{1}".repeat(10_000);
        let entry = Entry {
            rank: usize::MAX,
            operation: Operation::ReduceScatterBf16,
            collective: Collective { group: long(), ..collective(long()) },
            members: Fingerprint { digest: u64::MAX, shown: long() },
            elements: u64::MAX,
            parts: Fingerprint { digest: u64::MAX, shown: long() },
            root: usize::MAX,
        };
        let error = CommError::Mismatch { first: Box::new(entry.clone()), second: Box::new(entry) };
        let CommError::Mismatch { first, .. } = back(&error, 4096) else { panic!("another error") };
        assert!(first.operation == Operation::ReduceScatterBf16 && first.collective.name.ends_with(CUT));
    }
}
