//! Bytes and places that the facts describe: one artefact may be known under several names, and then all of them have a say.

use std::path::{Component, Path};

use crate::digest::Sha256Digest;
use crate::facts::{Described, Facts};
use crate::name::{Kind, Name};
use crate::request::Request;

/// How an artefact is what another name describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Same {
    /// The bytes have the digest that is described.
    Bytes,
    /// It lies where that is said to lie, and its bytes have another digest.
    OtherBytes,
    /// It lies where that is said to lie.
    Place,
    /// It is a part of that.
    Part,
    /// It has that for a part.
    Whole,
}

impl Same {
    /// Is everything in the artefact described by it?
    pub(crate) fn covers(self) -> bool {
        self != Same::Whole
    }
}

/// Another description that speaks of the same bytes or of the same place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Twin {
    pub(crate) name: Name,
    pub(crate) same: Same,
}

impl Facts {
    /// The name under which the facts know what lies at `path` and has this digest: by the digest, or else by the place. What the set
    /// describes comes before what a user describes. `None`: nothing describes just this. Then any name will do, such as the path: with the
    /// path in [`Request::paths`], what describes a directory around it still has its say.
    ///
    /// Paths are compared as they are written, from one and the same directory; who asks has resolved links.
    pub fn known_as(&self, kind: Kind, path: Option<&str>, sha256: Option<&Sha256Digest>) -> Option<Name> {
        let found = |is: &dyn Fn(&Described) -> bool| {
            let mut all = self.every().filter(|(name, described)| name.kind == kind && is(described));
            all.next().map(|(name, _)| name)
        };
        let bytes = |described: &Described| sha256.is_some() && described.sha256.as_ref() == sha256;
        let place = |described: &Described| same_place(path, described.path.as_deref()) == Some(Same::Place);
        found(&bytes).or_else(|| found(&place))
    }

    /// Every other description of what the request calls `name`.
    pub(crate) fn twins(&self, name: &Name, request: &Request) -> Vec<Twin> {
        let own = self.described(name);
        let measured = request.digests.get(name).copied();
        let digests = [measured, own.and_then(|own| own.sha256)];
        let paths = [request.paths.get(name).map(String::as_str), own.and_then(|own| own.path.as_deref())];
        let others = self.every().filter(|(other, _)| other != name);
        let twins = others.filter_map(|(name, described)| {
            if described.sha256.is_some() && digests.contains(&described.sha256) {
                return Some(Twin { name, same: Same::Bytes });
            }
            let place = paths.into_iter().filter_map(|path| same_place(path, described.path.as_deref()));
            let same = place.min()?;
            let differs = same == Same::Place && measured.is_some() && described.sha256.is_some();
            Some(Twin { name, same: if differs { Same::OtherBytes } else { same } })
        });
        twins.collect()
    }
}

/// How one place lies to another that is described; `None` if they have nothing in common.
fn same_place(path: Option<&str>, described: Option<&str>) -> Option<Same> {
    let (path, described) = (plain(path?)?, plain(described?)?);
    match (path.starts_with(&described), described.starts_with(&path)) {
        (true, true) => Some(Same::Place),
        (true, false) => Some(Same::Part),
        (false, true) => Some(Same::Whole),
        (false, false) => None,
    }
}

/// The parts of a path; `..` takes back what stands before it.
fn plain(path: &str) -> Option<Vec<Component<'_>>> {
    let mut parts = Vec::new();
    for part in Path::new(path).components() {
        match (part, parts.last()) {
            (Component::CurDir, _) => {}
            (Component::ParentDir, Some(Component::Normal(_))) => drop(parts.pop()),
            _ => parts.push(part),
        }
    }
    // An empty list would be a part of everything.
    (!parts.is_empty()).then_some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Source;

    #[test]
    fn places_are_compared_by_their_parts() {
        let same = |a, b| same_place(Some(a), Some(b));
        assert_eq!(same("data/a", "./data//a/"), Some(Same::Place));
        assert_eq!(same("data/b/../a", "data/a"), Some(Same::Place));
        assert_eq!(same("data/a/part-1", "data/a"), Some(Same::Part));
        assert_eq!(same("data", "data/a"), Some(Same::Whole));
        for (a, b) in [("data/ab", "data/a"), ("/data/a", "data/a"), ("", "data/a"), (".", "data/a"), ("../a", "a")] {
            assert_eq!(same(a, b), None, "{a:?} {b:?}");
        }
        assert_eq!((same_place(None, Some("a")), same_place(Some("a"), None)), (None, None));
    }

    #[test]
    fn facts_are_found_by_digest_then_by_place_and_the_sets_come_first() {
        let [one, two, three] = [b"1", b"2", b"3"].map(|bytes| Sha256Digest::of(bytes));
        let set = format!(
            "[data.m]\npath = \"data/m\"\nsha256 = \"{one}\"\n[data.n]\npath = \"data/n\"\n[model.n]\npath = \"data/n\"\n"
        );
        let own = format!("[data.a]\nsha256 = \"{one}\"\n[data.b]\nsha256 = \"{two}\"\n[data.c]\npath = \"data/n\"\n");
        let facts = Facts::parse(&[Source::new("facts.toml", set)]).unwrap().with_own(&[Source::new("own.toml", own)]).unwrap();
        let known = |path, sha256| facts.known_as(Kind::Data, path, sha256).map(|name| name.name);
        assert_eq!(known(None, Some(&one)).as_deref(), Some("m"));
        assert_eq!(known(Some("data/m"), Some(&two)).as_deref(), Some("b"), "the bytes say more than the place");
        assert_eq!(known(Some("data/n"), None).as_deref(), Some("n"));
        assert_eq!(known(Some("data/n/part-1"), Some(&three)), None, "a part is not the whole");
        assert_eq!(known(Some("data"), Some(&three)), None);
        assert_eq!(facts.known_as(Kind::Model, None, Some(&one)), None, "another kind");
    }
}
