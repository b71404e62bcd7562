//! What a ledger says so far: which checkpoints of a run were published, in which order.

use std::path::Path;

use sirocco_files::BareDigest;
use sirocco_ledger::checkpoint::SignedCheckpoint;
use sirocco_ledger::disk::Directory;
use sirocco_ledger::key::SignerKey;
use sirocco_ledger::source::{Source as _, entry};
use sirocco_ledger::tlog_proof::CHECKPOINT;
use sirocco_ledger::verify::{Expected, verify};
use sirocco_ledger::witness::TrustPolicy;
use sirocco_ledger::{Entry, Fact, record};

use crate::error::CustodyError;

/// The verb of the entry that names a checkpoint.
pub const CHECKPOINT_PUBLISHED: &str = "checkpoint.published";
/// The verb of the entry with which a run begins.
pub const RUN_STARTED: &str = "run.started";
/// The verb of the entry that names data and the tokens that were made of it.
pub const DATA_PREPARED: &str = "data.prepared";
/// The file of a log that holds what nobody has sealed yet.
const JOURNAL: &str = "journal";

/// A checkpoint that a ledger names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// Its step.
    pub step: u64,
    /// The digest of its signed directory.
    pub digest: BareDigest,
}

/// All entries of a ledger, in their order, sealed and not.
#[derive(Clone, Debug)]
pub struct History {
    entries: Vec<Entry>,
}

impl History {
    /// Reads the ledger at `path`, after verifying what is sealed with the key that seals it here. Where nothing is, nothing was done.
    ///
    /// # Errors
    /// [`CustodyError::Ledger`] for files that cannot be read; [`CustodyError::Record`] for a ledger that is not what was sealed.
    pub fn read(path: &Path, key: &SignerKey) -> Result<History, CustodyError> {
        let directory = Directory::new(path);
        let mut entries = Vec::new();
        // Before the checkpoint: a sealing takes entries off the journal last, so that none is in neither.
        let journal = directory.read(JOURNAL)?;
        let sealed = directory.read(CHECKPOINT)?.map(|bytes| SignedCheckpoint::parse(&bytes)).transpose()?;
        let size = sealed.as_ref().map_or(0, |sealed| sealed.checkpoint.size);
        if let Some(sealed) = &sealed {
            check(&directory, key, &sealed.checkpoint.origin)?;
        }
        let first = journal.as_deref().map(record::first_index).transpose()?.unwrap_or(size);
        for index in 0..first.min(size) {
            entries.push(Entry::parse(&entry(&directory, index, size)?)?);
        }
        for (_, record) in record::records(journal.as_deref().unwrap_or_default()) {
            entries.push(Entry::parse(record.entry)?);
        }
        Ok(History { entries })
    }

    #[cfg(test)]
    pub(crate) fn of(entries: Vec<Entry>) -> History {
        History { entries }
    }

    /// All entries.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The name of a run's ledger at its first sealing: no two have the same, since their first entries tell of another time.
    pub fn log_name(&self, run: &str) -> String {
        let first = self.entries.first().and_then(|entry| entry.to_bytes().ok()).unwrap_or_default();
        let digits: String = BareDigest::of(&first).to_string().chars().take(16).collect();
        format!("sirocco/{run}/{digits}")
    }

    /// The checkpoints that were published, the newest last. A step that was saved again is there twice.
    pub fn published(&self) -> Vec<Published> {
        let named = self.entries.iter().filter(|entry| entry.verb == CHECKPOINT_PUBLISHED);
        named
            .filter_map(|entry| {
                let Some(Fact::Number(step)) = entry.facts.get("step") else { return None };
                let digest = entry.outputs.values().next()?;
                Some(Published { step: u64::try_from(*step).ok()?, digest: (*digest).into() })
            })
            .collect()
    }

    /// The digest of the tokens of one side of the data (`train.tokens`), as they were prepared last.
    pub fn prepared(&self, side: &str) -> Option<BareDigest> {
        let prepared = self.entries.iter().rev().filter(|entry| entry.verb == DATA_PREPARED);
        prepared.filter_map(|entry| entry.outputs.get(&tokens_of(side))).next().map(|digest| (*digest).into())
    }
}

/// What entries call the tokens of one side of the data.
pub fn tokens_of(side: &str) -> String {
    format!("tokens/{side}")
}

/// Whether what is sealed is what this account has sealed.
fn check(directory: &Directory, key: &SignerKey, name: &str) -> Result<(), CustodyError> {
    let policy = TrustPolicy::of_logs([key.named(name)?.verifier()])?;
    let report = verify(directory, &Expected::new(policy))?;
    let Some(finding) = report.findings.first().filter(|_| !report.is_sound()) else { return Ok(()) };
    let path = directory.path().join(&finding.file);
    let found = format!("{}, not {}", finding.found, finding.expected);
    Err(CustodyError::Record { path, found, expected: "the ledger as it was sealed" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Book, Deed, Keys};
    use sirocco_ledger::{Author, Digest};

    fn published(step: i64) -> Deed {
        let digest = Digest::of(format!("step {step}").as_bytes());
        Deed::new(CHECKPOINT_PUBLISHED).fact("step", Fact::Number(step)).output("checkpoint:run", digest)
    }

    #[test]
    fn checkpoints_are_named_in_their_order_whether_sealed_or_not() {
        let folder = tempfile::tempdir().unwrap();
        let keys = Keys::create(&folder.path().join("keys"), "tests").unwrap();
        let path = folder.path().join("ledger");
        assert!(History::read(&path, &keys.ledger).unwrap().entries().is_empty());
        let author = Author { identity: "person:a".to_owned(), host: "h".to_owned(), binary: Digest::of(b"") };
        let book = Book::open(&path, author).unwrap();
        for (number, step) in [5, 10, 5].into_iter().enumerate() {
            book.write(published(step)).unwrap();
            book.write(Deed::new("run.ended")).unwrap();
            if number == 1 {
                book.seal(&keys.ledger, "sirocco/run/0").unwrap();
            }
        }
        let history = book.history(&keys.ledger).unwrap();
        assert_eq!(history.published().iter().map(|published| published.step).collect::<Vec<_>>(), [5, 10, 5]);
        assert_eq!(history.entries().len(), 6);
        assert!(history.log_name("run").starts_with("sirocco/run/") && history.log_name("run").len() == 28);

        assert_eq!(history.prepared("train.tokens"), None);
        for text in ["one", "two"] {
            book.write(Deed::new(DATA_PREPARED).output(tokens_of("train.tokens"), Digest::of(text.as_bytes()))).unwrap();
        }
        book.write(Deed::new(DATA_PREPARED).output(tokens_of("valid.tokens"), Digest::of(b"three"))).unwrap();
        let prepared = book.history(&keys.ledger).unwrap().prepared("train.tokens");
        assert_eq!(prepared, Some(BareDigest::of(b"two")));

        // Another key has sealed it, or somebody has put a sealed entry away.
        let other = Keys::create(&folder.path().join("others"), "tests").unwrap();
        assert!(History::read(&path, &other.ledger).is_err());
        std::fs::remove_dir_all(path.join("tile")).unwrap();
        assert!(book.history(&keys.ledger).is_err());
    }
}
