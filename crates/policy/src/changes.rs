//! Single changes of a request or of one fact, the smallest first.
//!
//! Small means: it takes little to bring about. First comes a fact that is missing, then another circumstance, then leaving one input out,
//! and last another label, which is for the owner of the data to decide. Within each, the nearest value comes first.

use serde::Serialize;

use crate::confinement::Confinement;
use crate::country::Country;
use crate::error::PolicyError;
use crate::facts::{Described, Facts};
use crate::labels::{Classification, Expiry, Labels, Licences, PersonalData, Purposes, Residency};
use crate::lineage::{Lineage, ToldBy};
use crate::name::{Kind, Name};
use crate::request::{Request, WhoKind};

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Change {
    /// What is changed, such as `residency of data:circulars` or `site`.
    pub what: String,
    /// As it is.
    pub from: String,
    /// As it would have to be.
    pub to: String,
}

/// A change and the world after it.
pub(crate) struct Candidate {
    pub(crate) change: Change,
    /// Candidates with one subject differ only in how far they go.
    pub(crate) subject: String,
    pub(crate) request: Request,
    /// Other facts, if it is a fact that changes.
    pub(crate) facts: Option<Facts>,
}

/// Every change that is tried, in the order of their size.
pub(crate) fn candidates(facts: &Facts, request: &Request) -> Result<Vec<Candidate>, PolicyError> {
    let lineage = Lineage::of(request, facts)?;
    let mut missing = Vec::new();
    let mut owners = Vec::new();
    let open = [ToldBy::Facts, ToldBy::Nobody, ToldBy::Unverified];
    for origin in lineage.origins.iter().filter(|origin| open.contains(&origin.told_by)) {
        for (name, known, from, to, labels) in other_labels(&origin.labels, request, facts) {
            let Some(facts) = with_labels(facts, &origin.name, labels) else { continue };
            let what = format!("{name} of {}", origin.name);
            let change = Change { what: what.clone(), from, to };
            let candidate = Candidate { change, subject: what, request: request.clone(), facts: Some(facts) };
            if known { owners.push(candidate) } else { missing.push(candidate) }
        }
    }
    missing.extend(circumstances(facts, request));
    missing.extend(without_inputs(request));
    missing.extend(owners);
    Ok(missing)
}

/// A candidate that changes only the request.
fn asked(what: &str, from: &str, to: &str, change: impl FnOnce(&mut Request), request: &Request) -> Candidate {
    let mut request = request.clone();
    change(&mut request);
    let change = Change { what: what.to_owned(), from: from.to_owned(), to: to.to_owned() };
    Candidate { subject: format!("{what} {}", change.to), change, request, facts: None }
}

fn circumstances(facts: &Facts, request: &Request) -> Vec<Candidate> {
    let mut found = Vec::new();
    let none = || "none".to_owned();
    let purpose = request.purpose.clone().unwrap_or_else(none);
    for other in facts.purposes().filter(|other| request.purpose.as_deref() != Some(other)) {
        found.push(asked("purpose", &purpose, other, |request| request.purpose = Some(other.to_owned()), request));
    }
    let country = |site: &str| facts.site(site).and_then(|site| site.country).map_or("not known", Country::code);
    for other in facts.sites().filter(|other| *other != request.site) {
        let (from, to) = (format!("{} ({})", request.site, country(&request.site)), format!("{other} ({})", country(other)));
        let elsewhere = |request: &mut Request| {
            request.site = other.to_owned();
            // The node of another site is not known.
            request.node = None;
        };
        found.push(asked("site", &from, &to, elsewhere, request));
    }
    let from = request.confinement.map_or_else(|| "not measured".to_owned(), |level| level.to_string());
    let mut levels: Vec<_> = Confinement::ALL.into_iter().filter(|level| request.confinement != Some(*level)).collect();
    levels.sort_by_key(|level| request.confinement.map_or(level.number(), |now| now.number().abs_diff(level.number())));
    for level in levels {
        let mut candidate =
            asked("measured confinement", &from, &level.to_string(), |request| request.confinement = Some(level), request);
        candidate.subject = "measured confinement".to_owned();
        found.push(candidate);
    }
    for person in facts.principals().filter(|who| who.kind == WhoKind::Person && *who != request.who) {
        let with = person.clone();
        if !request.approved_by.contains(&person) {
            let approve = |request: &mut Request| {
                request.approved_by.insert(with);
            };
            found.push(asked("approval", "none of theirs", &person.to_string(), approve, request));
        }
    }
    for who in facts.principals().filter(|who| *who != request.who) {
        let with = who.clone();
        found.push(asked("who asks", &request.who.to_string(), &who.to_string(), |request| request.who = with, request));
    }
    for recipient in request.recipients.iter().filter(|_| request.recipients.len() > 1) {
        let drop = |request: &mut Request| {
            request.recipients.remove(recipient);
        };
        found.push(asked("recipients", recipient, &format!("without {recipient}"), drop, request));
    }
    found
}

