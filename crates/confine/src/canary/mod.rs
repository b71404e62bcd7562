//! The live negative test: somebody outside listens, somebody inside tries everything, and nothing may be heard.
//!
//! [`Canary::open`] opens listeners in the calling process, which stays as it is, and has a helper that is not confined reach each
//! of them: the control, without which silence would show nothing. Then those who are confined attempt the same, with words of
//! their own: a helper that is confined as demanded ([`Canary::measure`]), or any process to which a plan is handed, a rank of a
//! run for one ([`Canary::plan`], [`attempt`] inside, [`Canary::judge`]). An attempt that gets through is a [`Finding`] with its
//! name, and so is a listener that the control did not reach; a [`Report`] with a finding does not hold.
//!
//! What the attempts do outside, should they get through: they reach the listeners here; they send one DNS question about a name
//! that cannot exist (RFC 6761, `.invalid`) to the name servers of this machine; they connect to AF_UNIX sockets of local
//! programs and say nothing. The control does neither of the last two. Nothing else leaves the machine.
//!
//! Not attempted: a connection through a ring (io_uring), which needs memory shared with the kernel and so unsafe code; that no
//! ring can be made is.

mod addresses;
mod attempts;
mod listeners;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use addresses::{machine, name_servers};
pub use attempts::{Outcome, Plan, Try, attempt};
pub use listeners::Listeners;

use crate::apply::{Applied, Demand};
use crate::child::{ChildError, Helper, Reply, Request};
use crate::level::Gap;

/// How long the helper may take with all attempts: each ends within 2 s, and a dozen of them may have to wait.
const LIMIT: Duration = Duration::from_secs(60);

/// One attempt and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Its name: what was called, and towards what.
    pub name: String,
    /// The listener at the other end, where there is one.
    pub listener: Option<String>,
    /// What the one inside encountered.
    pub outcome: Outcome,
    /// Whether somebody outside heard it.
    pub heard: bool,
    /// Whether it got through: heard, connected, or, where there is nobody to hear it, permitted.
    pub got_through: bool,
    /// Whether it got through in the control, without confinement; `None` when the control does not attempt it.
    pub unconfined: Option<bool>,
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Finding {
    /// An attempt got through.
    GotThrough {
        /// Its name.
        attempt: String,
    },
    /// A listener was reached by nobody in the control, so that nobody reaching it from inside says nothing.
    NotReached {
        /// The listener.
        listener: String,
    },
    /// This machine has no address but loopbacks: whether addresses outside can be reached was not measured.
    NoOutsideAddress,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::GotThrough { attempt } => write!(f, "got through: {attempt}"),
            Self::NotReached { listener } => write!(f, "not measured: {listener} cannot be reached without confinement either"),
            Self::NoOutsideAddress => f.write_str("not measured: this machine has no address but loopbacks"),
        }
    }
}

/// What was measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// What was in force inside; `None` when whoever started the one inside saw to it.
    pub applied: Option<Applied>,
    /// The user inside, and of the control.
    pub user: u32,
    /// Every attempt, in the order made.
    pub attempts: Vec<Attempt>,
    /// What is wrong; nothing when the confinement holds.
    pub findings: Vec<Finding>,
    /// Listeners that this machine could not open, and why: an attempt for each is missing.
    pub absent: Vec<String>,
}

impl Report {
    /// The names of what got through.
    pub fn failures(&self) -> Vec<&str> {
        self.attempts.iter().filter(|attempt| attempt.got_through).map(|attempt| attempt.name.as_str()).collect()
    }

    /// The names of what got through although nothing that the level leaves open explains it: processes that connect themselves may
    /// use TCP ([`Gap::Peers`]) and UDP ([`Gap::Udp`]).
    pub fn beyond_gaps(&self) -> Vec<&str> {
        let gaps = self.applied.as_ref().map(|applied| applied.gaps.as_slice()).unwrap_or_default();
        let itself = self.applied.as_ref().is_some_and(|applied| !applied.allowed.fits_namespace());
        let explained = |name: &str| {
            let udp = name.starts_with("udp") || name.starts_with("dns question");
            itself && (name.starts_with("tcp connect") && gaps.contains(&Gap::Peers) || udp && gaps.contains(&Gap::Udp))
        };
        self.failures().into_iter().filter(|name| !explained(name)).collect()
    }

    /// Whether there were attempts, none got through, and all could have.
    pub fn holds(&self) -> bool {
        !self.attempts.is_empty() && self.findings.is_empty() && self.failures().is_empty()
    }
}

