//! A directory beside the manifest that should describe it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::error::Result;
use crate::manifest::hashing::{self, Piece};
use crate::manifest::walk::{self, Found, Ignored};
use crate::manifest::{KnownFile, Manifest, Method, piece_count, pieces};
use crate::{Differences, Digest};

/// What a comparison looked at, and what it could not cover.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Files whose bytes were compared.
    pub files: usize,
    /// Bytes of those.
    pub bytes: u64,
    /// What lies in the directory and is not covered: left out by name, or, with shards, a file without bytes. A directory ends with `/`.
    pub uncovered: Vec<String>,
    /// Links that lead out of the directory. What they lead to was compared.
    pub outside: Vec<String>,
}

/// What is signed of one file: its ranges, or nothing for the whole, with their digests.
type Lines = Vec<(Option<(u64, u64)>, Digest)>;

pub(super) fn compare(manifest: &Manifest, root: &Path, own: &[String], known: &[KnownFile]) -> Result<(Differences, Coverage)> {
    let files = manifest.resources.iter().map(|resource| resource.file.as_str());
    let ignored = Ignored::new(&manifest.options.ignore, own).but_for(files);
    let listing = walk::list(root, &ignored, manifest.options.follow_links)?;
    let mut signed = BTreeMap::<&str, Lines>::new();
    for resource in &manifest.resources {
        signed.entry(&resource.file).or_default().push((resource.range, resource.digest));
    }
    let names: BTreeSet<&str> = signed.keys().copied().collect();
    let mut coverage = Coverage { uncovered: listing.uncovered, outside: listing.outside, ..Coverage::default() };
    let (mut differences, mut both) = (Differences::default(), Vec::new());
    for file in &listing.files {
        match signed.remove(file.name.as_str()) {
            Some(lines) => both.push((file, lines)),
            None if file.size == 0 && manifest.options.method != Method::Files => coverage.uncovered.push(file.name.clone()),
            None => differences.extra.push(file.name.clone()),
        }
    }
    // What the caller relies on and nobody signed is as wrong as what is signed and not there.
    differences.extra.extend(known.iter().filter(|known| !names.contains(known.file.as_str())).map(|known| known.file.clone()));
    differences.extra.sort_unstable();
    differences.extra.dedup();
    differences.missing = signed.into_keys().map(str::to_owned).collect();
    coverage.files = both.len();
    coverage.bytes = both.iter().fold(0, |sum, (file, _)| sum.saturating_add(file.size));
    coverage.uncovered.sort_unstable();
    let known: BTreeMap<&str, &KnownFile> = match manifest.options.method {
        Method::Files => known.iter().map(|known| (known.file.as_str(), known)).collect(),
        Method::Shards { .. } => BTreeMap::new(),
    };
    let (to_read, recorded): (Vec<_>, Vec<_>) = both.into_iter().partition(|(file, _)| !known.contains_key(file.name.as_str()));
    differences.changed = changed(to_read, manifest.options.method)?;
    let differs = |(file, lines): &(&Found, Lines)| {
        let known = known.get(file.name.as_str());
        known.is_none_or(|known| known.bytes != file.size || lines.iter().any(|(_, digest)| *digest != known.digest))
    };
    differences.changed.extend(recorded.iter().filter(|pair| differs(pair)).map(|(file, _)| file.name.clone()));
    differences.changed.sort_unstable();
    Ok((differences, coverage))
}

/// The names of those files that do not have the signed bytes, sorted.
fn changed(files: Vec<(&Found, Lines)>, method: Method) -> Result<Vec<String>> {
    let mut changed = Vec::new();
    let (mut work, mut expected): (Vec<Piece<'_>>, Vec<Digest>) = (Vec::new(), Vec::new());
    for (file, mut lines) in files {
        // Counted first: a signature with shards of one byte must not make a list as long as the file.
        let parts = if piece_count(file.size, method) == lines.len() as u64 { pieces(file, method) } else { Vec::new() };
        lines.sort_unstable_by_key(|(range, _)| *range);
        let same_ranges = parts.len() == lines.len()
            && parts.iter().zip(&lines).all(|(part, (range, _))| range.is_none_or(|range| range == (part.start, part.end)));
        if same_ranges {
            work.extend(parts);
            expected.extend(lines.iter().map(|(_, digest)| *digest));
        } else {
            changed.push(file.name.clone());
        }
    }
    let found = hashing::digests(&work)?;
    let wrong = work.iter().zip(found.iter().zip(&expected)).filter(|(_, (found, expected))| found != expected);
    changed.extend(wrong.map(|(piece, _)| piece.file.name.clone()));
    changed.sort_unstable();
    changed.dedup();
    Ok(changed)
}
