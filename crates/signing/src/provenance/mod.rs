//! `provenance.intoto.jsonl`: what made the files of a directory, out of what, as SLSA provenance v1 in an in-toto Statement v1.
//!
//! The file is an in-toto bundle: one DSSE envelope a line. We write one; others may add theirs. A line that is not of a trusted key, or not
//! about this directory, is passed over, as in-toto's bundle layer demands, as long as one line holds.
//!
//! The statement's subjects are all files of the directory but this one and `model.sig`. A later signature of the directory ([`crate::oms`])
//! covers this file, too. Who may change what in between is settled by the signature; the provenance says what the files were made of.
//!
//! Our build types are `urn:sirocco:build:fine-tune:v1` and `urn:sirocco:build:merge:v1`. Of both, `externalParameters` is what a person asked
//! for (the run file's settings), `internalParameters` what the programs settled themselves, and every entry of `resolvedDependencies` has a
//! SHA-256 and two annotations: `role` ([`Role::name`]) and `digestOf`, which is `file`, or `directory` for the digest over its files' names and
//! digests ([`Manifest::digest`]).

mod facts;
mod statement;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::dsse::{Envelope, IN_TOTO};
use crate::error::{Error, Result, malformed};
use crate::files::{read_small, remove_unfinished, replace};
use crate::keys::PrivateKey;
use crate::manifest::{Coverage, Manifest, Options, Resource};
pub use crate::provenance::facts::{Build, Facts, Input, Role};
pub use crate::provenance::statement::{BuildDefinition, Builder, Descriptor, Metadata, Provenance, RunDetails, Statement};
use crate::trust::{Trust, TrustedKey};
use crate::{Differences, Digest, oms};

/// The statement's file in the directory that it is about.
pub const FILE: &str = "provenance.intoto.jsonl";

/// No file of statements is longer, in bytes.
pub(crate) const LONGEST: u64 = 1 << 26;
/// No file has more lines: each costs a verification.
const MOST_LINES: usize = 1000;

/// A statement of a trusted key about the files that are there.
#[derive(Clone, Debug)]
pub struct Attested {
    /// Whose statement it is; more than one when several signed it, in one line or in several. Each key is there once.
    pub signers: Vec<TrustedKey>,
    /// What it says.
    pub statement: Statement,
    /// What was compared and what lies there uncovered.
    pub coverage: Coverage,
}

/// Makes a statement about the files of a directory, signs it and writes it there. An older one is replaced. Sign the directory afterwards.
///
/// # Errors
///
/// Facts that are missing ([`Error::BadFact`]), a file that cannot be read or covered, a directory that cannot be written.
pub fn write(root: &Path, facts: &Facts, key: &PrivateKey) -> Result<Statement> {
    let path = root.join(FILE);
    remove_unfinished(&path)?;
    let ignore = vec![FILE.to_owned(), oms::FILE.to_owned()];
    let manifest = Manifest::of(root, Options { ignore, ..Options::default() })?;
    write_manifest(&path, &manifest, facts, key)
}

/// As [`write`], about digests of whole files that were computed before.
///
/// # Errors
///
/// Facts that are missing, a directory that cannot be written.
pub fn write_manifest(path: &Path, manifest: &Manifest, facts: &Facts, key: &PrivateKey) -> Result<Statement> {
    write_line(path, manifest, facts, key).map(|(statement, _)| statement)
}

/// The same; gives the digest of the file, too.
pub(crate) fn write_line(path: &Path, manifest: &Manifest, facts: &Facts, key: &PrivateKey) -> Result<(Statement, Digest)> {
    let statement = facts.statement(manifest)?;
    let payload = serde_json::to_vec(&statement);
    let payload = payload.map_err(|error| malformed(path, "the statement", error.to_string(), "JSON"))?;
    let line = Envelope::sign(IN_TOTO, payload, key).to_json()? + "\n";
    replace(path, line.as_bytes())?;
    Ok((statement, Digest::of(line.as_bytes())))
}

/// Verifies the statements of a directory and compares every file with them. At least one holds.
///
/// # Errors
///
/// No statement ([`Error::Unsigned`]); or none that holds: then what was wrong with the first.
pub fn verify(root: &Path, trust: &Trust) -> Result<Vec<Attested>> {
    let path = root.join(FILE);
    let bytes = read_small(&path, LONGEST, || Error::Unsigned { path: path.clone() })?;
    holding(&path, &bytes, trust, |signed| signed.check(root))
}

