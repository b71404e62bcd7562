//! Entries: what was done, as one line of canonical JSON.
//!
//! Canonical means: no spaces, object keys in the order of their UTF-8 bytes, no key twice, integers only, and strings with no more escapes
//! than JSON demands. (This is RFC 8785 with two differences: keys are sorted by UTF-8, not UTF-16, and fractions do not exist.) One action
//! has one text, so whoever reads an entry and writes it again gets the bytes that were hashed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
pub use sirocco_files::Digest;

use crate::LedgerError;
use crate::bundle::check_size;
use crate::error::shown;
use crate::time::Time;

const WHAT: &str = "entry";
/// The version of this format, in each entry.
pub const ENTRY_VERSION: u32 = 1;
/// Integers that every reader of JSON holds exactly: RFC 8259 section 6.
pub const INTEGER_LIMIT: i64 = (1 << 53) - 1;
/// The verb of the entry that says what a power loss took.
pub const RECOVERED: &str = "ledger.recovered";

/// What the policy said to the action.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decision {
    /// Was it allowed?
    pub allowed: bool,
    /// The digest of the rules that decided.
    pub policy: Digest,
    /// The names of the rules that made the difference.
    pub rules: Vec<String>,
}

/// A fact of an action that has no field of its own.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Fact {
    /// Yes or no.
    Flag(bool),
    /// A whole number within ±[`INTEGER_LIMIT`].
    Number(i64),
    /// A text; also for fractions, with as many digits as were measured.
    Text(String),
    /// Several texts.
    List(Vec<String>),
}

/// An action. Fields stand in the order of their names, as the canonical text has them.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The program that did it.
    pub binary: Digest,
    /// The configuration it did it with, if it had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configuration: Option<Digest>,
    /// What the policy said, if it was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decision>,
    /// Everything else.
    pub facts: BTreeMap<String, Fact>,
    /// The machine.
    pub host: String,
    /// The person or account.
    pub identity: String,
    /// What went in, by name.
    pub inputs: BTreeMap<String, Digest>,
    /// What came out, by name.
    pub outputs: BTreeMap<String, Digest>,
    /// When, by the machine's own clock. Order is the index, not the time.
    pub time: Time,
    /// [`ENTRY_VERSION`].
    pub v: u32,
    /// What was done: 1 to 64 of `a-z 0-9 . _ -`.
    pub verb: String,
}

/// Who writes into a log: the same in each of its entries.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Author {
    /// The person or account.
    pub identity: String,
    /// The machine.
    pub host: String,
    /// The digest of the running program.
    pub binary: Digest,
}

impl Author {
    /// An action by this author, with nothing in, nothing out and no decision yet.
    pub fn entry(&self, verb: &str, time: Time) -> Entry {
        Entry {
            binary: self.binary,
            configuration: None,
            decision: None,
            facts: BTreeMap::new(),
            host: self.host.clone(),
            identity: self.identity.clone(),
            inputs: BTreeMap::new(),
            outputs: BTreeMap::new(),
            time,
            v: ENTRY_VERSION,
            verb: verb.to_owned(),
        }
    }
}

impl Entry {
    /// The canonical text: what is hashed.
    ///
    /// # Errors
    /// [`LedgerError::Malformed`] for a field that the format does not have; [`LedgerError::EntrySize`] when it is too long: a list of many
    /// files belongs into a file whose digest the entry names.
    pub fn to_bytes(&self) -> Result<Vec<u8>, LedgerError> {
        self.check()?;
        let text = serde_json::to_vec(self).map_err(|error| LedgerError::malformed(WHAT, "text", error.to_string(), "JSON"))?;
        check_size(&text)?;
        Ok(text)
    }

    /// Reads an entry, only in its canonical text.
    ///
    /// # Errors
    /// [`LedgerError::Malformed`], with what stands in its way.
    pub fn parse(bytes: &[u8]) -> Result<Self, LedgerError> {
        let no_entry = |error: serde_json::Error| {
            let place = format!("column {}", error.column());
            LedgerError::malformed(WHAT, place, error.to_string(), "an action as FORMAT.md describes it")
        };
        let entry: Self = serde_json::from_slice(bytes).map_err(no_entry)?;
        let canonical = entry.to_bytes()?;
        if canonical == bytes {
            return Ok(entry);
        }
        let at = canonical.iter().zip(bytes).position(|(a, b)| a != b).unwrap_or(canonical.len().min(bytes.len()));
        let rest = |text: &[u8]| shown(text.get(at..).unwrap_or_default());
        Err(LedgerError::malformed(WHAT, format!("byte {at}"), rest(bytes), format!("the canonical text {}", rest(&canonical))))
    }

