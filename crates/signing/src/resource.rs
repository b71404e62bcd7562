//! One line of a manifest: a file, or a range of its bytes, and the digest of that.

use crate::Digest;

/// A file of a model, or one shard of it, with its digest (OMS v1.0, section 5.2.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Path relative to the model's directory, with `/` between its parts.
    pub file: String,
    /// The bytes that the digest covers, first and one past the last; nothing means the whole file.
    pub range: Option<(u64, u64)>,
    /// SHA-256 of those bytes.
    pub digest: Digest,
}

impl Resource {
    /// The name that the specification gives it: `file`, or `file:start:end`.
    #[must_use]
    pub fn name(&self) -> String {
        match self.range {
            None => self.file.clone(),
            Some((start, end)) => format!("{}:{start}:{end}", self.file),
        }
    }

    /// Splits the name of a shard at its last two colons, as section 6.3.2 demands: a file's name may hold colons, too.
    pub(crate) fn split_shard(name: &str) -> Option<(&str, u64, u64)> {
        let (rest, end) = name.rsplit_once(':')?;
        let (file, start) = rest.rsplit_once(':')?;
        Some((file, decimal(start)?, decimal(end)?))
    }
}

/// A file whose digest its writer or reader knows, so that it need not be read again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownFile {
    /// Path relative to the directory, with `/` between its parts.
    pub file: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// SHA-256 of all of them.
    pub digest: Digest,
}

impl KnownFile {
    /// From a digest as 64 lowercase hexadecimal digits; nothing where it is none.
    #[must_use]
    pub fn from_hex(file: impl Into<String>, bytes: u64, sha256: &str) -> Option<Self> {
        Some(Self { file: file.into(), bytes, digest: Digest::from_hex(sha256)? })
    }
}

/// A number written the one way in which a signer writes it: digits only, no zero in front.
fn decimal(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}

/// What is wrong with a path that should be relative and canonical (section 6.1.2), if anything is.
pub(crate) fn path_problem(path: &str) -> Option<&'static str> {
    if path.is_empty() {
        return Some("an empty path");
    }
    if path.contains('\0') {
        return Some("a path with a NUL character");
    }
    // Digests of names are over lines: see Manifest::digest.
    if path.contains('\n') {
        return Some("a path with a line break");
    }
    path.split('/').find_map(|part| match part {
        "" => Some("a path that begins or ends with / or has // in it"),
        "." => Some("a path with . in it"),
        ".." => Some("a path with .. in it"),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_is_split_at_its_last_two_colons() {
        assert_eq!(Resource::split_shard("a:b:0:10"), Some(("a:b", 0, 10)));
        assert_eq!(Resource::split_shard("w.bin:10:20"), Some(("w.bin", 10, 20)));
        for bad in ["w.bin", "w.bin:10", "w:a:b", "w:01:2", "w:+1:2", "w:1:", "w:1:99999999999999999999"] {
            assert_eq!(Resource::split_shard(bad), None, "{bad}");
        }
    }

    #[test]
    fn names_are_written_as_they_are_read() {
        let digest = Digest::of(b"");
        let shard = Resource { file: "a:b/c".into(), range: Some((5, 7)), digest };
        assert_eq!(Resource::split_shard(&shard.name()), Some(("a:b/c", 5, 7)));
        assert_eq!(Resource { range: None, ..shard }.name(), "a:b/c");
    }

    #[test]
    fn only_canonical_relative_paths_pass() {
        for good in ["a", "a/b.c", "...", "a b", "é/ü", "a:b", "a\\b", ".hidden"] {
            assert_eq!(path_problem(good), None, "{good}");
        }
        for bad in ["", "/a", "a/", "a//b", "./a", "a/./b", "../a", "a/..", "a\0b", "a\nb"] {
            assert!(path_problem(bad).is_some(), "{bad}");
        }
    }
}