/// Why nothing was measured. That is not a pass.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CanaryError {
    /// No listener could be opened.
    #[error("the listeners of the canary: {0}")]
    Listeners(std::io::Error),
    /// The helper could not be asked.
    #[error(transparent)]
    Helper(#[from] ChildError),
    /// The helper could not be confined as demanded.
    #[error("inside: {0}")]
    Refused(String),
    /// The control was another user's, whose ways are others.
    #[error("the control was made as user {control} and the attempts as user {inside}")]
    User {
        /// The user of the control.
        control: u32,
        /// The user inside.
        inside: u32,
    },
}

/// What somebody inside has to say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inside {
    /// What is in force there, where it is known.
    pub applied: Option<Applied>,
    /// The user (`getuid`).
    pub user: u32,
    /// The outcome of every attempt, in the order of the plan.
    pub outcomes: Vec<Outcome>,
}

impl Inside {
    /// Makes every attempt of a plan in the calling process.
    pub fn attempts(plan: &[Plan], applied: Option<Applied>) -> Self {
        Self { applied, user: rustix::process::getuid().as_raw(), outcomes: plan.iter().map(attempt).collect() }
    }
}

/// Listeners, and what a process that is not confined reaches of them.
#[derive(Debug)]
pub struct Canary {
    listeners: Listeners,
    user: u32,
    control: Vec<Attempt>,
}

impl Canary {
    /// Opens listeners and makes the control. `helper` is started as it is, not confined, and is to be of the user whose
    /// confinement is measured. `directory` is where the AF_UNIX listeners lie: outside of what a demand leaves open, and to be
    /// entered by that user.
    ///
    /// # Errors
    /// When nothing can be measured.
    pub fn open(helper: &Helper, directory: &Path) -> Result<Self, CanaryError> {
        let mut listeners = Listeners::open(directory).map_err(CanaryError::Listeners)?;
        let plan: Vec<_> = listeners.plan().into_iter().filter(|plan| plan.attempt.is_ours()).collect();
        let inside = ask(helper, None, &plan)?;
        let control = compare(&mut listeners, &plan, inside.outcomes, &[])?;
        Ok(Self { listeners, user: inside.user, control })
    }

    /// What became of every attempt without confinement.
    pub fn control(&self) -> &[Attempt] {
        &self.control
    }

    /// A plan for one process inside. Each has its own.
    pub fn plan(&mut self) -> Vec<Plan> {
        self.listeners.plan()
    }

    /// Says what became of a plan.
    ///
    /// # Errors
    /// When there is not one outcome for each attempt, or they are another user's.
    pub fn judge(&mut self, plan: &[Plan], inside: Inside) -> Result<Report, CanaryError> {
        if inside.user != self.user {
            return Err(CanaryError::User { control: self.user, inside: inside.user });
        }
        let attempts = compare(&mut self.listeners, plan, inside.outcomes, &self.control)?;
        let findings = findings(&attempts, &self.control, self.listeners.has_outside());
        Ok(Report { applied: inside.applied, user: inside.user, attempts, findings, absent: self.listeners.absent() })
    }

    /// Has a helper confine itself as demanded, or takes it as it was started, and has it attempt everything.
    ///
    /// # Errors
    /// When nothing could be measured.
    pub fn measure(&mut self, helper: &Helper, demand: Option<&Demand>) -> Result<Report, CanaryError> {
        let plan = self.plan();
        let inside = ask(helper, demand, &plan)?;
        self.judge(&plan, inside)
    }
}

/// One measurement: a control and a helper that is confined as demanded.
///
/// # Errors
/// When nothing could be measured.
pub fn measure(helper: &Helper, demand: &Demand, directory: &Path) -> Result<Report, CanaryError> {
    Canary::open(helper, directory)?.measure(helper, Some(demand))
}

fn ask(helper: &Helper, demand: Option<&Demand>, plan: &[Plan]) -> Result<Inside, CanaryError> {
    match helper.ask(&Request::Canary { demand: demand.cloned(), plan: plan.to_vec() }, LIMIT)? {
        Reply::Canary(inside) => Ok(inside),
        Reply::Refused(message) => Err(CanaryError::Refused(message)),
        Reply::Offer(_) => Err(ChildError::Answer("an answer to another question".to_owned()).into()),
    }
}

/// Puts outcomes beside what was heard and what the control encountered.
fn compare(
    listeners: &mut Listeners,
    plan: &[Plan],
    outcomes: Vec<Outcome>,
    control: &[Attempt],
) -> Result<Vec<Attempt>, CanaryError> {
    if outcomes.len() != plan.len() {
        return Err(ChildError::Answer(format!("{} answers to {} attempts", outcomes.len(), plan.len())).into());
    }
    let attempts = plan.iter().zip(outcomes).map(|(plan, outcome)| {
        let (name, heard) = (plan.attempt.name(), listeners.has_heard(&plan.token));
        let got_through = heard || (outcome == Outcome::Passed && plan.attempt.passing_is_through());
        let unconfined = control.iter().find(|control| control.name == name).map(|control| control.got_through);
        Attempt { name, listener: plan.attempt.listener(), outcome, heard, got_through, unconfined }
    });
    Ok(attempts.collect())
}

