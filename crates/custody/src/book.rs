//! A run's ledger, or an account's: what was done, appended without waiting.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use sirocco_ledger::checkpoint::SignedCheckpoint;
use sirocco_ledger::disk::{Log, Writer};
use sirocco_ledger::key::SignerKey;
use sirocco_ledger::source::Source as _;
use sirocco_ledger::tlog_proof::CHECKPOINT;
use sirocco_ledger::{Author, Decision, Digest, Fact, LedgerError};

use crate::error::{Class, CustodyError};
use crate::history::History;

/// The entry of something that was not used, because it is not what was signed or recorded.
const ARTEFACT_REFUSED: &str = "artefact.refused";
/// Characters of an error that an entry holds.
const MOST_WHY: usize = 4000;

/// An action to be recorded.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Deed {
    /// What was done.
    pub verb: String,
    /// The digest of the configuration that it was done with.
    pub configuration: Option<Digest>,
    /// What the policy said.
    pub decision: Option<Decision>,
    /// What went in.
    pub inputs: BTreeMap<String, Digest>,
    /// What came out.
    pub outputs: BTreeMap<String, Digest>,
    /// Everything else.
    pub facts: BTreeMap<String, Fact>,
}

impl Deed {
    /// An action with nothing in and nothing out yet.
    pub fn new(verb: impl Into<String>) -> Deed {
        Deed { verb: verb.into(), ..Deed::default() }
    }

    /// A node of which was measured how far what runs there is kept from the network: the level by its number, the node's name and its kernel,
    /// and the measurement as JSON.
    pub fn node_confined(level: u8, (host, kernel): (String, String), report: String) -> Deed {
        Deed::new("node.confined")
            .fact("level", Fact::Number(i64::from(level)))
            .fact("host", Fact::Text(host))
            .fact("kernel", Fact::Text(kernel))
            .fact("report", Fact::Text(report))
    }

    /// With a fact.
    #[must_use]
    pub fn fact(mut self, name: &str, value: impl Into<Fact>) -> Deed {
        self.facts.insert(name.to_owned(), value.into());
        self
    }

    /// With something that went in.
    #[must_use]
    pub fn input(mut self, name: impl Into<String>, digest: Digest) -> Deed {
        self.inputs.insert(name.into(), digest);
        self
    }

    /// With something that came out.
    #[must_use]
    pub fn output(mut self, name: impl Into<String>, digest: Digest) -> Deed {
        self.outputs.insert(name.into(), digest);
        self
    }
}

/// A ledger, open for writing by this program.
pub struct Book {
    writer: Writer,
}

impl Book {
    /// Opens the ledger in a directory, and makes one where nothing is.
    ///
    /// # Errors
    /// A directory that cannot be written, a ledger that is damaged.
    pub fn open(path: &Path, author: Author) -> Result<Book, CustodyError> {
        let log = Log::create(path, author)?;
        Ok(Book { writer: Writer::start(Arc::new(log))? })
    }

    /// Hands an action over to be written; does not wait for the disk.
    ///
    /// # Errors
    /// An action that the format does not have, or a disk that has refused for so long that no more can be kept.
    pub fn write(&self, deed: Deed) -> Result<(), CustodyError> {
        let mut entry = self.writer.log().author().entry(&deed.verb, SystemTime::now().into());
        (entry.configuration, entry.decision) = (deed.configuration, deed.decision);
        (entry.inputs, entry.outputs, entry.facts) = (deed.inputs, deed.outputs, deed.facts);
        Ok(self.writer.append(&entry)?)
    }

    /// What the ledger says so far, by all writers.
    ///
    /// # Errors
    /// Those of [`History::read`].
    pub fn history(&self, key: &SignerKey) -> Result<History, CustodyError> {
        self.sync()?;
        History::read(self.writer.log().path(), key)
    }

