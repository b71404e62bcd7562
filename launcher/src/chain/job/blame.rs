//! Which nodes of a job are to blame when ranks fail or cannot be started.
use crate::chain::nodes::Verdict;
use crate::chain::record::Unfit;
use crate::failure::Kind;

/// Why a run that needs `wanted` of `tested` nodes cannot start on them, if their test leaves too few.
pub(super) fn too_few(verdict: &Verdict, tested: usize, wanted: usize) -> Option<(Kind, String)> {
    let bad = verdict.unfit.len();
    let fit = tested.saturating_sub(bad);
    if fit >= wanted {
        return None;
    }
    // What most nodes lack is not the fault of a node.
    let kind = if bad > 1 && 2 * bad > tested { Kind::Usage } else { Kind::Machine };
    let each: Vec<String> = verdict.unfit.iter().map(|unfit| format!("{}: {}", unfit.node, unfit.why)).collect();
    Some((kind, format!("{fit} of {tested} nodes fit, and the run needs {wanted}: {}", each.join("; "))))
}

/// Those of the nodes that the ranks' message says they lost. A host may call itself by its name with a domain.
pub(super) fn silent(nodes: &[String], message: &str) -> Vec<Unfit> {
    let hosts: Vec<&str> =
        message.split(" on ").skip(1).filter_map(|rest| rest.split([':', ')', ',', ';', ' ']).next()).collect();
    let is_named =
        |node: &&String| hosts.iter().any(|host| *host == node.as_str() || host.split('.').next() == Some(node.as_str()));
    let why = "its ranks do not answer, and it does not end them".to_owned();
    nodes.iter().filter(is_named).map(|node| Unfit { node: node.clone(), why: why.clone() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unfit(nodes: &[&str]) -> Vec<Unfit> {
        nodes.iter().map(|node| Unfit { node: (*node).to_owned(), why: "no memory".to_owned() }).collect()
    }

    #[test]
    fn a_bad_node_is_the_machine_s_fault_and_many_are_the_run_s() {
        let of = |bad: &[&str], tested, wanted| too_few(&Verdict { unfit: unfit(bad), notes: vec![] }, tested, wanted);
        assert_eq!(of(&["n3"], 3, 2), None);
        let words = "1 of 2 nodes fit, and the run needs 2: n2: no memory".to_owned();
        assert_eq!(of(&["n2"], 2, 2), Some((Kind::Machine, words)));
        assert!(matches!(of(&["n1", "n2", "n3"], 4, 2), Some((Kind::Usage, _))));
    }

    #[test]
    fn a_lost_node_is_known_by_its_name_with_or_without_a_domain() {
        let nodes = ["n1", "n2", "n11"].map(str::to_owned);
        let named = |message: &str| silent(&nodes, message).into_iter().map(|unfit| unfit.node).collect::<Vec<_>>();
        assert_eq!(named("rank 2 (process 31 on n2) does not answer"), ["n2"]);
        assert_eq!(named("out of reach: rank 0 on n1.cluster.example, rank 3 on n11: no route"), ["n1", "n11"]);
        assert_eq!(named("no space left on device"), [""; 0]);
    }
}
