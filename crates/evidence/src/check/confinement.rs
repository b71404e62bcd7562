//! Was every node of the run measured, did no attempt get through, and was it confined as far as the decision had assumed?

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use sirocco_ledger::{Entry, Fact};

use super::{Check, Finding, Seen};
use crate::entries::{Numbered, at};
use crate::layout::{CONFINED, RESUMED, STARTED, decision};
use crate::record::{Node, nodes, text};

/// The levels, from 0, by the words that requests and reports have for them.
const LEVELS: [&str; 6] = ["environment", "seccomp", "network_namespace", "landlock", "hosts", "site"];

pub(super) fn check(seen: &Seen<'_>) -> Check {
    let mut findings = seen.unread();
    let (measured, entries) = (nodes(seen.entries()), seen.entries());
    let (demanded, unreadable) = demanded(entries);
    findings.extend(unreadable);
    for node in &measured {
        if let Err(what) = one(seen, node) {
            findings.push(Finding::new(&node.file, what));
        }
    }
    findings.extend(beginnings(entries, &measured));
    let asked =
        demanded.map_or_else(|| "decisions rest on no level".to_owned(), |level| format!("decisions rest on level {level}"));
    let open: BTreeSet<&str> = measured.iter().filter(|node| is_open(seen, node)).map(|node| node.host.as_str()).collect();
    let open = match open.len() {
        0 => String::new(),
        _ => format!("; at level 1 TCP and UDP stay open: {}", open.into_iter().collect::<Vec<_>>().join(", ")),
    };
    Check::of("confinement", format!("{} measurements; {asked}{open}", measured.len()), findings)
}

/// The number of a level.
fn level(value: &Value) -> Option<u64> {
    let word = |word: &str| LEVELS.iter().position(|known| *known == word).map(|at| at as u64);
    value.as_u64().or_else(|| word(value.as_str()?))
}

/// The level that an allowed decision to train or to resume rests on: none, or one that has no name here.
fn rests_on(one: &Numbered) -> Option<Result<u64, Finding>> {
    let is_run = ["policy.train", "policy.resume"].contains(&one.entry.verb.as_str());
    let allowed = one.entry.decision.as_ref().is_some_and(|decision| decision.allowed);
    // A request that is none is a finding among the decisions.
    let request: Value = serde_json::from_str(text(&one.entry, "request").filter(|_| is_run && allowed)?).ok()?;
    let asked = request.get("confinement").filter(|asked| !asked.is_null())?;
    let unknown = || Finding::new(decision(one.index), format!("rests on the level {asked}, expected one of {LEVELS:?}"));
    Some(level(asked).ok_or_else(unknown))
}

/// The highest level that a decision rests on, and levels that are none.
fn demanded(entries: &[Numbered]) -> (Option<u64>, Vec<Finding>) {
    let (mut levels, mut findings) = (None, Vec::new());
    for answer in entries.iter().filter_map(rests_on) {
        match answer {
            Ok(level) => levels = levels.max(Some(level)),
            Err(finding) => findings.push(finding),
        }
    }
    (levels, findings)
}

/// Nodes of which nothing was measured between the beginning of a run, or its going on, and the one before, and those that were less confined
/// than the decision rests on. The last measurement before a beginning is that of its ranks: others are of commands that asked for themselves.
fn beginnings(entries: &[Numbered], measured: &[Node]) -> Vec<Finding> {
    let measured: BTreeMap<u64, &Node> = measured.iter().map(|node| (node.entry, node)).collect();
    let (mut fresh, mut level, mut findings) = (BTreeMap::new(), 0, Vec::new());
    for one in entries {
        if let Some(node) = measured.get(&one.index) {
            fresh.insert(node.host.as_str(), (*node, &one.entry));
        }
        if let Some(Ok(found)) = rests_on(one) {
            level = level.max(found);
        }
        if [STARTED, RESUMED].contains(&one.entry.verb.as_str()) {
            let hosts = of_run(one).into_iter().filter(|_| level > 0);
            findings.extend(hosts.filter_map(|host| match fresh.get(host) {
                Some((node, entry)) => lower(entry, level).map(|what| Finding::new(&node.file, what)),
                None => Some(not_measured(one, host, level)),
            }));
            (fresh, level) = (BTreeMap::new(), 0);
        }
    }
    findings
}

fn not_measured(one: &Numbered, host: &str, level: u64) -> Finding {
    let (index, verb) = (one.index, &one.entry.verb);
    let what =
        format!("entry {index}, {verb}: the node {host} was not measured before it, though its decision rests on level {level}");
    Finding::new("confinement/", what)
}

/// What is wrong with a measurement where a decision rests on a level.
fn lower(entry: &Entry, demanded: u64) -> Option<String> {
    // A report that is none is a finding by itself.
    let report: Value = serde_json::from_str(text(entry, "report")?).ok()?;
    match reached(entry, &report) {
        Some(reached) if reached >= demanded => None,
        Some(reached) => Some(format!("level {reached} was reached, but the decision rests on level {demanded}")),
        None => Some(format!("it is not said which level was reached: expected {demanded} or more ({CONFINED})")),
    }
}

