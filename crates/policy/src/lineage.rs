//! Lineage: what an artefact was made from, down to what the facts describe, and the labels that it inherits.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::PolicyError;
use crate::facts::Facts;
use crate::known::{Same, Twin};
use crate::labels::Labels;
use crate::name::Name;
use crate::request::Request;

/// One artefact of a lineage that brings labels of its own, or should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) name: Name,
    /// What it brings; nothing known if nothing says what it is.
    pub(crate) labels: Labels,
    /// Where that stands.
    pub(crate) told_by: ToldBy,
}

/// Where labels come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ToldBy {
    Facts,
    Record,
    /// The facts describe something with this name, but other bytes.
    OtherBytes,
    /// Only a record says what it is, and nobody verified that.
    Unverified,
    Nobody,
}

/// What an artefact is made from, at whatever distance.
type Parents = BTreeMap<Name, BTreeSet<Name>>;

/// An artefact, all that it was made from, and what it inherits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lineage {
    /// The strictest labels of all origins.
    pub(crate) labels: Labels,
    pub(crate) origins: Vec<Origin>,
    /// Every artefact with those that it is made from, itself and every other name of each included.
    pub(crate) parents: Parents,
    /// Artefacts of which nothing says what they were made from.
    pub(crate) unknown: Vec<Name>,
    /// Do all bytes that the facts name a digest of have it? `None`: not measured, and it is only a plan.
    pub(crate) verified: Option<bool>,
    /// Does it rest on a description by a user?
    pub(crate) by_user: bool,
}

impl Lineage {
    /// Follows the lineage of the request's artefact.
    pub(crate) fn of(request: &Request, facts: &Facts) -> Result<Lineage, PolicyError> {
        let (parents, twins) = closure(request, facts)?;
        let known = Known { request, facts, twins };
        let origins: Vec<_> = parents.iter().flat_map(|(name, from)| known.origins(name, from)).collect();
        let unknown = parents.iter().filter(|(name, from)| from.is_empty() && !known.is_described(name));
        Ok(Lineage {
            labels: Labels::strictest(origins.iter().map(|origin| &origin.labels)),
            unknown: unknown.map(|(name, _)| name.clone()).collect(),
            verified: known.verified(&parents),
            by_user: parents.keys().any(|name| facts.is_own(name)),
            origins,
            parents,
        })
    }
}

/// What is known about each artefact that a lineage uses.
struct Known<'a> {
    request: &'a Request,
    facts: &'a Facts,
    /// The other descriptions of each that is used.
    twins: BTreeMap<Name, Vec<Twin>>,
}