/// The artefact made without one of the things that it is made from.
fn without_inputs(request: &Request) -> Vec<Candidate> {
    let inputs = request.made.iter().flat_map(|(made, from)| from.iter().map(move |input| (made, input, from.len())));
    let spare = inputs.filter(|(_, _, count)| *count > 1);
    let candidates = spare.map(|(made, input, _)| {
        let leave_out = |request: &mut Request| {
            if let Some(from) = request.made.get_mut(made) {
                from.remove(input);
            }
        };
        asked(&format!("what {made} is made from"), &format!("with {input}"), &format!("without {input}"), leave_out, request)
    });
    candidates.collect()
}

/// Label, whether it was known, its value now, another value, and all labels with that: the nearest value of each label first.
fn other_labels(now: &Labels, request: &Request, facts: &Facts) -> Vec<(&'static str, bool, String, String, Labels)> {
    let mut found = Vec::new();
    let words = |known: Option<String>| known.unwrap_or_else(|| "not known".to_owned());
    let mut offer = |name, known: Option<String>, to: String, labels: Labels| {
        let is_known = known.is_some();
        if known.as_ref() != Some(&to) {
            found.push((name, is_known, words(known), to, labels));
        }
    };
    for other in residencies(now, request, facts) {
        let known = now.residency.as_ref().map(Residency::to_string);
        offer("residency", known, other.to_string(), Labels { residency: Some(other), ..now.clone() });
    }
    let mut levels = Classification::ALL;
    levels.sort_by_key(|level| now.classification.map_or(level.level(), |known| known.level().abs_diff(level.level())));
    for other in levels {
        let known = now.classification.map(|level| level.word().to_owned());
        offer("classification", known, other.word().to_owned(), Labels { classification: Some(other), ..now.clone() });
    }
    if !now.licences.all_known {
        let licences = Licences { names: now.licences.names.clone(), all_known: true };
        offer("licence", None, "any that is named".to_owned(), Labels { licences, ..now.clone() });
    }
    for other in [true, false] {
        let known = now.commercial_use.map(|flag| flag.to_string());
        offer("commercial use", known, other.to_string(), Labels { commercial_use: Some(other), ..now.clone() });
    }
    for other in PersonalData::ALL.into_iter().rev() {
        let known = now.personal_data.map(|data| data.word().to_owned());
        offer("personal data", known, other.word().to_owned(), Labels { personal_data: Some(other), ..now.clone() });
    }
    for other in purposes(now, request) {
        let known = now.purposes.as_ref().map(Purposes::to_string);
        offer("allowed purposes", known, other.to_string(), Labels { purposes: Some(other), ..now.clone() });
    }
    for other in [Some(Expiry::On(request.day)), request.day.before().map(Expiry::On), Some(Expiry::Never)].into_iter().flatten()
    {
        let known = now.expires.map(|expiry| expiry.to_string());
        offer("expiry", known, other.to_string(), Labels { expires: Some(other), ..now.clone() });
    }
    found
}

/// With this site's country, without it, and anywhere.
fn residencies(now: &Labels, request: &Request, facts: &Facts) -> Vec<Residency> {
    let countries = match &now.residency {
        Some(Residency::In(countries)) => countries.clone(),
        Some(Residency::Anywhere) | None => Default::default(),
    };
    let mut found = Vec::new();
    if let Some(here) = facts.site(&request.site).and_then(|site| site.country) {
        let (mut with, mut without) = (countries.clone(), countries);
        with.insert(here);
        without.remove(&here);
        found.extend([Residency::In(with), Residency::In(without)]);
    }
    found.push(Residency::Anywhere);
    found
}

/// With this request's purpose, without it, and any.
fn purposes(now: &Labels, request: &Request) -> Vec<Purposes> {
    let names = match &now.purposes {
        Some(Purposes::Only(names)) => names.clone(),
        Some(Purposes::Any) | None => Default::default(),
    };
    let mut found = Vec::new();
    if let Some(purpose) = &request.purpose {
        let (mut with, mut without) = (names.clone(), names);
        with.insert(purpose.clone());
        without.remove(purpose);
        found.extend([Purposes::Only(with), Purposes::Only(without)]);
    }
    found.push(Purposes::Any);
    found
}

/// The facts with other labels for one artefact; `None` for a kind that facts do not describe.
fn with_labels(facts: &Facts, name: &Name, labels: Labels) -> Option<Facts> {
    let mut facts = facts.clone();
    let table = match name.kind {
        Kind::Data => &mut facts.tables.data,
        Kind::Model => &mut facts.tables.model,
        Kind::Adapter => &mut facts.tables.adapter,
        Kind::Checkpoint | Kind::Merged | Kind::Endpoint => return None,
    };
    table.entry(name.name.clone()).or_insert(Described { path: None, sha256: None, labels: Labels::default() }).labels = labels;
    Some(facts)
}