/// The machines on which a run began or went on.
fn of_run(one: &Numbered) -> Vec<&str> {
    match one.entry.facts.get("nodes") {
        Some(Fact::List(nodes)) => nodes.iter().map(String::as_str).collect(),
        _ => vec![one.entry.host.as_str()],
    }
}

/// Whether something got through that the node's level leaves open.
fn is_open(seen: &Seen<'_>, node: &Node) -> bool {
    let entry = at(seen.entries(), node.entry);
    let report = entry.and_then(|one| serde_json::from_str::<Value>(text(&one.entry, "report")?).ok()).unwrap_or_default();
    let attempts = report.get("attempts").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    attempts.iter().any(|attempt| attempt.get("got_through").and_then(Value::as_bool) == Some(true))
}

fn one(seen: &Seen<'_>, node: &Node) -> Result<(), String> {
    let numbered = at(seen.entries(), node.entry).ok_or("has no entry")?;
    let report = text(&numbered.entry, "report").ok_or("its entry has no report")?;
    let report: Value = serde_json::from_str(report).map_err(|error| format!("is no JSON: {error}"))?;
    let attempts = report.get("attempts").and_then(Value::as_array).filter(|attempts| !attempts.is_empty());
    for attempt in attempts.ok_or("no attempt was made, so that nothing is shown")? {
        let name = attempt.get("name").and_then(Value::as_str).unwrap_or("an attempt without a name");
        match attempt.get("got_through").and_then(Value::as_bool) {
            Some(false) => {}
            Some(true) if is_left_open(&report, name) => {}
            Some(true) => return Err(format!("{name}: got through")),
            None => return Err(format!("{name}: it is not said whether it got through")),
        }
    }
    let own = report.get("findings").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let beyond = own.iter().filter(|finding| {
        let attempt = finding.get("attempt").and_then(Value::as_str);
        finding.get("kind").and_then(Value::as_str) != Some("got_through")
            || !attempt.is_some_and(|name| is_left_open(&report, name))
    });
    match beyond.count() {
        0 => Ok(()),
        findings => Err(format!("has {findings} findings of its own")),
    }
}

/// Whether level 1 says of itself that this stays open (docs/confinement.md): TCP, and UDP, of processes that connect by themselves. No
/// higher level has such processes.
fn is_left_open(report: &Value, attempt: &str) -> bool {
    let applied = report.get("applied").unwrap_or(&Value::Null);
    let text = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
    let allowed = applied.get("allowed").unwrap_or(&Value::Null);
    let is_such = text(allowed, "kind").as_deref() == Some("hosts")
        && text(allowed, "by").as_deref() == Some("itself")
        && applied.get("level").and_then(level) == Some(1);
    let gaps = applied.get("gaps").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let has = |gap: &str| gaps.iter().any(|known| known.as_str() == Some(gap));
    let udp = attempt.starts_with("udp") || attempt.starts_with("dns question");
    is_such && (attempt.starts_with("tcp connect") && has("peers") || udp && has("udp"))
}

/// The level that a node had: of the entry, or of the report.
fn reached(entry: &Entry, report: &Value) -> Option<u64> {
    let of_entry = match entry.facts.get("level") {
        Some(Fact::Number(number)) => u64::try_from(*number).ok(),
        Some(Fact::Text(word)) => level(&Value::String(word.clone())),
        _ => None,
    };
    let of_report = report.get("level").or_else(|| report.get("applied")?.get("level")).and_then(level);
    match (of_entry, of_report) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use sirocco_policy::Confinement;

    use super::*;

    #[test]
    fn levels_are_those_of_requests() {
        let words = Confinement::ALL.map(|level| serde_json::to_value(level).unwrap());
        assert_eq!(words.map(|word| level(&word)), [0, 1, 2, 3, 4, 5].map(Some));
        assert_eq!([level(&Value::from(3)), level(&Value::from("more"))], [Some(3), None]);
    }

    #[test]
    fn only_what_level_1_says_of_itself_may_stay_open() {
        let report = |level: &str, kind: &str, gaps: &[&str]| serde_json::json!({"applied": {"level": level, "allowed": {"kind": kind, "by": "itself"}, "gaps": gaps}});
        let known = report("seccomp", "hosts", &["peers", "udp"]);
        let open = |name: &str| is_left_open(&known, name);
        assert!(open("tcp connect to 192.0.2.1:1") && open("udp sendto to 192.0.2.1:1") && open("dns question to 192.0.2.1:1"));
        assert!(!open("raw socket") && !open("multipath tcp connect to 192.0.2.1:1") && !open("unix connect to a path"));
        let tcp = "tcp connect to 192.0.2.1:1";
        assert!(!is_left_open(&report("seccomp", "hosts", &["udp"]), tcp));
        assert!(!is_left_open(&report("landlock", "hosts", &["peers"]), tcp));
        assert!(!is_left_open(&report("seccomp", "loopback", &["peers"]), tcp) && !is_left_open(&Value::Null, tcp));
    }
}