impl Known<'_> {
    fn twins(&self, name: &Name) -> &[Twin] {
        self.twins.get(name).map_or(&[], Vec::as_slice)
    }

    /// Do the facts describe all of it, under this name or another?
    fn is_described(&self, name: &Name) -> bool {
        self.facts.described(name).is_some() || self.twins(name).iter().any(|twin| twin.same.covers())
    }

    /// Are the bytes at hand others than the facts describe under this name?
    fn has_other_bytes(&self, name: &Name) -> bool {
        let (measured, known) = (self.request.digests.get(name), self.facts.described(name).and_then(|known| known.sha256));
        measured.zip(known).is_some_and(|(measured, known)| *measured != known)
    }

    /// What `name` itself brings: labels from the facts, labels that were recorded, or the want of both. Its other names bring their own.
    fn origins(&self, name: &Name, from: &BTreeSet<Name>) -> Vec<Origin> {
        let origin = |name: &Name, labels: &Labels, told_by| Origin { name: name.clone(), labels: labels.clone(), told_by };
        let mut found = Vec::new();
        if let Some(described) = self.facts.described(name) {
            found.push(match self.has_other_bytes(name) {
                true => origin(name, &Labels::default(), ToldBy::OtherBytes),
                false => origin(name, &described.labels, ToldBy::Facts),
            });
        }
        let others = self.twins(name).iter().filter(|twin| twin.same == Same::OtherBytes);
        found.extend(others.map(|twin| origin(&twin.name, &Labels::default(), ToldBy::OtherBytes)));
        let recorded = self.request.recorded.get(name);
        found.extend(recorded.map(|labels| origin(name, labels, ToldBy::Record)));
        if from.is_empty() && !self.is_described(name) {
            match recorded {
                Some(_) if self.request.verified_records.contains(name) => {}
                Some(_) => found.push(origin(name, &Labels::default(), ToldBy::Unverified)),
                None => found.push(origin(name, &Labels::default(), ToldBy::Nobody)),
            }
        }
        found
    }

    /// Is everything that the facts describe, and everything that it all begins with, the bytes that the facts describe?
    fn verified(&self, parents: &Parents) -> Option<bool> {
        let mut sure = true;
        for name in self.twins.keys() {
            let described = self.facts.described(name);
            let is_leaf = parents.get(name).is_none_or(BTreeSet::is_empty);
            let has = |same: Same| self.twins(name).iter().any(|twin| twin.same == same);
            match (described.and_then(|known| known.sha256), self.request.digests.get(name)) {
                _ if has(Same::OtherBytes) => return Some(false),
                (Some(known), Some(measured)) if known == *measured => {}
                (Some(_), None) if self.request.planned => sure = false,
                (Some(_), _) => return Some(false),
                // It is known by another name, with these bytes.
                (None, Some(_)) if has(Same::Bytes) => {}
                (None, _) if is_leaf || described.is_some() => return Some(false),
                (None, _) => {}
            }
        }
        sure.then_some(true)
    }
}

/// Every artefact that the request's is made from, with the other descriptions of each: what those were made from belongs to it, too.
fn closure(request: &Request, facts: &Facts) -> Result<(Parents, BTreeMap<Name, Vec<Twin>>), PolicyError> {
    let (mut parents, mut twins) = (Parents::new(), BTreeMap::<Name, Vec<Twin>>::new());
    let mut open = vec![request.artefact.clone()];
    let mut used = BTreeSet::from([request.artefact.clone()]);
    while !open.is_empty() {
        for start in open.drain(..) {
            descend(&start, request, &mut parents)?;
        }
        used.extend(parents.values().flatten().cloned());
        for name in &used {
            if !twins.contains_key(name) {
                let others = facts.twins(name, request);
                open.extend(others.iter().map(|twin| twin.name.clone()));
                twins.insert(name.clone(), others);
            }
        }
    }
    Ok((parents, twins))
}

/// Adds an artefact and all that it is made from. An artefact that comes from itself is an error.
fn descend(start: &Name, request: &Request, done: &mut Parents) -> Result<(), PolicyError> {
    if done.contains_key(start) {
        return Ok(());
    }
    let from = |name: &Name| request.made.get(name).cloned().unwrap_or_default();
    // A stack of our own, with what is still to be visited below each artefact: a long lineage must not overflow the program's.
    let mut path = vec![start.clone()];
    let mut on_path: BTreeSet<Name> = path.iter().cloned().collect();
    let mut open = vec![from(start)];
    while let (Some(name), Some(rest)) = (path.last().cloned(), open.last_mut()) {
        match rest.pop_first() {
            None => {
                done.insert(name.clone(), from(&name));
                on_path.remove(&name);
                path.pop();
                open.pop();
            }
            Some(next) if on_path.contains(&next) => {
                let start = path.iter().position(|step| *step == next).unwrap_or(0);
                let mut circle = path.split_off(start);
                circle.push(next.clone());
                return Err(PolicyError::Circle { name: next, path: circle });
            }
            Some(next) if done.contains_key(&next) => {}
            Some(next) => {
                open.push(from(&next));
                on_path.insert(next.clone());
                path.push(next);
            }
        }
    }
    Ok(())
}