    /// Waits until everything that was written is on disk.
    ///
    /// # Errors
    /// A disk that is full or read-only.
    pub fn sync(&self) -> Result<(), CustodyError> {
        Ok(self.writer.sync()?)
    }

    /// Writes down that what lies in `directory` was not used, where it is not what was signed or recorded. Other errors say nothing of it.
    ///
    /// # Errors
    /// Those of [`write`](Self::write). The error that is written down is the one to tell, also where this fails.
    pub fn not_used(&self, directory: &Path, error: &CustodyError) -> Result<(), CustodyError> {
        if error.class() != Class::File {
            return Ok(());
        }
        self.refused(directory, &error.to_string())
    }

    /// Writes down that what lies in `directory` was not used, and why.
    ///
    /// # Errors
    /// Those of [`write`](Self::write).
    pub fn refused(&self, directory: &Path, why: &str) -> Result<(), CustodyError> {
        // An entry has room for 64 KiB, and one of these can name any number of files.
        let why = why.chars().take(MOST_WHY).collect();
        let deed = Deed::new(ARTEFACT_REFUSED).fact("path", Fact::Text(directory.display().to_string()));
        self.write(deed.fact("why", Fact::Text(why)))?;
        self.sync()
    }

    /// Refuses a key that cannot seal this ledger, because another has sealed it before: to be asked before hours of work are recorded in
    /// it. A ledger that was never sealed takes any key.
    ///
    /// # Errors
    /// [`CustodyError::OtherKey`]; a checkpoint that is none, or whose signature does not verify.
    pub fn expect_key(&self, key: &SignerKey) -> Result<(), CustodyError> {
        let directory = self.writer.log().directory();
        let Some(bytes) = directory.read(CHECKPOINT)? else { return Ok(()) };
        let last = SignedCheckpoint::parse(&bytes)?;
        let verifier = key.named(&last.checkpoint.origin)?.verifier();
        match last.note.verify(&[&verifier]) {
            Ok(_) => Ok(()),
            Err(LedgerError::NotSigned { found, expected }) => {
                Err(CustodyError::OtherKey { path: directory.path().join(CHECKPOINT), found, expected })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Signs everything that was written so far. The first sealing names the log `name`; later ones keep its name.
    ///
    /// # Errors
    /// A disk that is full or read-only, tiles that contradict the checkpoint, another key.
    pub fn seal(&self, key: &SignerKey, name: &str) -> Result<(), CustodyError> {
        self.writer.sync()?;
        let log = self.writer.log();
        let name = match log.directory().read(CHECKPOINT)? {
            Some(bytes) => SignedCheckpoint::parse(&bytes)?.checkpoint.origin,
            None => name.to_owned(),
        };
        log.seal(&key.named(&name)?)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::Keys;

    #[test]
    fn keys_that_cannot_seal_a_ledger_are_found_before_the_work() {
        let folder = tempfile::tempdir().unwrap();
        let keys = |name: &str| Keys::create(&folder.path().join(name), "tests").unwrap().ledger;
        let (own, other) = (keys("own"), keys("other"));
        let author = Author { identity: "i".to_owned(), host: "h".to_owned(), binary: Digest::of(b"") };
        let book = Book::open(&folder.path().join("ledger"), author).unwrap();
        book.expect_key(&other).unwrap();
        book.write(Deed::new("test")).unwrap();
        book.seal(&own, "tests/one").unwrap();
        book.expect_key(&own).unwrap();
        let error = book.expect_key(&other).unwrap_err();
        let labels = [&own, &other].map(|key| key.named("tests/one").unwrap().verifier().label());
        assert!(
            matches!(&error, CustodyError::OtherKey { found, expected, .. } if found.contains(&labels[0]) && expected.contains(&labels[1])),
            "{error}"
        );
        assert!(error.to_string().contains("ledger/checkpoint"), "{error}");
        assert!(book.seal(&other, "tests/one").is_err(), "what it warns of");
    }
}
