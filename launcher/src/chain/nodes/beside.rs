//! What makes a node unfit beside the others: less of something than most have, other versions.

use std::collections::{BTreeMap, BTreeSet};

use sirocco_config::NodeReport;

use super::median;
use crate::output::bytes;

/// A node that computes slower than this part of the median holds up all others at every step.
const SPEED: f64 = 0.5;

/// Less memory than this part of the median: a module is missing.
const MEMORY: f64 = 0.9;

/// Less of it to be had than this part of the median: something else runs there, or has left it behind.
const AVAILABLE: f64 = 0.5;

/// The fewest nodes of which a median says which one is odd.
const NODES: usize = 3;

/// Shown, and not compared: nodes of one cluster have several while it is brought up to date, and numbers do not depend on them.
const HARMLESS: [&str; 1] = ["kernel"];

/// What most nodes have.
#[derive(Debug)]
pub(super) struct Others {
    nodes: usize,
    memory: Option<f64>,
    available: Option<f64>,
    /// Billions of operations a second of all devices of a node together, by element type.
    speeds: BTreeMap<String, f64>,
    /// Each version that more than half of the nodes have.
    versions: BTreeMap<String, Option<String>>,
    /// What is found of those that no majority agrees on.
    disputed: BTreeMap<String, BTreeSet<String>>,
}

impl Others {
    pub(super) fn new(answers: &[&NodeReport]) -> Self {
        let middle = |value: fn(&NodeReport) -> Option<u64>| {
            median(answers.iter().filter_map(|answer| value(answer)).map(|value| value as f64).collect())
        };
        let mut of_types: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        for (dtype, speed) in answers.iter().flat_map(|answer| speeds(answer)) {
            of_types.entry(dtype).or_default().push(speed);
        }
        let speeds = of_types.into_iter().filter_map(|(dtype, speeds)| Some((dtype, median(speeds)?))).collect();
        let (versions, disputed) = agreed(answers);
        Self {
            nodes: answers.len(),
            memory: middle(|answer| answer.memory_bytes),
            available: middle(|answer| answer.memory_available_bytes),
            speeds,
            versions,
            disputed,
        }
    }

    /// Every reason, in words.
    pub(super) fn faults(&self, answer: &NodeReport) -> Vec<String> {
        let mut faults = self.other_versions(answer);
        if self.nodes < NODES {
            return faults;
        }
        let most = self.nodes;
        for (dtype, speed) in speeds(answer) {
            let Some(median) = self.speeds.get(&dtype).filter(|median| speed < SPEED * **median) else { continue };
            faults.push(format!(
                "is slow: {speed:.0} GFLOP/s in a {dtype} matrix product, expected at least half of the {median:.0} of the median of {most} nodes"
            ));
        }
        let less = |found: Option<u64>, median: Option<f64>, part: f64| {
            let (found, median) = (found?, median?);
            ((found as f64) < part * median).then(|| (bytes(found), bytes(median as u64)))
        };
        if let Some((found, median)) = less(answer.memory_bytes, self.memory, MEMORY) {
            faults.push(format!("has {found} of memory: expected the {median} of the other nodes"));
        } else if let Some((found, median)) = less(answer.memory_available_bytes, self.available, AVAILABLE) {
            faults.push(format!(
                "has {found} of memory free: expected about {median} as on the other nodes; another program holds the rest"
            ));
        }
        faults
    }

    fn other_versions(&self, answer: &NodeReport) -> Vec<String> {
        let differs = |(name, most): (&String, &Option<String>)| {
            let found = answer.versions.get(name).cloned().flatten();
            (found != *most).then(|| {
                let [found, most] = [&found, most].map(|version| version.clone().unwrap_or_else(|| "none".to_owned()));
                format!("has another {name} than most nodes: found {found}, expected {most}")
            })
        };
        self.versions.iter().filter_map(differs).collect()
    }

    /// Versions of which nobody can say who has the wrong one.
    pub(super) fn notes(&self) -> Vec<String> {
        let note = |(name, found): (&String, &BTreeSet<String>)| {
            let found: Vec<&str> = found.iter().map(String::as_str).collect();
            format!("the nodes have different versions of {name}, none of them most: {}", found.join(", "))
        };
        self.disputed.iter().map(note).collect()
    }
}

/// The speeds of a node, by element type.
fn speeds(answer: &NodeReport) -> BTreeMap<String, f64> {
    let mut speeds = BTreeMap::new();
    for product in answer.devices.iter().flatten().flat_map(|device| &device.products) {
        *speeds.entry(product.dtype.clone()).or_insert(0.0) += product.gflops;
    }
    speeds
}

type Versions = BTreeMap<String, Option<String>>;
type Disputed = BTreeMap<String, BTreeSet<String>>;

/// What more than half of the nodes have of each version; and what there is of those where no such half is.
fn agreed(answers: &[&NodeReport]) -> (Versions, Disputed) {
    let names: BTreeSet<&String> = answers.iter().flat_map(|answer| answer.versions.keys()).collect();
    let (mut agreed, mut disputed) = (Versions::new(), Disputed::new());
    for name in names.into_iter().filter(|name| !HARMLESS.contains(&name.as_str())) {
        let mut counts: BTreeMap<Option<&String>, usize> = BTreeMap::new();
        for answer in answers {
            *counts.entry(answer.versions.get(name).and_then(Option::as_ref)).or_default() += 1;
        }
        match counts.iter().find(|(_, count)| **count * 2 > answers.len()) {
            Some((most, _)) => {
                agreed.insert(name.clone(), most.cloned());
            }
            None => {
                let found = counts.keys().map(|version| version.map_or_else(|| "none".to_owned(), Clone::clone));
                disputed.insert(name.clone(), found.collect());
            }
        }
    }
    (agreed, disputed)
}
