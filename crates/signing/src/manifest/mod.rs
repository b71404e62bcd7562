//! The digests of a directory's files, as OMS v1.0 defines them, and how a directory differs from them.
//!
//! Every regular file counts, except those that are left out by name: `.git`, `.gitignore`, `.gitattributes` and `.github` at the top, the
//! signature itself, and what the signer lists. Links are refused, or with [`Options::follow_links`] read where they lead: to a file. A link to
//! a directory is always refused, because the reference implementation passes over what lies behind one without a word.

mod compare;
mod hashing;
mod walk;

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::path::Path;

use crate::error::{Error, Result};
pub use crate::manifest::compare::Coverage;
use crate::manifest::hashing::Piece;
use crate::manifest::walk::{Found, Ignored};
use crate::resource::path_problem;
pub use crate::resource::{KnownFile, Resource};
use crate::{Differences, Digest};

/// Left out at the top of every model (section 6.2).
pub const ALWAYS_IGNORED: [&str; 4] = [".git", ".gitignore", ".gitattributes", ".github"];

/// What a shard holds unless somebody says otherwise, in bytes (section 6.3.2).
pub const SHARD_SIZE: NonZeroU64 = NonZeroU64::MIN.saturating_add(999_999_999);

/// How files become lines of a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// One digest a file. Several files are read at once, each by one core.
    Files,
    /// One digest for every so many bytes of a file, so that several cores read one file. A file without bytes has no line: the specification
    /// leaves it out, and so its presence is not covered.
    Shards {
        /// Bytes of a shard; the last one of a file may have fewer.
        size: NonZeroU64,
    },
}

/// What a manifest covers and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// By file or by shard.
    pub method: Method,
    /// Paths that are left out besides [`ALWAYS_IGNORED`], relative to the directory, with all that lies under them.
    pub ignore: Vec<String>,
    /// Whether links to files are read where they lead. Otherwise a link is an error.
    pub follow_links: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { method: Method::Files, ignore: Vec::new(), follow_links: false }
    }
}

impl Options {
    /// Refuses paths to leave out that the specification does not allow (section 6.2.1).
    ///
    /// # Errors
    ///
    /// [`Error::BadIgnore`] with the entry and what is wrong with it.
    pub fn check(&self) -> Result<()> {
        self.ignore.iter().try_for_each(|entry| {
            let glob = entry.contains(['*', '?', '[']).then_some("a pattern");
            match path_problem(entry).or(glob) {
                Some(problem) => Err(Error::BadIgnore { entry: entry.clone(), problem }),
                None => Ok(()),
            }
        })
    }
}

/// The files of a directory with their digests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Name of the directory: for people, never compared.
    pub model: String,
    /// What is covered and how.
    pub options: Options,
    /// The lines, in the order in which the root digest takes them.
    pub resources: Vec<Resource>,
}

impl Manifest {
    /// Reads every file of a directory that `options` do not leave out.
    ///
    /// # Errors
    ///
    /// A file that cannot be read or covered, by its path; a directory without files; a file that changes meanwhile.
    pub fn of(root: &Path, options: Options) -> Result<Self> {
        options.check()?;
        let listing = walk::list(root, &Ignored::new(&options.ignore, &[]), options.follow_links)?;
        let pieces: Vec<Piece<'_>> = listing.files.iter().flat_map(|file| pieces(file, options.method)).collect();
        let digests = hashing::digests(&pieces)?;
        let resources = pieces.iter().zip(digests).map(|(piece, digest)| {
            let range = matches!(options.method, Method::Shards { .. }).then_some((piece.start, piece.end));
            Resource { file: piece.file.name.clone(), range, digest }
        });
        let resources = resources.collect();
        Self::new(model_name(root)?, options, resources).map_err(|error| match error {
            Error::Empty { .. } => Error::Empty { path: root.to_owned() },
            other => other,
        })
    }

    /// The same with digests of whole files, of which `known` need not be read: their writer has their digests. What lies there besides is read,
    /// so that nothing is left out because its writer forgot it. The method of `options` does not count.
    ///
    /// # Errors
    ///
    /// Those of [`Manifest::of`], and [`Error::NotAsRecorded`] where a known file is missing or has another size.
    pub fn of_known(root: &Path, options: Options, known: &[KnownFile]) -> Result<Self> {
        let options = Options { method: Method::Files, ..options };
        options.check()?;
        let mut listing = walk::list(root, &Ignored::new(&options.ignore, &[]), options.follow_links)?;
        let mut unseen: BTreeMap<&str, &KnownFile> = known.iter().map(|known| (known.file.as_str(), known)).collect();
        let (mut resources, mut differences) = (Vec::new(), Differences::default());
        listing.files.retain(|found| match unseen.remove(found.name.as_str()) {
            None => true,
            Some(known) => {
                resources.push(Resource { file: found.name.clone(), range: None, digest: known.digest });
                if known.bytes != found.size {
                    differences.changed.push(found.name.clone());
                }
                false
            }
        });
        differences.missing = unseen.into_keys().map(str::to_owned).collect();
        if !differences.is_empty() {
            return Err(Error::NotAsRecorded { path: root.to_owned(), differences: Box::new(differences) });
        }
        let rest: Vec<Piece<'_>> = listing.files.iter().flat_map(|file| pieces(file, Method::Files)).collect();
        let digests = hashing::digests(&rest)?;
        let read =
            rest.iter().zip(digests).map(|(piece, digest)| Resource { file: piece.file.name.clone(), range: None, digest });
        resources.extend(read);
        Self::new(model_name(root)?, options, resources).map_err(|error| match error {
            Error::Empty { .. } => Error::Empty { path: root.to_owned() },
            other => other,
        })
    }

