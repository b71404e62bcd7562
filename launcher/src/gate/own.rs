//! The questions of commands that belong to no run: a corpus is prepared, a model comes in.
use std::path::{Path, PathBuf};

use sirocco_custody::{Book, Custody, Deed, Lineage, Question, Settings, artefact};
use sirocco_policy::{Admitted, Guarded, Kind, Name, Sha256Digest, Verb};

use super::measured::digest_of;
use super::{account, confinement};
use crate::cli::PolicyOptions;
use crate::confined;
use crate::failure::Failure;
use crate::train::here;
use crate::waiting;

/// Something that lies here and was measured.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    pub(crate) name: Name,
    pub(crate) path: PathBuf,
    pub(crate) digest: Sha256Digest,
    lineage: Lineage,
}

impl Guarded for Measured {
    fn artefact(&self) -> &Name {
        &self.name
    }
}

/// The policy that the options of a command name, with the account's ledger.
pub(crate) struct OwnPolicy {
    custody: Custody,
    book: Book,
    trust: Option<PathBuf>,
}

impl OwnPolicy {
    /// Reads rules and facts and opens the account's ledger.
    pub(crate) fn open(options: &PolicyOptions) -> Result<OwnPolicy, Failure> {
        let custody = custody(options)?;
        let book = account::book(&custody)?;
        book.expect_key(&account::keys(None)?.ledger)?;
        if let Some(deed) = confined::deed()? {
            book.write(deed)?;
        }
        Ok(OwnPolicy { custody, book, trust: options.trust.clone() })
    }

    /// Measures a file or a directory, and verifies it where it is signed.
    pub(crate) fn measure(&self, kind: Kind, path: &Path) -> Result<Measured, Failure> {
        let digest = if path.is_dir() {
            waiting::shown(&format!("reading {}", path.display()), || artefact::measured(path, &[]))?
        } else {
            digest_of(path)?
        };
        let mut lineage = Lineage::default();
        if path.is_dir() && artefact::is_signed(path) {
            let Some(trust) = account::trust(self.trust.as_deref(), None)? else {
                let message = format!("{}: it is signed, and there is no key to believe", path.display());
                return Err(Failure::usage(message).help("--trust names a directory with the public keys that are believed"));
            };
            let used = account::verified(path, &trust).inspect_err(|error| account::not_used(&self.custody, path, error))?;
            if let Some(origin) = used.origin {
                let name = self.custody.uses(&mut lineage, kind, path, used.digest);
                lineage.joins(&origin.lineage);
                lineage.makes(&name, [origin.artefact]);
                return Ok(Measured { name, path: path.to_owned(), digest: used.digest, lineage });
            }
        }
        let name = self.custody.uses(&mut lineage, kind, path, digest);
        Ok(Measured { name, path: path.to_owned(), digest, lineage })
    }

    /// The rules and facts.
    pub(crate) fn custody(&self) -> &Custody {
        &self.custody
    }

    /// Lets it pass, and records the answer.
    pub(crate) fn admit<V: Verb>(&self, thing: Measured) -> Result<Admitted<V, Measured>, Failure> {
        let question = Question::new(V::ACTION, thing.name.clone(), thing.lineage.clone());
        self.ask(Question { confinement: confinement(), ..question }, thing)
    }

    /// The same with a question of the caller's.
    pub(crate) fn ask<V: Verb, T: Guarded>(&self, question: Question, thing: T) -> Result<Admitted<V, T>, Failure> {
        let answer = self.custody.admit::<V, _>(question, thing, &self.book);
        self.book.sync()?;
        if answer.is_err() {
            account::seal(&self.book)?;
        }
        Ok(answer?)
    }

    /// Records what was done, and signs the ledger.
    pub(crate) fn done(&self, deed: Deed) -> Result<(), Failure> {
        self.all_done([deed])
    }

    /// The same of several things.
    pub(crate) fn all_done(&self, deeds: impl IntoIterator<Item = Deed>) -> Result<(), Failure> {
        deeds.into_iter().try_for_each(|deed| self.book.write(deed))?;
        self.book.sync()?;
        account::seal(&self.book)
    }
}

/// Rules and facts as the options of a command name them.
pub(crate) fn custody(options: &PolicyOptions) -> Result<Custody, Failure> {
    let settings = Settings {
        set: options.policy.clone(),
        facts: options.facts.clone(),
        purpose: options.purpose.clone(),
        site: options.site.clone(),
        account: confined::account(),
    };
    let trust = account::trust_for_sets(options.trust.as_deref(), None)?;
    Ok(Custody::open(settings, &here()?, trust.as_ref())?)
}
