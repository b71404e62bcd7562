//! `sirocco ledger show`.
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
    let known = |name: &str| {
        let names: Vec<&str> = lineages.names().into_iter().collect();
        let missing = || {
            Failure::usage(format_args!("{name}: the ledger does not name it"))
                .help(format_args!("it names {}", names.join(", ")))
        };
        lineages.knows(name).then(|| name.to_owned()).ok_or_else(missing)
    };
    let of = arguments.of.as_deref().map(known).transpose()?.map(|name| lineages.sources(&name));
    let data =
        arguments.data.as_deref().map(|name| if name.starts_with("data:") { name.to_owned() } else { format!("data:{name}") });
    let data = data.as_deref().map(known).transpose()?.map(|name| lineages.uses(&name));
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
    format!("{index:>6}  {}  {:24}  {:12}  {}{said}  {about}{rules}{open}", entry.time, entry.identity, entry.host, entry.verb)
}

/// Names come from elsewhere: none moves the cursor of whoever reads.
fn one_line(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}
