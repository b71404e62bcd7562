//! What was made from what, as the questions of a ledger say it.
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;
use sirocco_ledger::{Entry, Fact};

/// An artefact and those above or below it.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Node {
    pub(super) artefact: String,
    /// Digests of its bytes that entries name, the newest last.
    pub(super) digests: Vec<String>,
    /// What it was made from; or, of data, what was made from it.
    pub(super) parts: Vec<Node>,
}

/// Every edge that a question names.
#[derive(Default)]
pub(super) struct Lineages {
    made: BTreeMap<String, BTreeSet<String>>,
    digests: BTreeMap<String, Vec<String>>,
    /// Where something lay when it was asked about.
    places: BTreeMap<String, BTreeSet<PathBuf>>,
}

impl Lineages {
    pub(super) fn of<'a>(entries: impl Iterator<Item = &'a Entry>) -> Lineages {
        let mut lineages = Lineages::default();
        for entry in entries {
            for (name, digest) in entry.inputs.iter().chain(&entry.outputs) {
                let known = lineages.digests.entry(name.clone()).or_default();
                let digest = digest.to_string();
                if known.last() != Some(&digest) {
                    known.push(digest);
                }
            }
            let Some(Fact::Text(request)) = entry.facts.get("request") else { continue };
            // What was refused was not made.
            if entry.decision.as_ref().is_some_and(|decision| decision.allowed) {
                lineages.take(request);
            }
        }
        lineages
    }

    fn take(&mut self, request: &str) {
        let request: Option<Value> = serde_json::from_str(request).ok();
        let places = request.as_ref().and_then(|request| request.get("paths")).and_then(Value::as_object);
        for (name, place) in places.into_iter().flatten() {
            self.places.entry(name.clone()).or_default().extend(place.as_str().map(PathBuf::from));
        }
        let made = request.as_ref().and_then(|request| request.get("made")).and_then(Value::as_object);
        for (name, parts) in made.into_iter().flatten() {
            let parts = parts.as_array().into_iter().flatten().filter_map(Value::as_str);
            self.made.entry(name.clone()).or_default().extend(parts.map(str::to_owned));
        }
    }

    /// Is anything known of it?
    pub(super) fn knows(&self, artefact: &str) -> bool {
        self.names().contains(artefact)
    }

    /// What lay at a place, or within it.
    pub(super) fn within(&self, place: &Path) -> Vec<&str> {
        let lies = |(name, places): (&'_ String, &BTreeSet<PathBuf>)| {
            places.iter().any(|path| path.starts_with(place)) && self.knows(name)
        };
        self.places.iter().filter(|(name, places)| lies((name, places))).map(|(name, _)| name.as_str()).collect()
    }

    /// Everything that is named.
    pub(super) fn names(&self) -> BTreeSet<&str> {
        let edges = self.made.iter().flat_map(|(name, parts)| parts.iter().chain([name]));
        edges.chain(self.digests.keys()).map(String::as_str).collect()
    }

    /// What `artefact` was made from.
    pub(super) fn sources(&self, artefact: &str) -> Node {
        self.tree(
            artefact,
            &|name: &str| self.made.get(name).into_iter().flatten().map(String::as_str).collect(),
            &mut Vec::new(),
        )
    }

    /// What was made from `artefact`.
    pub(super) fn uses(&self, artefact: &str) -> Node {
        let users = |name: &str| {
            let using = self.made.iter().filter(|(_, parts)| parts.contains(name));
            using.map(|(name, _)| name.as_str()).collect()
        };
        self.tree(artefact, &users, &mut Vec::new())
    }

    fn tree<'a>(&'a self, artefact: &str, next: &dyn Fn(&str) -> Vec<&'a str>, above: &mut Vec<String>) -> Node {
        // A ledger that was not verified may say that something was made from itself.
        let is_round = above.iter().any(|name| name == artefact);
        above.push(artefact.to_owned());
        let parts = if is_round { Vec::new() } else { next(artefact) };
        let parts = parts.into_iter().map(|part| self.tree(part, next, above)).collect();
        above.pop();
        Node { artefact: artefact.to_owned(), digests: self.digests.get(artefact).cloned().unwrap_or_default(), parts }
    }
}

impl Node {
    /// A line for each, indented by how far down it is.
    pub(super) fn lines(&self, depth: usize, out: &mut Vec<String>) {
        let digest = self.digests.last().map(|digest| format!("  {digest}")).unwrap_or_default();
        out.push(format!("{}{}{digest}", "  ".repeat(depth), self.artefact));
        self.parts.iter().for_each(|part| part.lines(depth + 1, out));
    }
}

#[cfg(test)]
mod tests {
    use sirocco_ledger::{Author, Decision, Digest};

    use super::*;

    fn asked(made: &str, allowed: bool) -> Entry {
        let author = Author { identity: "person:amal".into(), host: "node".into(), binary: Digest::of(b"") };
        let mut entry = author.entry("policy.train", std::time::SystemTime::UNIX_EPOCH.into());
        entry.facts.insert("request".to_owned(), Fact::Text(format!("{{\"made\":{made}}}")));
        entry.decision = Some(Decision { allowed, policy: Digest::of(b""), rules: Vec::new() });
        entry
    }

    fn lines(node: &Node) -> Vec<String> {
        let mut lines = Vec::new();
        node.lines(0, &mut lines);
        lines
    }

    #[test]
    fn a_model_comes_from_data_and_data_goes_into_models() {
        let entries = [
            asked(r#"{"checkpoint:a":["data:x","model:m"]}"#, true),
            asked(r#"{"adapter:a":["checkpoint:a"]}"#, true),
            asked(r#"{"adapter:b":["checkpoint:a"]}"#, false),
        ];
        let lineages = Lineages::of(entries.iter());
        assert_eq!(lines(&lineages.sources("adapter:a")), ["adapter:a", "  checkpoint:a", "    data:x", "    model:m"]);
        assert_eq!(lines(&lineages.uses("data:x")), ["data:x", "  checkpoint:a", "    adapter:a"]);
        assert!(lineages.knows("data:x") && !lineages.knows("adapter:b"));
    }

    #[test]
    fn a_round_ends() {
        let lineages = Lineages::of([asked(r#"{"model:a":["model:b"],"model:b":["model:a"]}"#, true)].iter());
        assert_eq!(lines(&lineages.sources("model:a")), ["model:a", "  model:b", "    model:a"]);
    }
}
