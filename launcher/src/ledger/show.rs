//! `sirocco ledger show`.
use std::path::Path;

use serde::Serialize;
use sirocco_evidence::sealed;
use sirocco_ledger::disk::Directory;
use sirocco_ledger::source::Source as _;
use sirocco_ledger::{Entry, Fact, LedgerError, record};

use super::lineage::{Lineages, Node};
use super::{broken, find};
use crate::cli;
use crate::failure::Failure;
use crate::output;

/// An entry as it is shown.
#[derive(Serialize)]
struct Shown {
    index: u64,
    sealed: bool,
    #[serde(flatten)]
    entry: Entry,
}

/// The fields of `--json`, in their order.
#[derive(Serialize)]
struct Listed {
    ledger: String,
    log: Option<String>,
    entries: Vec<Shown>,
    of: Option<Node>,
    data: Option<Node>,
}

pub(super) fn run(arguments: &cli::LedgerShow) -> Result<(), Failure> {
    let ledger = find(&arguments.place)?;
    let (log, entries) = read(&ledger)
        .map_err(|error| broken(&error).help(format_args!("sirocco ledger verify {}", arguments.place.display())))?;
    let lineages = Lineages::of(entries.iter().map(|shown| &shown.entry));
    let of = arguments.of.as_deref().map(|typed| made(&lineages, typed)).transpose()?;
    let data = arguments.data.as_deref().map(|typed| used(&lineages, typed)).transpose()?;
    if arguments.json {
        return output::json(&Listed { ledger: ledger.path().display().to_string(), log, entries, of, data });
    }
    if let Some(tree) = of.or(data) {
        let mut lines = Vec::new();
        tree.lines(0, &mut lines);
        return lines.iter().try_for_each(|line| output::line(one_line(line)));
    }
    entries.iter().try_for_each(|shown| output::line(one_line(&row(shown))))
}

/// What an artefact was made from: by its name, or by the directory that it was exported to.
fn made(lineages: &Lineages, typed: &str) -> Result<Node, Failure> {
    let origin = Path::new(typed).join("origin.json");
    let origin = if origin.is_file() { std::fs::read(&origin).ok() } else { None };
    let origin: Option<serde_json::Value> = origin.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let named = origin.as_ref().and_then(|origin| origin.get("artefact")?.as_str());
    let name = named.unwrap_or(typed);
    if lineages.knows(name) { Ok(lineages.sources(name)) } else { Err(unknown(lineages, name)) }
}

/// What data went into: by its name in the ledger, or by its place, which may be a directory with several of them.
fn used(lineages: &Lineages, typed: &str) -> Result<Node, Failure> {
    let name = if typed.starts_with("data:") { typed.to_owned() } else { format!("data:{typed}") };
    if lineages.knows(&name) {
        return Ok(lineages.uses(&name));
    }
    let place = std::path::absolute(typed).unwrap_or_else(|_| typed.into());
    let place = std::fs::canonicalize(&place).unwrap_or(place);
    let parts: Vec<Node> = lineages.within(&place).into_iter().map(|name| lineages.uses(name)).collect();
    match <[Node; 1]>::try_from(parts) {
        Ok([only]) => Ok(only),
        Err(parts) if parts.is_empty() => Err(unknown(lineages, typed)),
        Err(parts) => Ok(Node { artefact: typed.to_owned(), digests: Vec::new(), parts }),
    }
}

fn unknown(lineages: &Lineages, name: &str) -> Failure {
    let names: Vec<&str> = lineages.names().into_iter().collect();
    Failure::usage(format_args!("{name}: the ledger does not name it")).help(format_args!("it names {}", names.join(", ")))
}

/// What is sealed, and what the journal has after it.
fn read(ledger: &Directory) -> Result<(Option<String>, Vec<Shown>), LedgerError> {
    let (log, mut entries) = match ledger.read("checkpoint")? {
        None => (None, Vec::new()),
        Some(_) => {
            let (signed, entries) = sealed(ledger)?;
            let shown = entries.into_iter().map(|one| Shown { index: one.index, sealed: true, entry: one.entry });
            (Some(signed.checkpoint.origin), shown.collect())
        }
    };
    let size = entries.len() as u64;
    if let Some(journal) = ledger.read("journal")? {
        let first = record::first_index(&journal)?;
        for ((_, record), index) in record::records(&journal).zip(first..).filter(|(_, index)| *index >= size) {
            entries.push(Shown { index, sealed: false, entry: Entry::parse(record.entry)? });
        }
    }
    Ok((log, entries))
}

fn row(shown: &Shown) -> String {
    let Shown { index, sealed, entry } = shown;
    let said = entry.decision.as_ref().map(|decision| if decision.allowed { " allowed" } else { " REFUSED" }).unwrap_or_default();
    let about = match entry.facts.get("artefact") {
        Some(Fact::Text(artefact)) => artefact.clone(),
        _ => entry.outputs.keys().cloned().collect::<Vec<_>>().join(", "),
    };
    let rules = entry.decision.as_ref().map(|decision| decision.rules.join(", ")).filter(|rules| !rules.is_empty());
    let rules = rules.map(|rules| format!(" (rule {rules})")).unwrap_or_default();
    let open = if *sealed { "" } else { "  not sealed yet" };
    let why = why(entry).map(|why| format!(": {why}")).unwrap_or_default();
    format!(
        "{index:>6}  {}  {:24}  {:12}  {}{said}  {about}{rules}{why}{open}",
        entry.time, entry.identity, entry.host, entry.verb
    )
}

/// What else is worth a word: why no rule allowed it, how far a node is confined, what was not used.
fn why(entry: &Entry) -> Option<String> {
    let fact = |name: &str| match entry.facts.get(name)? {
        Fact::Text(text) => Some(text.clone()),
        Fact::Number(number) => Some(number.to_string()),
        _ => None,
    };
    if entry.decision.as_ref().is_some_and(|decision| !decision.allowed && decision.rules.is_empty()) {
        return fact("answer").and_then(|answer| Some(answer.rsplit_once(" (")?.1.trim_end_matches(')').to_owned()));
    }
    match entry.verb.as_str() {
        "node.confined" => Some(format!("{} at level {}", fact("host")?, fact("level")?)),
        "artefact.refused" => Some(format!("{}: {}", fact("path")?, fact("why")?)),
        _ => fact("step").map(|step| format!("step {step}")),
    }
}

/// Names come from elsewhere: none moves the cursor of whoever reads.
fn one_line(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}
