//! How mpirun and srun mark a rank's lines, and in which words they say that one has died or failed.

/// A rank that a signal ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Death {
    pub(crate) rank: u64,
    pub(crate) signal: i32,
    /// The node, where mpirun names it.
    pub(crate) node: Option<String>,
}

/// `[1,0]<stderr>:text` of Open MPI, `[job@1,0]<stderr>: text` of Open MPI 5, `[0] text` of Hydra.
pub(super) fn tagged(line: &str) -> Option<(u64, &str)> {
    let (tag, rest) = line.strip_prefix('[')?.split_once(']')?;
    let rank = tag.rsplit(',').next()?.trim().parse().ok()?;
    let text = rest.strip_prefix("<stderr>:").or_else(|| rest.strip_prefix("<stdout>:")).unwrap_or(rest);
    Some((rank, text.strip_prefix(' ').unwrap_or(text)))
}

/// `3: text` of `srun --label`; of many tasks the numbers stand under each other.
pub(super) fn labelled(line: &str) -> Option<(u64, &str)> {
    let (rank, text) = line.trim_start().split_once(':')?;
    Some((rank.parse().ok()?, text.strip_prefix(' ').unwrap_or(text)))
}

/// `mpirun noticed that process rank 1 with PID 0 on node n exited on signal 9 (Killed).`
pub(super) fn death(line: &str) -> Option<Death> {
    let number =
        |after: &str| line.split_once(after)?.1.split(|letter: char| !letter.is_ascii_digit()).next()?.parse::<u64>().ok();
    let rank = number("noticed that process rank ")?;
    let signal = i32::try_from(number("exited on signal ")?).ok()?;
    let node = line.split_once(" on node ").and_then(|(_, rest)| rest.split_whitespace().next()).map(str::to_owned);
    Some(Death { rank, signal, node })
}

/// `srun: error: n2: task 3: Killed`. After the first one srun ends the others, whose ends say nothing.
pub(super) fn death_of_task(line: &str) -> Option<Death> {
    let (node, rest) = line.strip_prefix("srun: error: ")?.split_once(": task")?;
    // Of several, `tasks 2-3: Killed`, the first.
    let (tasks, how) = rest.trim_start_matches('s').trim_start().split_once(": ")?;
    let task = tasks.split(['-', ',']).next()?;
    let signals = [
        ("Killed", 9),
        ("Out Of Memory", 9),
        ("User defined signal 1", 10),
        ("Segmentation fault", 11),
        ("Aborted", 6),
        ("Bus error", 7),
        ("Illegal instruction", 4),
    ];
    let (_, signal) = signals.into_iter().find(|(name, _)| how.starts_with(name))?;
    Some(Death { rank: task.parse().ok()?, signal, node: Some(node.to_owned()) })
}

/// `  Process name: [[30459,1],1]`, in the note about the first process with another exit code than 0.
pub(super) fn failed_process(line: &str) -> Option<u64> {
    let name = line.trim().strip_prefix("Process name:")?.trim();
    name.strip_suffix(']')?.rsplit(',').next()?.parse().ok()
}

/// `MPI_ABORT was invoked on rank 1 in communicator MPI_COMM_WORLD`
pub(super) fn aborting_rank(line: &str) -> Option<u64> {
    line.split_once("MPI_ABORT was invoked on rank ")?.1.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_of_every_flavour() {
        assert_eq!(tagged("[1,12]<stderr>:a b"), Some((12, "a b")));
        assert_eq!(tagged("[prterun-n-17@1,3]<stderr>: a"), Some((3, "a")));
        assert_eq!(tagged("[2] a"), Some((2, "a")));
        assert_eq!(tagged("[a] b"), None);
        assert_eq!(tagged("plain"), None);
    }

    #[test]
    fn what_srun_says_of_itself_is_nobody_s_line_and_an_exit_code_no_death() {
        assert_eq!(labelled("  3: a b"), Some((3, "a b")));
        assert_eq!(labelled("slurmstepd: error: no"), None);
        assert_eq!(
            death_of_task("srun: error: n1: tasks 2-3: Out Of Memory").map(|death| (death.rank, death.signal)),
            Some((2, 9))
        );
        assert_eq!(death_of_task("srun: error: n2: task 3: Exited with exit code 1"), None);
    }
}
