//! The manifest of a directory: its files and their digests as one text, whose digest stands for the directory.
//!
//! The text is what `sha256sum` prints: for each file, in the order of their names, its SHA-256 digest in hexadecimal, two spaces, its name
//! from within the directory, and a newline. So anybody can compute the digest of a directory without this program:
//! `cd DIR && find -L . -type f -printf '%P\0' | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum`.

use std::collections::BTreeMap;

use thiserror::Error;

use crate::digest::Sha256Digest;
use crate::source::Source;

/// Files and their digests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    files: BTreeMap<String, Sha256Digest>,
}

/// Why there is no manifest, or another one.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ManifestError {
    /// A name that cannot stand in a manifest.
    #[error(
        "the file name {name:?}: expected a name inside the directory, without control characters, backslash, \"..\" or a leading /"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// One name twice.
    #[error("the file {name} is there twice: expected each file once")]
    Twice {
        /// The name.
        name: String,
    },
    /// Files that are not those of the manifest.
    #[error("the files are not those of the manifest: {}", words(changed, missing, extra))]
    Differs {
        /// Files with other bytes.
        changed: Vec<String>,
        /// Files that the manifest names and that are not there.
        missing: Vec<String>,
        /// Files that are there and that the manifest does not name.
        extra: Vec<String>,
    },
}

fn words(changed: &[String], missing: &[String], extra: &[String]) -> String {
    let part = |what: &str, names: &[String]| (!names.is_empty()).then(|| format!("{what}: {}", names.join(", ")));
    [part("changed", changed), part("missing", missing), part("not listed", extra)]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join("; ")
}

impl Manifest {
    /// The manifest of these texts.
    ///
    /// # Errors
    /// A name that cannot stand in it, or that is there twice.
    pub fn of(sources: &[Source]) -> Result<Manifest, ManifestError> {
        Manifest::of_digests(sources.iter().map(|source| (source.name.clone(), Sha256Digest::of(source.text.as_bytes()))))
    }

    /// The manifest of files whose digests were computed elsewhere, by their names within the directory.
    ///
    /// # Errors
    /// A name that cannot stand in it, or that is there twice.
    pub fn of_digests(digests: impl IntoIterator<Item = (String, Sha256Digest)>) -> Result<Manifest, ManifestError> {
        let mut files = BTreeMap::new();
        for (name, digest) in digests {
            check_name(&name)?;
            if files.insert(name.clone(), digest).is_some() {
                return Err(ManifestError::Twice { name });
            }
        }
        Ok(Manifest { files })
    }

    /// A line for each file, as `sha256sum` prints it.
    pub fn text(&self) -> String {
        self.files.iter().map(|(name, digest)| format!("{digest}  {name}\n")).collect()
    }

    /// The digest of [`Manifest::text`]: that of the directory.
    pub fn digest(&self) -> Sha256Digest {
        Sha256Digest::of(self.text().as_bytes())
    }

    /// The same with those files only whose names are wanted.
    pub(crate) fn only(self, wanted: impl Fn(&str) -> bool) -> Manifest {
        Manifest { files: self.files.into_iter().filter(|(name, _)| wanted(name)).collect() }
    }

    /// Are these files, and no others, those of `expected`?
    ///
    /// # Errors
    /// Every file that was changed, that is missing and that is not listed.
    pub fn check_against(&self, expected: &Manifest) -> Result<(), ManifestError> {
        let names = |of: &Manifest, other: &Manifest| -> Vec<String> {
            of.files.keys().filter(|name| !other.files.contains_key(*name)).cloned().collect()
        };
        let other = |(name, digest): &(&String, &Sha256Digest)| expected.files.get(*name).is_some_and(|known| known != *digest);
        let changed: Vec<_> = self.files.iter().filter(other).map(|(name, _)| name.clone()).collect();
        let (missing, extra) = (names(expected, self), names(self, expected));
        match changed.is_empty() && missing.is_empty() && extra.is_empty() {
            true => Ok(()),
            false => Err(ManifestError::Differs { changed, missing, extra }),
        }
    }
}

fn check_name(name: &str) -> Result<(), ManifestError> {
    let inside = name.split('/').all(|part| !matches!(part, "" | "." | ".."));
    let plain = !name.chars().any(|letter| letter.is_control() || letter == '\\') && name.trim() == name;
    if inside && plain { Ok(()) } else { Err(ManifestError::Name { name: name.to_owned() }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> Vec<Source> {
        vec![Source::new("policy.cedar", "b"), Source::new("facts.toml", "a"), Source::new("more/cases.toml", "c")]
    }

    /// Made with GNU coreutils: `find -L . -type f -printf '%P\\0' | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum` over these files.
    #[test]
    fn the_digest_of_a_directory_is_the_one_that_coreutils_compute() {
        let manifest = Manifest::of(&files()).unwrap();
        assert_eq!(manifest.digest().to_string(), "47d23093eedb60fd3569ea544ec05e16d4b162df65e727b99e215812237a04b5");
        let mut turned = files();
        turned.reverse();
        assert_eq!(Manifest::of(&turned), Ok(manifest));
    }

    #[test]
    fn every_changed_byte_or_name_is_another_digest() {
        let digest = Manifest::of(&files()).unwrap().digest();
        for index in 0..files().len() {
            let mut bytes = files();
            bytes[index].text.push('!');
            let mut names = files();
            names[index].name.push('!');
            let mut fewer = files();
            fewer.remove(index);
            for other in [bytes, names, fewer] {
                assert_ne!(Manifest::of(&other).unwrap().digest(), digest);
            }
        }
    }

    #[test]
    fn a_check_names_every_difference() {
        let manifest = Manifest::of(&files()).unwrap();
        assert_eq!(manifest.check_against(&manifest), Ok(()));
        let mut other = files();
        other[0].text.push('!');
        other[1].name = "facts2.toml".to_owned();
        let error = Manifest::of(&other).unwrap().check_against(&manifest).unwrap_err().to_string();
        assert!(error.ends_with("changed: policy.cedar; missing: facts.toml; not listed: facts2.toml"), "{error}");
    }

    #[test]
    fn names_that_lead_outside_are_refused() {
        for name in ["", "/a", "../a", "a/../b", "a\nb", " a", "a//b", "./a", "a\\b"] {
            let refused = Manifest::of(&[Source::new(name, "")]);
            assert!(matches!(refused, Err(ManifestError::Name { .. })), "{name:?}");
        }
        let twice = [Source::new("a", ""), Source::new("a", "")];
        assert!(matches!(Manifest::of(&twice), Err(ManifestError::Twice { .. })));
    }
}
