//! A policy set on disk: rules, facts, and whose signature it carries.

use std::path::{Path, PathBuf};

use sirocco_config::OPEN_POLICY;
use sirocco_policy::{Facts, Gate, PolicyError, Rules, Source};
use sirocco_signing::oms;
use sirocco_signing::trust::Trust;

use crate::error::{CustodyError, io};

/// The rules of a set.
pub const RULES: &str = "policy.cedar";
/// Its facts.
pub const FACTS: &str = "facts.toml";
/// Its cases.
pub const CASES: &str = "cases.toml";
/// The role of a key that may sign sets, where the trusted keys have roles.
pub const SIGNS_POLICIES: &str = "policy";
/// No file of a set is longer, in bytes.
const LONGEST: u64 = 16 << 20;

/// The set that needs no files, as it was when the program was built.
const OPEN: [(&str, &str); 2] = [
    (RULES, include_str!("../../../configs/policies/open/policy.cedar")),
    (FACTS, include_str!("../../../configs/policies/open/facts.toml")),
];

/// Rules and facts as they were read.
#[derive(Clone, Debug)]
pub struct PolicySet {
    /// Where it was read.
    pub path: PathBuf,
    /// The texts, the set's own first.
    pub rules: Vec<Source>,
    /// The set's facts, then those that a user adds.
    pub facts: Vec<Source>,
    /// The key that signed the set, by its name among the trusted ones.
    pub signer: Option<String>,
}

impl PolicySet {
    /// Reads a set and the files of facts that a user adds to it. `trust` decides whose signature is seen.
    ///
    /// # Errors
    /// [`CustodyError::NoSet`], a file that cannot be read.
    pub fn read(set: &str, added: &[PathBuf], trust: Option<&Trust>) -> Result<PolicySet, CustodyError> {
        let path = PathBuf::from(set);
        let (rules, mut facts, signer) = if set == OPEN_POLICY {
            let [rules, facts] = OPEN.map(|(name, text)| vec![Source::new(name, text)]);
            (rules, facts, None)
        } else {
            expect(&path)?;
            let signer = trust.and_then(|trust| oms::verify(&path, trust).ok()).map(|verified| verified.signer.name);
            (vec![text(&path, RULES)?], vec![text(&path, FACTS)?], signer)
        };
        for file in added {
            facts.push(Source::new(file.display().to_string(), read(file)?));
        }
        Ok(PolicySet { path, rules, facts, signer })
    }

    /// Rules and facts, read against the schema.
    ///
    /// # Errors
    /// [`CustodyError::Policy`] with file, line and what was expected.
    pub fn gate(&self) -> Result<Gate, CustodyError> {
        let wrong = |source: PolicyError| CustodyError::Policy { set: self.path.clone(), source: Box::new(source) };
        Ok(Gate::new(Rules::parse(&self.rules).map_err(wrong)?, Facts::parse(&self.facts).map_err(wrong)?))
    }

    /// Refuses a set that no trusted key has signed, where somebody demands it.
    ///
    /// # Errors
    /// [`CustodyError::UnsignedSet`].
    pub fn expect_signed(&self, demanded_by: &str, trust: &Trust) -> Result<String, CustodyError> {
        let verified = oms::verify(&self.path, trust).map_err(|why| CustodyError::UnsignedSet {
            path: self.path.clone(),
            demanded_by: demanded_by.to_owned(),
            why: why.to_string(),
        })?;
        Ok(verified.signer.name)
    }
}

fn expect(path: &Path) -> Result<(), CustodyError> {
    let found = if !path.exists() {
        "nothing"
    } else if !path.is_dir() {
        "a file"
    } else {
        return Ok(());
    };
    Err(CustodyError::NoSet { path: path.to_owned(), found: found.to_owned() })
}

fn text(set: &Path, name: &str) -> Result<Source, CustodyError> {
    Ok(Source::new(name, read(&set.join(name))?))
}

fn read(path: &Path) -> Result<String, CustodyError> {
    let size = std::fs::metadata(path).map_err(io("read", path))?.len();
    if size > LONGEST {
        let found = format!("{size} bytes");
        return Err(CustodyError::Record { path: path.to_owned(), found, expected: "a text of at most 16 MiB" });
    }
    std::fs::read_to_string(path).map_err(io("read", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_open_set_needs_no_files() {
        let set = PolicySet::read(OPEN_POLICY, &[], None).unwrap();
        assert!(set.gate().unwrap().rules().iter().count() > 0);
    }

    #[test]
    fn a_set_that_is_not_there_is_named() {
        let error = PolicySet::read("/nowhere/rules", &[], None).unwrap_err().to_string();
        assert_eq!(error, "/nowhere/rules: nothing, expected a directory with policy.cedar and facts.toml");
    }

    #[test]
    fn facts_that_do_not_parse_are_told_with_file_and_line() {
        let folder = tempfile::tempdir().unwrap();
        let added = folder.path().join("mine.toml");
        std::fs::write(&added, "[data.letters]\nresidency = 3\n").unwrap();
        let error = PolicySet::read(OPEN_POLICY, std::slice::from_ref(&added), None).unwrap().gate().unwrap_err().to_string();
        assert!(error.contains("mine.toml:2"), "{error}");
    }
}