    /// A manifest of digests that were computed elsewhere, say while the files were written. Brings them into the specification's order.
    ///
    /// # Errors
    ///
    /// No resource at all, or a file or shard that is there twice, or a name that is not a relative path.
    pub fn new(model: String, options: Options, mut resources: Vec<Resource>) -> Result<Self> {
        options.check()?;
        if resources.is_empty() {
            return Err(Error::Empty { path: model.into() });
        }
        resources.sort_by_cached_key(Resource::name);
        for resource in &resources {
            if let Some(problem) = path_problem(&resource.file) {
                return Err(bad_name(resource, problem));
            }
        }
        let mut pairs = resources.iter().zip(resources.iter().skip(1));
        if let Some((twice, _)) = pairs.find(|(one, next)| one.name() == next.name()) {
            return Err(bad_name(twice, "a name that is there twice"));
        }
        Ok(Self { model, options, resources })
    }

    /// One digest for names and contents: what every record, comparison and decision refers to. SHA-256 of a text with a line for each file in
    /// the order of their names: its digest, two spaces, its name. That is what `sha256sum` prints, and the summary of Go's `dirhash`, whose
    /// `Hash1` is this digest in base64. A manifest of shards has lines of shards, after a line `shards SIZE`: another digest than by files.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let lines: BTreeMap<String, Digest> = self.resources.iter().map(|resource| (resource.name(), resource.digest)).collect();
        let head = match self.options.method {
            Method::Files => String::new(),
            Method::Shards { size } => format!("shards {size}\n"),
        };
        let lines: Vec<String> = lines.iter().map(|(name, digest)| format!("{digest}  {name}\n")).collect();
        Digest::of_pieces(std::iter::once(head.as_bytes()).chain(lines.iter().map(String::as_bytes)))
    }

    /// The root digest that OMS v1.0 puts into a statement: SHA-256 of the lines' digests one after the other (section 6.5.1). It covers no
    /// names: two files that change places in the order of names have the same. For that format alone; [`Manifest::digest`] is for all else.
    #[must_use]
    pub fn oms_root_digest(&self) -> Digest {
        Digest::of_pieces(self.resources.iter().map(|resource| resource.digest.as_bytes().as_slice()))
    }

    /// Reads a directory again and says how it differs, file by file. `own` are files that no signature can cover, relative to the directory:
    /// the signature itself. `known` are files whose bytes the caller compares with digests that it has: they are not read, but their digests
    /// must be those of the manifest. Where the manifest is of shards, they are read all the same.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, or that no signature could cover (a link, a device), by its path.
    pub fn compare(&self, root: &Path, own: &[String], known: &[KnownFile]) -> Result<(Differences, Coverage)> {
        compare::compare(self, root, own, known)
    }
}

fn bad_name(resource: &Resource, found: &str) -> Error {
    Error::BadFile {
        path: resource.name().into(),
        found: found.to_owned(),
        expected: "distinct paths relative to the model's directory",
    }
}

/// How many parts of a file have a digest.
fn piece_count(size: u64, method: Method) -> u64 {
    match method {
        Method::Files => 1,
        Method::Shards { size: shard } => size.div_ceil(shard.get()),
    }
}

/// The parts of a file that have a digest each.
fn pieces(file: &Found, method: Method) -> Vec<Piece<'_>> {
    match method {
        Method::Files => vec![Piece { file, start: 0, end: file.size }],
        Method::Shards { size } => {
            let ends = (0..piece_count(file.size, method)).map(|index| {
                let start = index.saturating_mul(size.get());
                Piece { file, start, end: start.saturating_add(size.get()).min(file.size) }
            });
            ends.collect()
        }
    }
}

/// The last part of a directory's path, also of `.` and `..`.
fn model_name(root: &Path) -> Result<String> {
    let whole = match root.file_name() {
        Some(_) => root.to_owned(),
        None => root.canonicalize().map_err(crate::error::io_error("list", root))?,
    };
    let name = whole.file_name().map_or("model".into(), |name| name.to_string_lossy().into_owned());
    Ok(name)
}

#[cfg(test)]
mod tests;