/// Those statements of a file that a trusted key signed and that pass a check: at least one. The same statement in several lines is one.
pub(crate) fn holding(
    path: &Path,
    bytes: &[u8],
    trust: &Trust,
    check: impl Fn(Signed) -> Result<Attested>,
) -> Result<Vec<Attested>> {
    let (mut accepted, mut first_problem) = (Vec::<Attested>::new(), None);
    for signed in read_bytes(path, bytes, trust)? {
        match signed.and_then(&check) {
            Ok(attested) => match accepted.iter_mut().find(|known| known.statement == attested.statement) {
                Some(known) => known.add(attested.signers),
                None => accepted.push(attested),
            },
            Err(problem) => first_problem = first_problem.or(Some(problem)),
        }
    }
    match (accepted.is_empty(), first_problem) {
        (false, _) => Ok(accepted),
        (true, Some(problem)) => Err(problem),
        (true, None) => Err(Error::Unsigned { path: path.to_owned() }),
    }
}

impl Attested {
    fn add(&mut self, signers: Vec<TrustedKey>) {
        for signer in signers {
            if self.signers.iter().all(|known| known.key.fingerprint() != signer.key.fingerprint()) {
                self.signers.push(signer);
            }
        }
    }
}

/// A statement whose signature has been verified. The files have not been looked at yet.
#[derive(Clone, Debug)]
pub struct Signed {
    /// The file, for messages.
    pub path: PathBuf,
    /// Whose statement it is.
    pub signers: Vec<TrustedKey>,
    /// What it says.
    pub statement: Statement,
}

/// Every line of a file of statements: read and verified, or what is wrong with it. `path` is for messages.
///
/// # Errors
///
/// [`Error::Malformed`] for more lines than anybody needs.
pub fn read_bytes(path: &Path, bytes: &[u8], trust: &Trust) -> Result<Vec<Result<Signed>>> {
    let lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()).collect();
    if lines.len() > MOST_LINES {
        return Err(malformed(path, "the file", format!("{} lines", lines.len()), format!("at most {MOST_LINES}")));
    }
    Ok(lines.into_iter().map(|line| read_line(path, line, trust)).collect())
}

fn read_line(path: &Path, line: &[u8], trust: &Trust) -> Result<Signed> {
    let envelope = Envelope::parse(path, line)?;
    let signers = envelope.verify(path, IN_TOTO, trust)?.into_iter().cloned().collect();
    let statement = Statement::parse(path, &envelope.payload)?;
    Ok(Signed { path: path.to_owned(), signers, statement })
}

impl Signed {
    /// Compares every file of a directory with the statement's subjects.
    ///
    /// # Errors
    ///
    /// [`Error::Differs`] with every file that is missing, changed or not among them.
    pub fn check(self, root: &Path) -> Result<Attested> {
        let manifest = self.statement.manifest(&self.path)?;
        let (differences, coverage) = manifest.compare(root, &[FILE.to_owned(), oms::FILE.to_owned()], &[])?;
        self.attested(root, differences, coverage)
    }

    /// Compares the statement's subjects with digests of whole files that have been compared with the files of a directory.
    pub(crate) fn check_files(self, root: &Path, files: &[Resource]) -> Result<Attested> {
        let stated = self.statement.manifest(&self.path)?;
        let lines = |resources: &[Resource]| -> BTreeMap<String, Digest> {
            resources.iter().map(|resource| (resource.file.clone(), resource.digest)).collect()
        };
        let (stated, found) = (lines(&stated.resources), lines(files));
        let without = |one: &BTreeMap<String, Digest>, other: &BTreeMap<String, Digest>| -> Vec<String> {
            one.keys().filter(|name| !other.contains_key(*name)).cloned().collect()
        };
        let changed = stated.iter().filter(|(name, digest)| found.get(*name).is_some_and(|found| found != *digest));
        let changed = changed.map(|(name, _)| name.clone()).collect();
        let differences = Differences { missing: without(&stated, &found), extra: without(&found, &stated), changed };
        let coverage = Coverage { files: found.len(), ..Coverage::default() };
        self.attested(root, differences, coverage)
    }

    fn attested(self, root: &Path, differences: Differences, coverage: Coverage) -> Result<Attested> {
        if !differences.is_empty() {
            let differences = Box::new(differences);
            return Err(Error::Differs { path: root.to_owned(), signature: self.path, differences });
        }
        Ok(Attested { signers: self.signers, statement: self.statement, coverage })
    }
}

#[cfg(test)]
mod tests;
