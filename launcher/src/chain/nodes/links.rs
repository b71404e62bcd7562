//! What makes a node unfit by its links: most of them slow where those of other nodes are not, or silence.

use std::collections::BTreeMap;

use sirocco_config::{LinkLine, LinkReport, LinkSummary};

use super::median;

/// A link is slow below this part of the median.
const SPEED: f64 = 1.0 / 3.0;

/// The fewest nodes of which it can be said whose links are slow: of two, both have the same one.
const NODES: usize = 3;

/// What was measured.
#[derive(Debug)]
pub(super) struct Links<'a> {
    /// Bytes a second of the links of each node.
    of_nodes: BTreeMap<&'a str, Vec<f64>>,
    /// The median over the nodes of the median of each. A node with bad links spoils one of each other's, and so neither of the two.
    median: Option<f64>,
    summary: Option<&'a LinkSummary>,
}

impl<'a> Links<'a> {
    pub(super) fn new(lines: &'a [LinkLine]) -> Self {
        let mut of_nodes: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        let pairs = lines.iter().filter_map(|line| if let LinkLine::Pair(pair) = line { Some(pair) } else { None });
        for LinkReport { nodes: [one, other], bytes_per_s, .. } in pairs {
            let between_nodes = bytes_per_s.filter(|_| one != other);
            for node in [one, other] {
                of_nodes.entry(node).or_default().extend(between_nodes);
            }
        }
        of_nodes.retain(|_, links| !links.is_empty());
        let median = median(of_nodes.values().filter_map(|links| median(links.clone())).collect());
        let summary = lines.iter().find_map(|line| if let LinkLine::Summary(summary) = line { Some(summary) } else { None });
        Self { of_nodes, median, summary }
    }

    /// Why a node's links make it unfit.
    pub(super) fn faults(&self, node: &str) -> Option<String> {
        if let Some(summary) = self.summary.filter(|summary| summary.missing.iter().any(|missing| missing == node)) {
            let error = summary.error.as_deref().unwrap_or("it did not say why");
            return Some(format!("does not answer other nodes: {error}"));
        }
        let (links, median) = (self.of_nodes.get(node)?, self.median?);
        let slow = links.iter().filter(|speed| **speed < SPEED * median).count();
        if self.of_nodes.len() < NODES || slow * 2 <= links.len() {
            return None;
        }
        let best = links.iter().copied().fold(0.0, f64::max);
        Some(format!(
            "has slow links: {slow} of {} measured, the best of them {} MB/s; expected at least a third of the {} MB/s of the median",
            links.len(),
            megabytes(best),
            megabytes(median)
        ))
    }

    /// What a person should know of the test itself.
    pub(super) fn notes(&self) -> Option<String> {
        let summary = self.summary?;
        match (&summary.error, summary.missing.is_empty()) {
            (Some(error), true) => Some(format!("the links between nodes could not be measured: {error}")),
            _ => None,
        }
    }
}

fn megabytes(bytes: f64) -> String {
    format!("{:.0}", bytes / 1e6)
}
