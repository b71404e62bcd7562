//! Which nodes of an allocation are fit for work: from what `sirocco-train node` said on each of them, and with `--link` of each pair, to the
//! nodes that must stay out, each with the reason. Nothing is asked or read here. docs/nodes.md has the bounds and why they are as they are.

mod alone;
mod beside;
mod links;
#[cfg(test)]
mod tests;

use sirocco_config::{LinkLine, NodeReport};

use super::record::Unfit;

/// What was asked of the nodes, and when.
#[derive(Clone, Debug)]
pub(crate) struct Asked<'a> {
    /// Those that should have answered, in the order of Slurm.
    pub(crate) nodes: &'a [String],
    /// The launcher's clock before it asked and when it had the last answer, in seconds since 1970.
    pub(crate) began: f64,
    pub(crate) ended: f64,
    pub(crate) needs: Needs,
}

/// What the run needs of a node.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Needs {
    /// Of one checkpoint, all of it.
    pub(crate) checkpoint_bytes: u64,
    /// Of those, what one node keeps in its staging directory; 0 without one.
    pub(crate) staged_bytes: u64,
    /// GPUs of a node; 0 where the run computes on CPUs.
    pub(crate) gpus: u64,
}

/// What is known of all nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Nodes that must stay out, in the order of Slurm.
    pub(crate) unfit: Vec<Unfit>,
    /// What a person should know although nobody can say which node is to blame.
    pub(crate) notes: Vec<String>,
}

/// The answers in what nodes have printed; lines that are none are passed over. `srun --label` may have put numbers before them.
pub(crate) fn answers(printed: &str) -> Vec<NodeReport> {
    objects(printed)
        .filter_map(|line| serde_json::from_str(line).ok())
        .filter(|answer: &NodeReport| !answer.host.is_empty())
        .collect()
}

/// The same for the test of the links.
pub(crate) fn links(printed: &str) -> Vec<LinkLine> {
    objects(printed).filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn objects(printed: &str) -> impl Iterator<Item = &str> {
    printed.lines().filter_map(|line| line.find('{').map(|at| &line[at..]))
}

/// Judges every node by itself, beside the others, and by its links. `links` is empty where they were not measured.
pub(crate) fn judge(asked: &Asked<'_>, answers: &[NodeReport], links: &[LinkLine]) -> Verdict {
    let of = |node: &String| answers.iter().find(|answer| is_of(answer, node));
    let answered: Vec<&NodeReport> = asked.nodes.iter().filter_map(of).collect();
    let others = beside::Others::new(&answered);
    let links = links::Links::new(links);
    let mut verdict = Verdict { unfit: Vec::new(), notes: others.notes() };
    for node in asked.nodes {
        let mut why = match of(node) {
            None => vec!["did not answer".to_owned()],
            Some(answer) => [alone::faults(asked, answer), others.faults(answer)].concat(),
        };
        why.extend(links.faults(node));
        if !why.is_empty() {
            verdict.unfit.push(Unfit { node: node.clone(), why: why.join("; ") });
        }
    }
    verdict.notes.extend(links.notes());
    verdict
}

/// Whether Slurm means that node: by the name that it gave the program, or by its host name, which may have a domain.
fn is_of(answer: &NodeReport, node: &str) -> bool {
    answer.node == node || answer.host == node || answer.host.split('.').next() == Some(node)
}

/// The middle one, of two the larger; nothing of none.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}
