//! Names of files in a bundle. Whoever signed it is trusted for what the files are, and not for where they are written: a name leads nowhere
//! but into the bundle's own directory, on every file system.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// No part of a path is longer on the usual file systems, in bytes.
const LONGEST: usize = 255;

/// What is wrong with a name, if anything is.
pub(crate) fn problem(name: &str) -> Option<&'static str> {
    if name.starts_with('/') {
        return Some("an absolute path");
    }
    name.split('/').find_map(|part| match part {
        "" => Some("a path with an empty part"),
        "." | ".." => Some("a path that leads elsewhere"),
        part if part.len() > LONGEST => Some("a part of a path that is longer than file systems have"),
        part if part.contains('\\') || part.contains(char::is_control) => Some("a path with a control character or a backslash"),
        _ => None,
    })
}

/// The names that were seen, as a file system sees them that knows no case.
#[derive(Default)]
pub(crate) struct Seen {
    /// Lowercase → as written, and whether it is a file.
    paths: BTreeMap<String, (String, bool)>,
}

impl Seen {
    /// Takes in the name of a file; otherwise, which name it is in the way of.
    pub(crate) fn take(&mut self, name: &str) -> Result<(), String> {
        let ends = name.match_indices('/').map(|(at, _)| (at, false)).chain([(name.len(), true)]);
        for (end, is_file) in ends {
            let path = name.get(..end).unwrap_or_default();
            match self.paths.entry(path.to_lowercase()) {
                Entry::Vacant(free) => drop(free.insert((path.to_owned(), is_file))),
                // A directory may be named by many files, a file by one alone.
                Entry::Occupied(taken) if is_file || taken.get().1 || taken.get().0 != path => {
                    return Err(taken.get().0.clone());
                }
                Entry::Occupied(_) => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_stay_inside_pass() {
        for good in ["a", "parts/a.b/c", "...", "é ü", ".hidden", "a:b"] {
            assert_eq!(problem(good), None, "{good}");
        }
        for bad in ["", "/a", "a/", "a//b", "./a", "a/./b", "..", "a/..", "a/../b", "a\\b", "a\0b", "a\nb", &"n".repeat(256)] {
            assert!(problem(bad).is_some(), "{bad:?}");
        }
    }

    #[test]
    fn names_are_told_apart_without_case() {
        let in_way = |names: &[&str]| {
            let mut seen = Seen::default();
            names.iter().find_map(|name| seen.take(name).err())
        };
        assert_eq!(in_way(&["a", "b/a", "b/c", "b/d/e", "c"]), None);
        for names in [["a", "a"], ["a", "A"], ["a", "a/b"], ["A", "a/b"], ["a/b", "a"], ["b/x", "B/y"], ["é", "É"]] {
            assert!(in_way(&names).is_some(), "{names:?}");
        }
    }
}