    fn check(&self) -> Result<(), LedgerError> {
        let verb = self.verb.as_bytes();
        let of_verb = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
        if !(1..=64).contains(&verb.len()) || !verb.iter().all(of_verb) {
            return Err(LedgerError::malformed(WHAT, "verb", shown(verb), "1 to 64 of a-z 0-9 . _ -"));
        }
        if self.v != ENTRY_VERSION {
            return Err(LedgerError::malformed(WHAT, "v", self.v.to_string(), ENTRY_VERSION.to_string()));
        }
        let beyond = |fact: &&Fact| matches!(fact, Fact::Number(number) if !(-INTEGER_LIMIT..=INTEGER_LIMIT).contains(number));
        match self.facts.values().find(beyond) {
            Some(Fact::Number(number)) => {
                Err(LedgerError::malformed(WHAT, "facts", number.to_string(), format!("at most ±{INTEGER_LIMIT}, or a text")))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn example() -> Entry {
        let author = Author { identity: "someone".to_owned(), host: "node1".to_owned(), binary: Digest::of(b"program") };
        let mut entry = author.entry("train", Time::parse("2026-11-22T15:52:12.123Z").unwrap());
        entry.configuration = Some(Digest::of(b"run.toml"));
        entry.decision = Some(Decision { allowed: true, policy: Digest::of(b"rules"), rules: vec!["stay".to_owned()] });
        entry.inputs.insert("data/été.jsonl".to_owned(), Digest::of(b"data"));
        entry.facts.insert("steps".to_owned(), Fact::Number(20));
        entry.facts.insert("nodes".to_owned(), Fact::List(vec!["n1".to_owned(), "n2".to_owned()]));
        entry
    }

    #[test]
    fn the_text_is_this_one() {
        let hex = |text: &str| Digest::of(text.as_bytes()).to_string();
        let expected = format!(
            concat!(
                r#"{{"binary":"{}","configuration":"{}","decision":{{"allowed":true,"policy":"{}","rules":["stay"]}},"#,
                r#""facts":{{"nodes":["n1","n2"],"steps":20}},"host":"node1","identity":"someone","#,
                r#""inputs":{{"data/été.jsonl":"{}"}},"outputs":{{}},"time":"2026-11-22T15:52:12.123Z","v":1,"verb":"train"}}"#
            ),
            hex("program"),
            hex("run.toml"),
            hex("rules"),
            hex("data")
        );
        let bytes = example().to_bytes().unwrap();
        assert_eq!(String::from_utf8(bytes.clone()).unwrap(), expected);
        assert_eq!(Entry::parse(&bytes).unwrap(), example());
    }

    #[test]
    fn another_text_of_the_same_action_is_refused() {
        let text = String::from_utf8(example().to_bytes().unwrap()).unwrap();
        let other = [
            text.replacen(r#""v":1"#, r#""v": 1"#, 1),
            text.replacen(r#""v":1"#, r#""v":2"#, 1),
            text.replacen(r#""steps":20"#, r#""steps":20.0"#, 1),
            text.replacen(r#""steps":20"#, r#""steps":2e1"#, 1),
            text.replacen(r#""steps":20"#, r#""steps":20,"steps":20"#, 1),
            text.replacen(r#""steps":20"#, r#""steps":null"#, 1),
            text.replacen(r#""steps":20"#, r#""steps":9007199254740992"#, 1),
            text.replacen("été", r"\u00e9t\u00e9", 1),
            text.replacen(r#""outputs":{}"#, r#""outputs":{},"more":1"#, 1),
            text.replacen(r#""host":"node1","identity":"someone""#, r#""identity":"someone","host":"node1""#, 1),
            text.replacen("sha256:", "sha256:A", 1),
            text.replacen(r#""verb":"train""#, r#""verb":"Train it""#, 1),
            format!("{text}\n"),
            format!(" {text}"),
            text[..text.len() - 1].to_owned(),
        ];
        for other in other {
            assert_ne!(other, text, "a row that changes nothing");
            assert!(matches!(Entry::parse(other.as_bytes()), Err(LedgerError::Malformed { .. })), "{other}");
        }
    }

    #[test]
    fn an_entry_that_is_too_long_is_refused() {
        let mut entry = example();
        entry.facts.insert("long".to_owned(), Fact::Text("x".repeat(70_000)));
        assert!(matches!(entry.to_bytes(), Err(LedgerError::EntrySize { limit: 65_535, .. })));
    }

    fn fact() -> impl Strategy<Value = Fact> {
        prop_oneof![
            any::<bool>().prop_map(Fact::Flag),
            (-INTEGER_LIMIT..=INTEGER_LIMIT).prop_map(Fact::Number),
            any::<String>().prop_map(Fact::Text),
            prop::collection::vec(any::<String>(), 0..3).prop_map(Fact::List),
        ]
    }

    proptest! {
        #[test]
        fn every_action_is_read_back(facts in prop::collection::btree_map(any::<String>(), fact(), 0..5), host: String) {
            let entry = Entry { facts, host, ..example() };
            let bytes = entry.to_bytes().unwrap();
            prop_assert_eq!(Entry::parse(&bytes).unwrap(), entry);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..80), at in 0_usize..500, byte: u8) {
            let _ = Entry::parse(&bytes);
            let mut text = example().to_bytes().unwrap();
            let place = at % text.len();
            text[place] = byte;
            if let Ok(entry) = Entry::parse(&text) {
                prop_assert_eq!(entry.to_bytes().unwrap(), text);
            }
        }
    }
}
