//! Whom to believe: a directory with one public key a file, and which key may sign what.
//!
//! `NAME.pub` or `NAME.pem` is the key of NAME. A file `roles.json` beside them, when it is there, says what each key is for:
//!
//! ```json
//! { "ministry": ["policy", "release"], "training-cluster": ["checkpoint"] }
//! ```
//!
//! A key that it does not mention has no role. To withdraw trust, remove the file. The programs ask for the roles in [`role`].

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use crate::distinct::Distinct;
use crate::error::{Error, Result, io_error, malformed};
use crate::files::read_small;
use crate::keys::{Fingerprint, PUBLIC, PublicKey};

/// The file of roles.
pub const ROLES: &str = "roles.json";

/// What keys are for, as the programs ask for it.
pub mod role {
    /// Checkpoints of a run: what a run goes on from and what is exported.
    pub const CHECKPOINT: &str = "checkpoint";
    /// Adapters and models that are handed on: exports, and what is served.
    pub const RELEASE: &str = "release";
    /// Base models and adapters that came from elsewhere.
    pub const IMPORT: &str = "import";
    /// Directories of rules.
    pub const POLICY: &str = "policy";
    /// Approvals: the name of the key is the name of the person.
    pub const APPROVE: &str = "approve";
}

/// No file of roles is longer, in bytes.
const LONGEST: u64 = 1 << 20;

/// A public key with its name and what it may sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedKey {
    /// Name of the file without its ending.
    pub name: String,
    /// The key.
    pub key: PublicKey,
    /// What it is for; empty where there is no file of roles.
    pub roles: BTreeSet<String>,
}

/// A set of public keys. There is at least one.
#[derive(Clone, Debug)]
pub struct Trust {
    keys: BTreeMap<Fingerprint, TrustedKey>,
    /// Where they came from, for messages.
    source: PathBuf,
}

impl Trust {
    /// Reads a directory of keys.
    ///
    /// # Errors
    ///
    /// A file that is no public key (a private key has no business there); one key under two names; one name with two keys; roles of a key that
    /// is not there, or twice; no key at all.
    pub fn read(directory: &Path) -> Result<Self> {
        let mut paths = Vec::new();
        for entry in fs::read_dir(directory).map_err(io_error("list", directory))? {
            let path = entry.map_err(io_error("list", directory))?.path();
            if path.extension().is_some_and(|ending| ending == PUBLIC || ending == "pem") {
                paths.push(path);
            }
        }
        paths.sort_unstable();
        let (mut keys, mut names) = (BTreeMap::new(), BTreeSet::new());
        for path in paths {
            let trusted = TrustedKey { name: name_of(&path)?, key: PublicKey::read(&path)?, roles: BTreeSet::new() };
            let name = trusted.name.clone();
            if !names.insert(name.clone()) {
                let found = format!("a second file for the name {name}");
                return Err(Error::BadTrust { path, found, expected: "NAME.pub or NAME.pem, not both" });
            }
            if let Some(other) = keys.insert(trusted.key.fingerprint(), trusted) {
                let found = format!("the key of {} under the name {name} as well", other.name);
                return Err(Error::BadTrust { path, found, expected: "one file for each key" });
            }
        }
        let expected = "at least one public key in PEM, NAME.pub or NAME.pem";
        if keys.is_empty() {
            return Err(Error::BadTrust { path: directory.to_owned(), found: "no key".to_owned(), expected });
        }
        let mut trust = Self { keys, source: directory.to_owned() };
        trust.take_roles(&directory.join(ROLES))?;
        Ok(trust)
    }

    /// One key alone, say from a file that was named on a command line. It has no role.
    #[must_use]
    pub fn only(name: impl Into<String>, key: PublicKey) -> Self {
        let trusted = TrustedKey { name: name.into(), roles: BTreeSet::new(), key };
        let source = PathBuf::from(&trusted.name);
        Self { keys: BTreeMap::from([(trusted.key.fingerprint(), trusted)]), source }
    }

    /// Those keys of the set that have a role.
    ///
    /// # Errors
    ///
    /// [`Error::BadTrust`] when none has it.
    pub fn with_role(&self, role: &str) -> Result<Self> {
        let keys = self.keys.iter().filter(|(_, key)| key.roles.contains(role));
        let keys: BTreeMap<_, _> = keys.map(|(fingerprint, key)| (*fingerprint, key.clone())).collect();
        if keys.is_empty() {
            let found = format!("no key with the role {role}");
            return Err(Error::BadTrust { path: self.source.clone(), found, expected: "at least one, named in roles.json" });
        }
        Ok(Self { keys, source: self.source.clone() })
    }

    /// This set under another that is above it: a role that `upper` gives to any key is had by its keys alone, and the others are given here.
    /// A key here whose name is that of another key above is left out, because signatures are told by names.
    #[must_use]
    pub fn under(mut self, upper: &Trust) -> Self {
        let given: BTreeSet<&String> = upper.keys.values().flat_map(|key| &key.roles).collect();
        for key in self.keys.values_mut() {
            key.roles.retain(|role| !given.contains(role));
        }
        let names: BTreeSet<&String> = upper.keys.values().map(|key| &key.name).collect();
        self.keys.retain(|fingerprint, key| upper.keys.contains_key(fingerprint) || !names.contains(&key.name));
        for (fingerprint, key) in &upper.keys {
            let own = self.keys.entry(*fingerprint).or_insert_with(|| TrustedKey { roles: BTreeSet::new(), ..key.clone() });
            own.name.clone_from(&key.name);
            own.roles.extend(key.roles.iter().cloned());
        }
        self
    }

    /// The keys, by fingerprint.
    pub fn keys(&self) -> impl Iterator<Item = &TrustedKey> {
        self.keys.values()
    }

    /// The key with this fingerprint.
    #[must_use]
    pub fn get(&self, fingerprint: &Fingerprint) -> Option<&TrustedKey> {
        self.keys.get(fingerprint)
    }

    fn take_roles(&mut self, path: &Path) -> Result<()> {
        if !path.try_exists().map_err(io_error("read", path))? {
            return Ok(());
        }
        let bytes = read_small(path, LONGEST, || Error::Unsigned { path: path.to_owned() })?;
        let expected = "an object: name of a key → list of its roles";
        let parsed = serde_json::from_slice(&bytes);
        let Distinct(roles): Distinct<BTreeSet<String>> =
            parsed.map_err(|error| malformed(path, "the file", error.to_string(), expected))?;
        for (name, roles) in roles {
            let key = self.keys.values_mut().find(|key| key.name == name).ok_or_else(|| Error::BadTrust {
                path: path.to_owned(),
                found: format!("roles of {name:?}"),
                expected: "only names of keys that lie beside it",
            })?;
            key.roles = roles;
        }
        Ok(())
    }

    /// Names and fingerprints, to be read.
    pub(crate) fn list(&self) -> String {
        let list: Vec<_> = self.keys.iter().map(|(fingerprint, key)| format!("{} ({fingerprint})", key.name)).collect();
        list.join(", ")
    }
}

fn name_of(path: &Path) -> Result<String> {
    let name = path.file_stem().and_then(OsStr::to_str);
    name.map(str::to_owned).ok_or_else(|| Error::BadTrust {
        path: path.to_owned(),
        found: "a name that is not UTF-8".to_owned(),
        expected: "a name that can be shown",
    })
}

#[cfg(test)]
mod tests;
