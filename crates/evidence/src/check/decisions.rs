//! Were the rules and facts that are here those that decided, was each question the one that its entry records, and was nothing done that
//! had not been allowed?

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use sirocco_files::BareDigest;
use sirocco_ledger::{Digest, Entry};

use super::{Check, Finding, Seen};
use crate::entries::Numbered;
use crate::layout::{ASKED, EXPORTED, POLICY, RESUMED, SENT, STARTED, decision};
use crate::policy::{PolicyDigests, PolicyTexts};
use crate::record::text;

pub(super) fn check(seen: &Seen<'_>) -> Check {
    let mut findings = seen.unread();
    let decided: Vec<&Numbered> = seen.entries().iter().filter(|one| one.entry.decision.is_some()).collect();
    let refused = decided.iter().filter(|one| one.entry.decision.as_ref().is_some_and(|decision| !decision.allowed)).count();
    findings.extend(decided.iter().filter_map(|one| question(seen, one).err().map(|why| Finding::new(decision(one.index), why))));
    findings.extend(texts(seen, &decided));
    findings.extend(order(seen.entries()));
    Check::of("decisions", format!("{} decisions, {refused} of them refusals", decided.len()), findings)
}

/// Is the request of an entry about what the entry is about?
fn question(seen: &Seen<'_>, one: &Numbered) -> Result<(), String> {
    let entry = &one.entry;
    let request = text(entry, "request").ok_or("its entry has no request")?;
    let request: Value = serde_json::from_str(request).map_err(|error| format!("its request is no JSON: {error}"))?;
    let field = |name: &str| request.get(name).and_then(Value::as_str).unwrap_or_default();
    let verb = format!("{ASKED}{}", field("action").to_lowercase());
    // What was refused may have been asked for another site: that may be why.
    let allowed = entry.decision.as_ref().is_some_and(|decision| decision.allowed);
    let site = seen.record.as_ref().filter(|_| allowed).map(|record| record.site.clone());
    let pairs = [
        ("action", verb.as_str(), entry.verb.as_str()),
        ("artefact", field("artefact"), text(entry, "artefact").unwrap_or_default()),
        ("who", field("who"), &entry.identity),
        ("site", field("site"), site.as_deref().unwrap_or(field("site"))),
    ];
    if let Some((name, found, expected)) = pairs.into_iter().find(|(_, found, expected)| found != expected) {
        return Err(format!("its request has the {name} {found:?}, expected {expected:?}"));
    }
    let none = serde_json::Map::new();
    let digests = request.get("digests").and_then(Value::as_object).unwrap_or(&none);
    let inputs: BTreeMap<&str, String> = entry.inputs.iter().map(|(name, digest)| (name.as_str(), bare(*digest))).collect();
    let stated: BTreeMap<&str, String> =
        digests.iter().map(|(name, digest)| (name.as_str(), digest.as_str().unwrap_or_default().to_owned())).collect();
    if inputs == stated { Ok(()) } else { Err("its request has other digests than its entry's inputs".to_owned()) }
}

fn bare(digest: Digest) -> String {
    BareDigest::from(digest).to_string()
}

/// Every decision was made with texts that are here, and every text was used.
fn texts(seen: &Seen<'_>, decided: &[&Numbered]) -> Vec<Finding> {
    let versions: BTreeMap<String, PolicyDigests> =
        PolicyTexts::of_bundle(&seen.files.files).into_iter().map(|(folder, texts)| (folder, texts.digests())).collect();
    let (mut findings, mut used) = (Vec::new(), BTreeSet::new());
    for one in decided {
        let Some(made) = &one.entry.decision else { continue };
        let facts = text(&one.entry, "facts").unwrap_or_default();
        let fits = |digests: &PolicyDigests| Digest::from(digests.rules) == made.policy && digests.facts.to_string() == facts;
        match versions.iter().find(|(_, digests)| fits(digests)) {
            Some((folder, _)) => drop(used.insert(folder)),
            None => {
                let what = format!("was decided by other texts than those in {POLICY}: rules {}, facts {facts}", made.policy);
                findings.push(Finding::new(decision(one.index), what));
            }
        }
    }
    let stray = seen.files.files.keys().filter(|name| name.starts_with(POLICY) && !PolicyTexts::has_place_for(name));
    findings.extend(stray.map(|name| Finding::new(name, "enters no digest by which something was decided")));
    let unused = versions.keys().filter(|folder| !used.contains(folder));
    findings.extend(unused.map(|folder| Finding::new(folder, "has texts by which nothing was decided")));
    findings
}

/// What was done needs a decision of its own before it, the last of its kind, and one that allowed it.
fn order(entries: &[Numbered]) -> Vec<Finding> {
    let mut last = Last::new();
    let mut findings = Vec::new();
    for one in entries {
        let entry = &one.entry;
        if let Some(made) = &entry.decision {
            // A plan lets nothing pass and stops nothing: who asks beside a run at work says nothing about it.
            if is_plan(entry) {
                continue;
            }
            let key = (entry.verb.clone(), text(entry, "artefact").unwrap_or_default().to_owned());
            last.insert(key, (one.index, made.allowed));
            continue;
        }
        let needs: Vec<(&str, Option<&str>)> = match entry.verb.as_str() {
            STARTED => vec![("policy.train", None)],
            RESUMED => vec![("policy.resume", None)],
            EXPORTED => entry.outputs.keys().flat_map(|name| for_export(name)).collect(),
            SENT => entry.inputs.keys().map(|name| ("policy.sendout", Some(name.as_str()))).collect(),
            _ => continue,
        };
        if needs.is_empty() {
            let what = format!("entry {}, {}: it names nothing, expected what was exported or sent", one.index, entry.verb);
            findings.push(Finding::new("ledger/", what));
        }
        let found = needs.into_iter().filter_map(|(verb, thing)| use_up(&mut last, verb, thing).err());
        findings.extend(found.map(|what| Finding::new("ledger/", format!("entry {}, {}: {what}", one.index, entry.verb))));
    }
    findings
}

