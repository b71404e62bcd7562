//! Words about jobs that several commands share, and text of others made fit for a line.
use crate::chain::history::Job;
use crate::chain::record::Next;
use crate::output::count;

/// Nodes that are named one by one.
const NAMED: usize = 4;

/// `n1, n2`, or of many `128 nodes, n1 to n128`.
pub(crate) fn nodes_words(nodes: &[String]) -> String {
    match nodes {
        [first, .., last] if nodes.len() > NAMED => format!("{}, {first} to {last}", count(nodes.len() as u64, "node")),
        _ => nodes.join(", "),
    }
}

/// Why the ranks of a job ended and what follows; none while there is nothing to say.
pub(crate) fn what_next(job: &Job) -> Option<String> {
    if let Some(why) = job.failed_before() {
        let which = if job.attempts > 1 { format!("attempt {}", job.attempts - 1) } else { "its last attempt".to_owned() };
        return Some(format!("{which} failed: {}", one_line(why.lines().next().unwrap_or_default())));
    }
    let next = match job.next.as_ref()? {
        Next::Nothing => None,
        Next::Again => Some("its ranks start again".to_owned()),
        Next::Requeued => Some("it is queued again".to_owned()),
        Next::Job(id) => Some(format!("job {id} follows")),
    };
    let parts: Vec<_> = job.why.iter().map(|why| one_line(why)).chain(next).collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}

/// Text that a program or a person wrote, without what would move the cursor.
pub(crate) fn one_line(text: &str) -> String {
    text.trim().chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::history::{jobs, tests::two_jobs};
    use crate::chain::record::Outcome;

    #[test]
    fn many_nodes_are_counted_and_few_are_named() {
        let nodes = |count: usize| (1..=count).map(|number| format!("n{number}")).collect::<Vec<_>>();
        assert_eq!([1, 4, 128].map(|count| nodes_words(&nodes(count))), ["n1", "n1, n2, n3, n4", "128 nodes, n1 to n128"]);
        assert_eq!(nodes_words(&[]), "");
    }

    #[test]
    fn an_end_has_its_reason_and_what_follows() {
        let all = jobs(two_jobs());
        assert_eq!(what_next(&all[0]).as_deref(), Some("the time was up; job 8 follows"));
        assert_eq!(what_next(&all[1]), None);
        let mut job = all[0].clone();
        (job.attempts, job.next, job.outcome) = (2, None, Some(Outcome::Failed));
        job.why = Some("rank 1 of 4 was killed by signal 9\n  rank 0: it died".to_owned());
        assert_eq!(what_next(&job).as_deref(), Some("attempt 1 failed: rank 1 of 4 was killed by signal 9"));
        assert_eq!(one_line("a\u{1b}[31mred\nblue"), "a [31mred blue");
    }
}
