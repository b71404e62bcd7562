//! What has happened to a chain since a person last submitted it: whether it goes on, which nodes it keeps away from, how often it failed.
use std::path::Path;

use crate::chain::record::{self, Event, Outcome, What};
use crate::failure::Failure;

/// The record of a run up to now.
#[derive(Clone, Debug, Default)]
pub(crate) struct Past(Vec<Event>);

/// A failure in the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Failed<'a> {
    /// Of the newest checkpoint then.
    pub(crate) step: u64,
    pub(crate) why: &'a str,
}

impl Past {
    /// Of a run directory.
    pub(crate) fn read(run: &Path) -> Result<Past, Failure> {
        record::read(run).map(Past)
    }

    /// Every job that the run ever had, by its number; one is there as often as something happened to it.
    pub(crate) fn jobs(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|event| event.job.as_str())
    }

    /// The job that was submitted last.
    pub(crate) fn newest_job(&self) -> Option<&str> {
        let submitted = |event: &&Event| matches!(event.what, What::Submitted { .. });
        self.0.iter().rfind(submitted).map(|event| event.job.as_str())
    }

    /// Whether a person has ended the chain.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.since_a_person().any(|event| event.what == What::Cancelled)
    }

    /// Nodes that were found unfit.
    pub(crate) fn unfit_nodes(&self) -> Vec<String> {
        let mut nodes: Vec<String> = Vec::new();
        for event in self.since_a_person() {
            match &event.what {
                What::Submitted { after: Some(_), excluded } => nodes.extend(excluded.iter().cloned()),
                What::Tested { unfit, .. } | What::Ended { unfit, .. } => {
                    nodes.extend(unfit.iter().map(|unfit| unfit.node.clone()));
                }
                _ => {}
            }
        }
        nodes.sort();
        nodes.dedup();
        nodes
    }

    /// The failures, the newest first, until ranks ended otherwise.
    pub(crate) fn failures(&self) -> impl Iterator<Item = Failed<'_>> {
        let endings = self.since_a_person().rev().filter_map(|event| match &event.what {
            What::Ended { outcome, step, why, .. } => Some((*outcome, Failed { step: *step, why })),
            _ => None,
        });
        endings.map_while(|(outcome, failed)| (outcome == Outcome::Failed).then_some(failed))
    }

    /// Whether the job before this one was stopped and had done no step.
    pub(crate) fn last_job_did_no_step(&self) -> bool {
        let this = self.0.last().map(|event| event.job.as_str());
        let mut before = self.since_a_person().rev().skip_while(|event| Some(event.job.as_str()) == this);
        let Some((Outcome::Stopped, step)) = before.find_map(|event| match &event.what {
            What::Ended { outcome, step, .. } => Some((*outcome, *step)),
            _ => None,
        }) else {
            return false;
        };
        let began = before.find_map(|event| match &event.what {
            What::Ranks { from_step, .. } => Some(*from_step),
            _ => None,
        });
        began == Some(step)
    }

    /// A job that follows another one names it; one that a person submitted does not.
    fn since_a_person(&self) -> impl DoubleEndedIterator<Item = &Event> {
        let by_a_person = |event: &Event| matches!(event.what, What::Submitted { after: None, .. });
        self.0.iter().skip(self.0.iter().rposition(by_a_person).unwrap_or(0))
    }
}

impl From<Vec<Event>> for Past {
    fn from(events: Vec<Event>) -> Past {
        Past(events)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::history::tests::{event, two_jobs};

    fn past(more: Vec<Event>) -> Past {
        Past(two_jobs().into_iter().chain(more).collect())
    }

    #[test]
    fn a_chain_is_cancelled_until_a_person_submits_it_again() {
        let cancelled = event(700.0, "8", r#""event":"cancelled""#);
        let again = event(800.0, "9", r#""event":"submitted","after":null,"excluded":[]"#);
        assert!(!past(vec![]).is_cancelled() && !Past::default().is_cancelled());
        assert!(past(vec![cancelled.clone()]).is_cancelled());
        assert!(!past(vec![cancelled, again]).is_cancelled());
    }

    #[test]
    fn nodes_stay_out_until_a_person_has_looked() {
        assert_eq!(past(vec![]).unfit_nodes(), ["n3"]);
        let after = event(700.0, "9", r#""event":"submitted","after":"8","excluded":["n3","n1"]"#);
        assert_eq!(past(vec![after]).unfit_nodes(), ["n1", "n3"]);
        let again = event(800.0, "9", r#""event":"submitted","after":null,"excluded":[]"#);
        assert_eq!(past(vec![again]).unfit_nodes(), [""; 0]);
    }

    #[test]
    fn the_newest_job_is_the_one_submitted_last_whatever_happens_to_others() {
        assert_eq!(past(vec![]).newest_job(), Some("8"));
        assert_eq!(past(vec![]).jobs().last(), Some("7"));
        assert_eq!(Past::default().newest_job(), None);
    }

    #[test]
    fn failures_count_back_to_the_last_other_end() {
        let failed = |job: &str, step: u64| {
            let what =
                format!(r#""event":"ended","attempt":1,"outcome":"failed","step":{step},"why":"no","unfit":[],"next":"again""#);
            event(900.0, job, &what)
        };
        let found = past(vec![failed("8", 40), failed("8", 42)]);
        assert_eq!(found.failures().map(|failure| failure.step).collect::<Vec<_>>(), [42, 40], "job 7 was stopped before");
    }
}