fn findings(attempts: &[Attempt], control: &[Attempt], has_outside: bool) -> Vec<Finding> {
    let through = attempts.iter().filter(|attempt| attempt.got_through);
    let mut findings: Vec<_> = through.map(|attempt| Finding::GotThrough { attempt: attempt.name.clone() }).collect();
    // A listener is measured when one of the ways to it is open without confinement.
    let mut reached: BTreeMap<&str, bool> = BTreeMap::new();
    for attempt in control {
        if let Some(listener) = &attempt.listener {
            *reached.entry(listener).or_default() |= attempt.got_through;
        }
    }
    let of_plan = attempts.iter().filter_map(|attempt| Some((attempt.listener.as_deref()?, false)));
    for (listener, _) in of_plan {
        reached.entry(listener).or_default();
    }
    let deaf = reached.into_iter().filter(|(_, reached)| !reached);
    findings.extend(deaf.map(|(listener, _)| Finding::NotReached { listener: listener.to_owned() }));
    if !has_outside {
        findings.push(Finding::NoOutsideAddress);
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(name: &str, got_through: bool) -> Attempt {
        let listener = Some(format!("listener {}", name.split(' ').next().unwrap()));
        Attempt { name: name.to_owned(), listener, outcome: Outcome::Passed, heard: got_through, got_through, unconfined: None }
    }

    fn report(attempts: Vec<Attempt>, control: &[Attempt], has_outside: bool) -> Report {
        let findings = findings(&attempts, control, has_outside);
        Report { applied: None, user: 0, attempts, findings, absent: vec![] }
    }

    #[test]
    fn one_attempt_that_gets_through_fails_the_report() {
        let control = [attempt("a", true), attempt("b", true)];
        assert!(report(vec![attempt("a", false), attempt("b", false)], &control, true).holds());
        let failed = report(vec![attempt("a", false), attempt("b", true)], &control, true);
        assert!(!failed.holds() && failed.failures() == ["b"]);
        assert_eq!(failed.findings, [Finding::GotThrough { attempt: "b".to_owned() }]);
        assert!(!report(vec![], &[], true).holds(), "nothing attempted is nothing shown");
    }

    #[test]
    fn a_listener_that_nobody_reaches_measures_nothing() {
        let inside = vec![attempt("a one", false), attempt("b one", false)];
        // The second way to a is one that this kernel lacks: the first is enough.
        let control = [attempt("a one", true), attempt("a two", false), attempt("b one", false)];
        let failed = report(inside.clone(), &control, true);
        assert_eq!(failed.findings, [Finding::NotReached { listener: "listener b".to_owned() }]);
        assert!(!failed.holds());
        assert_eq!(report(inside, &[], true).findings.len(), 2, "no control at all");
    }

    #[test]
    fn what_the_level_leaves_open_is_told_from_what_it_does_not() {
        let through = vec![attempt("tcp connect to one", true), attempt("udp sendto to one", true), attempt("raw socket", true)];
        let mut report = report(through, &[], true);
        assert_eq!(report.beyond_gaps().len(), 3, "who does not say what is in force has no excuse");
        let itself = crate::Allowed::Hosts { hosts: vec![], by: crate::Connects::Itself };
        for (allowed, beyond) in [(crate::Allowed::Nothing, 3), (itself, 1)] {
            report.applied = Some(Applied {
                allowed,
                level: crate::Level::Seccomp,
                mechanisms: vec![],
                seccomp_filters: None,
                namespace: None,
                landlock: None,
                paths: None,
                gaps: Gap::ALL.to_vec(),
                inherited_unix_sockets: 0,
            });
            assert_eq!(report.beyond_gaps().len(), beyond);
        }
        assert!(!report.holds());
    }

    #[test]
    fn a_machine_without_an_address_fails_the_report() {
        let failed = report(vec![attempt("a", false)], &[attempt("a", true)], false);
        assert!(!failed.holds() && failed.findings == [Finding::NoOutsideAddress]);
    }

    #[test]
    fn a_connection_that_was_made_got_through_whether_or_not_it_was_heard() {
        let place = crate::testing::place_for_sockets();
        let mut listeners = Listeners::open(place.path()).unwrap();
        let plan = listeners.plan();
        let passed = vec![Outcome::Passed; plan.len()];
        for (plan, attempt) in plan.iter().zip(compare(&mut listeners, &plan, passed, &[]).unwrap()) {
            let datagram = ["udp", "dns question to 1", "dns question to ["].iter().any(|start| attempt.name.starts_with(start));
            assert_eq!(attempt.got_through, !datagram, "{}", plan.attempt.name());
        }
    }
}
