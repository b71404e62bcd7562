//! Lineage: what an artefact was made from, down to what the facts describe, and the labels that it inherits.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::PolicyError;
use crate::facts::Facts;
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
    Nobody,
}

/// An artefact, all that it was made from, and what it inherits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lineage {
    /// The strictest labels of all origins.
    pub(crate) labels: Labels,
    pub(crate) origins: Vec<Origin>,
    /// Every artefact with those that it is made from, itself included.
    pub(crate) parents: BTreeMap<Name, BTreeSet<Name>>,
    /// Artefacts of which nothing says what they were made from.
    pub(crate) unknown: Vec<Name>,
    /// Do all bytes that the facts name a digest of have it? `None`: not measured, and it is only a plan.
    pub(crate) verified: Option<bool>,
}

impl Lineage {
    /// Follows the lineage of the request's artefact.
    pub(crate) fn of(request: &Request, facts: &Facts) -> Result<Lineage, PolicyError> {
        let parents = closure(request)?;
        let origins: Vec<_> = parents.keys().flat_map(|name| origins(name, request, facts)).collect();
        let unknown = parents.iter().filter(|(name, from)| from.is_empty() && facts.described(name).is_none());
        Ok(Lineage {
            labels: Labels::strictest(origins.iter().map(|origin| &origin.labels)),
            unknown: unknown.map(|(name, _)| name.clone()).collect(),
            verified: verified(&parents, request, facts),
            origins,
            parents,
        })
    }
}

/// What `name` itself brings: labels from the facts, labels that were recorded, or the want of both.
fn origins(name: &Name, request: &Request, facts: &Facts) -> Vec<Origin> {
    let origin = |labels: &Labels, told_by| Origin { name: name.clone(), labels: labels.clone(), told_by };
    let mut found = Vec::new();
    if let Some(described) = facts.described(name) {
        let measured = request.digests.get(name);
        let others = measured.is_some_and(|digest| described.sha256.is_some_and(|known| known != *digest));
        found.push(match others {
            true => origin(&Labels::default(), ToldBy::OtherBytes),
            false => origin(&described.labels, ToldBy::Facts),
        });
    }
    if let Some(recorded) = request.recorded.get(name) {
        found.push(origin(recorded, ToldBy::Record));
    }
    if found.is_empty() && request.made.get(name).is_none_or(BTreeSet::is_empty) {
        found.push(origin(&Labels::default(), ToldBy::Nobody));
    }
    found
}

/// Every artefact that the request's is made from. An artefact that comes from itself is an error.
fn closure(request: &Request) -> Result<BTreeMap<Name, BTreeSet<Name>>, PolicyError> {
    let mut done: BTreeMap<Name, BTreeSet<Name>> = BTreeMap::new();
    let from = |name: &Name| request.made.get(name).cloned().unwrap_or_default();
    // A stack of our own, with what is still to be visited below each artefact: a long lineage must not overflow the program's.
    let mut path = vec![request.artefact.clone()];
    let mut on_path: BTreeSet<Name> = path.iter().cloned().collect();
    let mut open = vec![from(&request.artefact)];
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
    Ok(done)
}

/// Is everything that it all begins with the bytes that the facts describe?
fn verified(parents: &BTreeMap<Name, BTreeSet<Name>>, request: &Request, facts: &Facts) -> Option<bool> {
    let mut sure = true;
    for name in parents.iter().filter(|(_, from)| from.is_empty()).map(|(name, _)| name) {
        let Some(known) = facts.described(name).and_then(|described| described.sha256) else { return Some(false) };
        match request.digests.get(name) {
            Some(measured) if *measured == known => {}
            None if request.planned => sure = false,
            Some(_) | None => return Some(false),
        }
    }
    sure.then_some(true)
}
