//! The manifest of a policy directory: its files and their digests as one text, which the caller signs and keeps beside them.
//!
//! The text is a line `sirocco policy manifest v1`, then for each file, in the order of their names, its SHA-256 digest, two spaces
//! and its name. It ends with a newline and has no empty line, so that it can be the text of a C2SP signed note.

use std::collections::BTreeMap;

use thiserror::Error;

use crate::digest::Sha256Digest;
use crate::source::Source;

const HEAD: &str = "sirocco policy manifest v1";

/// Files and their digests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    files: BTreeMap<String, Sha256Digest>,
}

/// Why a manifest is none, or does not describe the files.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ManifestError {
    /// A name that cannot stand in a manifest.
    #[error(
        "the file name {name:?}: expected a name inside the policy directory, without control characters, \"..\" or a leading /"
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
    /// A line that does not belong there.
    #[error("line {line} of the manifest: found {found:?}, expected {expected}")]
    Line {
        /// The line, from 1.
        line: usize,
        /// What it says.
        found: String,
        /// What it has to say.
        expected: String,
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
    /// The manifest of these files.
    ///
    /// # Errors
    /// A name that cannot stand in it, or that is there twice.
    pub fn of(sources: &[Source]) -> Result<Manifest, ManifestError> {
        let mut files = BTreeMap::new();
        for source in sources {
            check_name(&source.name)?;
            if files.insert(source.name.clone(), Sha256Digest::of(source.text.as_bytes())).is_some() {
                return Err(ManifestError::Twice { name: source.name.clone() });
            }
        }
        Ok(Manifest { files })
    }

    /// The text to sign.
    pub fn text(&self) -> String {
        let lines = self.files.iter().map(|(name, digest)| format!("{digest}  {name}\n"));
        format!("{HEAD}\n") + &lines.collect::<String>()
    }

    /// The digest of [`Manifest::text`].
    pub fn digest(&self) -> Sha256Digest {
        Sha256Digest::of(self.text().as_bytes())
    }

    /// Reads a manifest. Only the text that [`Manifest::text`] writes is one, so that two readers never differ about it.
    ///
    /// # Errors
    /// The first line that does not belong there.
    pub fn parse(text: &str) -> Result<Manifest, ManifestError> {
        let wrong = |line: usize, found: &str, expected: &str| ManifestError::Line {
            line,
            found: found.to_owned(),
            expected: expected.to_owned(),
        };
        let mut lines = text.split_inclusive('\n').zip(1..);
        match lines.next() {
            Some((line, _)) if line.strip_suffix('\n') == Some(HEAD) => {}
            other => return Err(wrong(1, other.map_or("", |(line, _)| line), HEAD)),
        }
        let mut files: BTreeMap<String, Sha256Digest> = BTreeMap::new();
        for (line, number) in lines {
            let entry = line.strip_suffix('\n').and_then(|line| line.split_once("  "));
            let entry = entry.and_then(|(digest, name)| Some((digest.parse::<Sha256Digest>().ok()?, name)));
            let (digest, name) = entry.ok_or_else(|| wrong(number, line, "a digest, two spaces, a file name and a newline"))?;
            check_name(name)?;
            if files.last_key_value().is_some_and(|(last, _)| last.as_str() >= name) {
                return Err(wrong(number, line, "files in the order of their names, each once"));
            }
            files.insert(name.to_owned(), digest);
        }
        Ok(Manifest { files })
    }

    /// Are these files, and no others, those of the manifest?
    ///
    /// # Errors
    /// Every file that was changed, that is missing and that is not listed.
    pub fn check(&self, sources: &[Source]) -> Result<(), ManifestError> {
        let found = Manifest::of(sources)?;
        let names =
            |of: &Manifest, wanted: &dyn Fn(&String) -> bool| of.files.keys().filter(|name| wanted(name)).cloned().collect();
        let changed = |name: &String| found.files.get(name).is_some_and(|digest| self.files.get(name) != Some(digest));
        let changed: Vec<_> = names(self, &changed);
        let missing: Vec<_> = names(self, &|name| !found.files.contains_key(name));
        let extra: Vec<_> = names(&found, &|name| !self.files.contains_key(name));
        match changed.is_empty() && missing.is_empty() && extra.is_empty() {
            true => Ok(()),
            false => Err(ManifestError::Differs { changed, missing, extra }),
        }
    }
}

fn check_name(name: &str) -> Result<(), ManifestError> {
    let inside = name.split('/').all(|part| !matches!(part, "" | "." | ".."));
    let plain = !name.chars().any(char::is_control) && name.trim() == name;
    if inside && plain { Ok(()) } else { Err(ManifestError::Name { name: name.to_owned() }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> Vec<Source> {
        vec![Source::new("policy.cedar", "b"), Source::new("facts.toml", "a"), Source::new("more/cases.toml", "c")]
    }

    #[test]
    fn the_text_is_canonical_and_comes_back() {
        let manifest = Manifest::of(&files()).unwrap();
        let text = manifest.text();
        assert_eq!(Manifest::parse(&text), Ok(manifest.clone()));
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], HEAD);
        assert_eq!(lines[1], format!("{}  facts.toml", Sha256Digest::of(b"a")));
        assert_eq!(lines.len(), 4);
        let mut turned = files();
        turned.reverse();
        assert_eq!(Manifest::of(&turned), Ok(manifest));
    }

    #[test]
    fn every_changed_byte_of_the_text_is_refused_or_another_manifest() {
        let manifest = Manifest::of(&files()).unwrap();
        let text = manifest.text();
        for index in 0..text.len() {
            for byte in *b"\n a0/" {
                let mut bytes = text.clone().into_bytes();
                if bytes[index] != byte {
                    bytes[index] = byte;
                    let other = String::from_utf8(bytes).unwrap();
                    assert_ne!(Manifest::parse(&other), Ok(manifest.clone()), "{index} {byte}");
                }
            }
            assert_ne!(Manifest::parse(&text[..index]), Ok(manifest.clone()), "cut off at {index}");
        }
    }

    #[test]
    fn a_check_names_every_difference() {
        let manifest = Manifest::of(&files()).unwrap();
        assert_eq!(manifest.check(&files()), Ok(()));
        let mut other = files();
        other[0].text.push('!');
        other[1].name = "facts2.toml".to_owned();
        let error = manifest.check(&other).unwrap_err().to_string();
        assert!(error.ends_with("changed: policy.cedar; missing: facts.toml; not listed: facts2.toml"), "{error}");
    }

    #[test]
    fn names_that_lead_outside_are_refused() {
        for name in ["", "/a", "../a", "a/../b", "a\nb", " a", "a//b", "./a"] {
            let refused = Manifest::of(&[Source::new(name, "")]);
            assert!(matches!(refused, Err(ManifestError::Name { .. })), "{name:?}");
        }
        let twice = [Source::new("a", ""), Source::new("a", "")];
        assert!(matches!(Manifest::of(&twice), Err(ManifestError::Twice { .. })));
    }
}
