//! The page of a bundle, for people. What it says rests on the other files; the template escapes everything.
use serde_json::{Value, json};
use sirocco_evidence::{Gathered, Numbered};
use sirocco_ledger::Fact;

use crate::failure::Failure;
use crate::report::html::render;

pub(super) fn page(gathered: &Gathered) -> Result<String, Failure> {
    let record = &gathered.record;
    let list = |texts: &mut dyn Iterator<Item = String>| texts.collect::<Vec<_>>().join(", ");
    let summary = &record.summary;
    let about = [
        ("run", record.run.clone()),
        ("site", record.site.clone()),
        ("who", list(&mut summary.identities.iter().cloned())),
        ("machines", list(&mut summary.hosts.iter().cloned())),
        ("programs", list(&mut summary.programs.iter().map(ToString::to_string))),
        ("from", summary.first.clone()),
        ("to", summary.last.clone()),
        ("ledger", record.log.clone()),
        ("made by", format!("{}, {}", record.made_by, record.made_at)),
    ];
    let refused = record.decisions.iter().filter(|ruling| !ruling.allowed).count();
    let tiles = [
        ("entries", record.entries.to_string()),
        ("decisions", record.decisions.len().to_string()),
        ("of them refused", refused.to_string()),
        ("nodes measured", record.nodes.len().to_string()),
        ("signed artefacts", record.artefacts.len().to_string()),
    ];
    render(
        "evidence.html",
        json!({
            "title": format!("Evidence of {}", record.run),
            "headline": format!("{} to {}", summary.first, summary.last),
            "tiles": tiles,
            "notes": [],
            "about": about,
            "claims": record.claims,
            "artefacts": record.artefacts,
            "entries": gathered.entries.iter().map(row).collect::<Vec<_>>(),
        }),
    )
}

fn row(one: &Numbered) -> Value {
    let entry = &one.entry;
    let said = entry.decision.as_ref().map(|decision| if decision.allowed { "allowed" } else { "refused" });
    let about = match entry.facts.get("artefact") {
        Some(Fact::Text(artefact)) => artefact.clone(),
        _ => entry.outputs.keys().cloned().collect::<Vec<_>>().join(", "),
    };
    let rules = entry.decision.as_ref().map(|decision| decision.rules.join(", ")).unwrap_or_default();
    json!({
        "index": one.index, "time": entry.time.to_string(), "who": entry.identity, "host": entry.host, "verb": entry.verb,
        "said": said.unwrap_or_default(), "rules": rules, "about": about,
    })
}

#[cfg(test)]
mod tests {
    use sirocco_ledger::{Author, Digest};

    use super::*;

    #[test]
    fn what_entries_say_is_escaped() {
        let author = Author { identity: "person:<b>".into(), host: "node".into(), binary: Digest::of(b"") };
        let entry = author.entry("run.started", std::time::SystemTime::UNIX_EPOCH.into());
        let record = json!({
            "v": 1, "run": "<script>alert(1)</script>", "site": "local", "made_by": "a", "made_at": "b", "log": "c", "entries": 1,
            "summary": {"identities": [], "hosts": [], "programs": [], "first": "", "last": ""},
            "decisions": [], "nodes": [], "artefacts": [], "claims": [],
        });
        let gathered = Gathered {
            record: serde_json::from_value(record).unwrap(),
            entries: vec![Numbered { index: 0, entry, text: Vec::new() }],
            files: std::collections::BTreeMap::new(),
        };
        let page = page(&gathered).unwrap();
        assert!(page.contains("&lt;script&gt;") && page.contains("person:&lt;b&gt;"), "{page}");
        assert!(
            !page.contains("<script") && !page.contains("src=") && !page.contains("http-equiv=\"refresh"),
            "it needs nothing else"
        );
    }
}