/// The last decision about each artefact that nothing was done by yet: by verb and artefact its index, and whether it allowed.
type Last = BTreeMap<(String, String), (u64, bool)>;

fn is_plan(entry: &Entry) -> bool {
    let request: Option<Value> = text(entry, "request").and_then(|request| serde_json::from_str(request).ok());
    request.is_some_and(|request| request.get("planned").and_then(Value::as_bool) == Some(true))
}

/// The decisions without which something is not exported: all of it leaves its run, and a merged model was made for that.
fn for_export(name: &str) -> impl Iterator<Item = (&str, Option<&str>)> {
    let merges = name.starts_with("merged:").then_some("policy.merge");
    merges.into_iter().chain(["policy.export"]).map(move |verb| (verb, Some(name)))
}

/// Takes the newest decision of this verb about `thing`, or about anything: one decision admits one action.
fn use_up(last: &mut Last, verb: &str, thing: Option<&str>) -> Result<(), String> {
    let about = |(asked, artefact): &(String, String)| asked == verb && thing.is_none_or(|thing| thing == artefact.as_str());
    let found = last.iter().filter(|(key, _)| about(key)).max_by_key(|(_, (index, _))| *index);
    match found.map(|(key, answer)| (key.clone(), *answer)) {
        None => Err(format!("no decision {verb} before it that was not used already")),
        Some((_, (index, false))) => Err(format!("done although entry {index} refused it")),
        Some((key, _)) => {
            last.remove(&key);
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use sirocco_ledger::{Author, Decision, Fact};

    use super::*;

    fn log(deeds: &[(&str, Option<bool>)]) -> Vec<String> {
        log_of("adapter:demo", deeds)
    }

    fn log_of(artefact: &str, deeds: &[(&str, Option<bool>)]) -> Vec<String> {
        let author = Author { identity: "person:amal".into(), host: "node".into(), binary: Digest::of(b"") };
        let entries = deeds.iter().zip(0..).map(|((verb, allowed), index)| {
            let mut entry = author.entry(verb, std::time::SystemTime::UNIX_EPOCH.into());
            entry.facts.insert("artefact".to_owned(), Fact::Text(artefact.to_owned()));
            entry.outputs.insert(artefact.to_owned(), Digest::of(b""));
            entry.inputs.insert(artefact.to_owned(), Digest::of(b""));
            entry.decision = allowed.map(|allowed| Decision { allowed, policy: Digest::of(b""), rules: Vec::new() });
            Numbered { index, entry, text: Vec::new() }
        });
        order(&entries.collect::<Vec<_>>()).into_iter().map(|finding| finding.what).collect()
    }

    #[test]
    fn what_was_allowed_may_be_done_once() {
        assert!(log(&[("policy.train", Some(true)), ("run.started", None), ("run.ended", None)]).is_empty());
        let twice = log(&[("policy.train", Some(true)), ("run.started", None), ("run.started", None)]);
        assert!(twice[0].contains("entry 2") && twice[0].contains("not used already"), "{twice:?}");
        assert!(log(&[("policy.export", Some(true)), ("artefact.exported", None)]).is_empty());
        assert!(log(&[("policy.sendout", Some(true)), ("artefact.sent", None)]).is_empty());
        assert_eq!(log(&[("policy.export", Some(true)), ("artefact.sent", None)]).len(), 1, "sending is asked about itself");
    }

    #[test]
    fn a_merged_model_that_was_not_let_out_is_a_finding() {
        let merged = |deeds: &[_]| log_of("merged:demo", deeds);
        let (merges, leaves, exported) =
            (("policy.merge", Some(true)), ("policy.export", Some(true)), ("artefact.exported", None));
        assert!(merged(&[merges, leaves, exported]).is_empty());
        assert!(merged(&[merges, exported])[0].contains("no decision policy.export"));
        assert!(merged(&[leaves, exported])[0].contains("no decision policy.merge"));
        assert!(merged(&[merges, ("policy.export", Some(false)), exported])[0].contains("entry 1 refused"));
    }

    #[test]
    fn what_names_nothing_is_a_finding() {
        let author = Author { identity: "person:amal".into(), host: "node".into(), binary: Digest::of(b"") };
        for verb in [EXPORTED, SENT] {
            let entry = author.entry(verb, std::time::SystemTime::UNIX_EPOCH.into());
            let found = order(&[Numbered { index: 7, entry, text: Vec::new() }]);
            assert!(found.len() == 1 && found[0].what.contains("entry 7") && found[0].what.contains("names nothing"));
        }
    }

    #[test]
    fn what_was_refused_last_may_not_be_done() {
        let found = log(&[("policy.resume", Some(true)), ("policy.resume", Some(false)), ("run.resumed", None)]);
        assert!(found[0].contains("entry 1 refused"), "{found:?}");
        assert_eq!(log(&[("run.started", None)]).len(), 1);
        let author = Author { identity: "person:amal".into(), host: "node".into(), binary: Digest::of(b"") };
        let mut plan = author.entry("policy.resume", std::time::SystemTime::UNIX_EPOCH.into());
        assert!(!is_plan(&plan));
        plan.facts.insert("request".to_owned(), Fact::Text("{\"planned\":true}".to_owned()));
        assert!(is_plan(&plan));
        assert_eq!(log(&[("policy.train", Some(true)), ("run.resumed", None)]).len(), 1, "another verb's decision");
        assert!(log(&[("policy.resume", Some(false)), ("policy.resume", Some(true)), ("run.resumed", None)]).is_empty());
    }
}
