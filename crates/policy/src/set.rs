//! A policy set: the rules, facts and cases of one directory, the digest that names them, and whose signature they have.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::cases::Cases;
use crate::digest::Sha256Digest;
use crate::error::PolicyError;
use crate::facts::Facts;
use crate::gate::Gate;
use crate::guard::{Demands, Guard, NotTaken};
use crate::manifest::{Manifest, ManifestError};
use crate::rules::Rules;
use crate::source::Source;

/// A trusted key that signed a set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signer {
    /// The name of the key where it is trusted.
    pub name: String,
    /// Its fingerprint.
    pub key: String,
}

impl fmt::Display for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.key)
    }
}

/// A signature of a set's directory. Who makes one of these has verified it with a key that is trusted for policies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// Whose it is.
    pub signer: Signer,
    /// The files of the directory, as they were signed.
    pub covers: Manifest,
}

/// What is wrong with a set.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SetError {
    /// A file that cannot be read as what it is.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// Names of files that cannot be.
    #[error(transparent)]
    Files(#[from] ManifestError),
    /// Files that are not those that were signed.
    #[error("signed by {signer}: {error}")]
    NotAsSigned {
        /// Who signed.
        signer: Signer,
        /// What differs.
        error: ManifestError,
    },
}

/// Rules, facts and cases that belong together.
#[derive(Debug, Clone)]
pub struct PolicySet {
    gate: Gate,
    cases: Cases,
    manifest: Manifest,
    signer: Option<Signer>,
}

impl PolicySet {
    /// Reads the files of a directory, named from there. `*.cedar` are rules, `cases.toml` and `*.cases.toml` are cases, every other `*.toml`
    /// is facts; other files are passed over.
    ///
    /// # Errors
    /// A file that is not what its name says, no rule at all, a name twice or one that leads out of the directory.
    pub fn parse(files: &[Source]) -> Result<PolicySet, SetError> {
        let files: Vec<Source> = files.iter().filter(|file| belongs(&file.name)).cloned().collect();
        let of =
            |wanted: &dyn Fn(&str) -> bool| -> Vec<Source> { files.iter().filter(|file| wanted(&file.name)).cloned().collect() };
        let manifest = Manifest::of(&files)?;
        let rules = Rules::parse(&of(&|name| name.ends_with(".cedar")))?;
        let facts = Facts::parse(&of(&|name| name.ends_with(".toml") && !is_cases(name)))?;
        let mut cases = Vec::new();
        for file in of(&is_cases) {
            cases.extend(Cases::parse(&file)?.cases);
        }
        Ok(PolicySet { gate: Gate::new(rules, facts), cases: Cases { cases }, manifest, signer: None })
    }

    /// The same of a directory whose signature was verified: every file of the set is one that was signed, and no signed one is left out.
    ///
    /// # Errors
    /// Those of [`PolicySet::parse`], and every file that differs.
    pub fn parse_signed(files: &[Source], signature: Signature) -> Result<PolicySet, SetError> {
        let Signature { signer, covers } = signature;
        let here = Manifest::of(files)?.only(belongs);
        if let Err(error) = here.check_against(&covers.only(belongs)) {
            return Err(SetError::NotAsSigned { signer, error });
        }
        let set = PolicySet::parse(files)?;
        Ok(PolicySet { gate: set.gate.signed_by(Some(signer.clone())), signer: Some(signer), ..set })
    }

    /// The same with a user's own descriptions of data, models and adapters; they are no part of the set, nor of its signature.
    ///
    /// # Errors
    /// Those of [`Facts::with_own`].
    pub fn with_own(self, sources: &[Source]) -> Result<PolicySet, PolicyError> {
        let facts = self.gate.facts().clone().with_own(sources)?;
        Ok(PolicySet { gate: self.gate.with_facts(facts), ..self })
    }

    /// The same set with every place in its facts written as `written` writes it: [`Facts::with_places`].
    #[must_use]
    pub fn with_places(self, written: impl FnMut(&str) -> String) -> PolicySet {
        let facts = self.gate.facts().clone().with_places(written);
        PolicySet { gate: self.gate.with_facts(facts), ..self }
    }

    /// The gate, to ask, to explain and to try cases. It admits nothing.
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Every case of the set.
    pub fn cases(&self) -> &Cases {
        &self.cases
    }

    /// Who signed it.
    pub fn signer(&self) -> Option<&Signer> {
        self.signer.as_ref()
    }

    /// The digest over the names and digests of its files: it names this version of the set.
    pub fn digest(&self) -> Sha256Digest {
        self.manifest.digest()
    }

    /// The gate that admits, if the set answers to every demand of the place. Without demands, unsigned sets are taken.
    ///
    /// # Errors
    /// The first demand that it does not answer to.
    pub fn guard(&self, demands: &[Demands]) -> Result<Guard, NotTaken> {
        demands.iter().try_for_each(|demand| demand.check(self.digest(), self.signer.is_some()))?;
        Ok(Guard::new(self.gate.clone()))
    }
}

/// Is a file of this name a part of a set?
fn belongs(name: &str) -> bool {
    name.ends_with(".cedar") || name.ends_with(".toml")
}

fn is_cases(name: &str) -> bool {
    name.rsplit('/').next() == Some("cases.toml") || name.ends_with(".cases.toml")
}
