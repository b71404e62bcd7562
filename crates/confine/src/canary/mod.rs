//! The live negative test: somebody outside listens, somebody inside tries everything, and nothing may be heard.
//!
//! [`measure`] opens listeners in the calling process, which stays as it is, starts a helper that is confined as demanded and
//! attempts to reach each of them, and says of every attempt which error it met and whether a listener heard it. One that gets
//! through makes the [`Report`] fail, with its name. Without a demand the helper is not confined, and what the machine permits
//! gets through: the control that shows that the test can fail.
//!
//! What the attempts do outside, should they get through: they reach the listeners here; they send one DNS question about a name
//! that cannot exist (RFC 6761, `.invalid`) to the name servers of this machine; they look that name up, which never gives an
//! address and shows only what a library meets (it asks the same servers, and local programs, whose AF_UNIX sockets are
//! attempted, too). Nothing else leaves the machine.
//!
//! Not attempted: a connection through a ring (io_uring), which needs memory shared with the kernel and so unsafe code; that no
//! ring can be made is.

mod addresses;
mod attempts;
mod listeners;

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use addresses::{machine, name_servers};
pub use attempts::{Met, Plan, Try, attempt};
pub use listeners::Listeners;

use crate::apply::{Applied, Demand};
use crate::child::{ChildError, Helper, Reply, Request};

/// How long the helper may take with all attempts: each ends within 2 s, and a dozen of them may have to wait.
const LIMIT: Duration = Duration::from_secs(60);

/// One attempt and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Its name: what was called, and towards what.
    pub name: String,
    /// What the one inside met.
    pub met: Met,
    /// Whether somebody outside heard it.
    pub heard: bool,
    /// Whether it got through: heard, or, where there is nobody to hear it, permitted.
    pub got_through: bool,
}

/// What was measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// What was in force inside; `None` for the control.
    pub applied: Option<Applied>,
    /// The user inside.
    pub user: u32,
    /// Every attempt, in the order made.
    pub attempts: Vec<Attempt>,
    /// Listeners that this machine could not open, and why: an attempt for each is missing.
    pub absent: Vec<String>,
}

impl Report {
    /// The names of what got through.
    pub fn failures(&self) -> Vec<&str> {
        self.attempts.iter().filter(|attempt| attempt.got_through).map(|attempt| attempt.name.as_str()).collect()
    }

    /// Whether there were attempts and none got through.
    pub fn holds(&self) -> bool {
        !self.attempts.is_empty() && self.failures().is_empty()
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
}

/// Opens listeners, has the helper attempt to reach each of them, and listens. `directory` is where the AF_UNIX listeners lie:
/// outside of what the demand leaves open, and to be entered by the helper's user.
///
/// # Errors
/// When nothing could be measured.
pub fn measure(helper: &Helper, demand: Option<&Demand>, directory: &Path) -> Result<Report, CanaryError> {
    let listeners = Listeners::open(directory).map_err(CanaryError::Listeners)?;
    let plan = listeners.plan();
    let (applied, user, met) = match helper.ask(&Request::Canary { demand: demand.cloned(), plan: plan.clone() }, LIMIT)? {
        Reply::Canary { applied, user, met } => (applied, user, met),
        Reply::Refused(message) => return Err(CanaryError::Refused(message)),
        Reply::Offer(_) => return Err(ChildError::Answer("an answer to another question".to_owned()).into()),
    };
    if met.len() != plan.len() {
        return Err(ChildError::Answer(format!("{} answers to {} attempts", met.len(), plan.len())).into());
    }
    let heard = listeners.heard();
    let attempts = plan.iter().zip(met).map(|(plan, met)| {
        let heard = heard.iter().any(|heard| contains(heard, plan.token.as_bytes()));
        let got_through = heard || (!plan.attempt.has_listener() && met == Met::Passed);
        Attempt { name: plan.attempt.name(), met, heard, got_through }
    });
    Ok(Report { applied, user, attempts: attempts.collect(), absent: listeners.absent() })
}

fn contains(text: &[u8], token: &[u8]) -> bool {
    text.windows(token.len()).any(|window| window == token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_attempt_that_gets_through_fails_the_report() {
        let attempt =
            |name: &str, got_through| Attempt { name: name.to_owned(), met: Met::Passed, heard: got_through, got_through };
        let report = |attempts| Report { applied: None, user: 0, attempts, absent: vec![] };
        assert!(report(vec![attempt("a", false)]).holds());
        let failed = report(vec![attempt("a", false), attempt("b", true)]);
        assert!(!failed.holds() && failed.failures() == ["b"]);
        assert!(!report(vec![]).holds(), "nothing attempted is nothing shown");
    }

    #[test]
    fn a_token_is_found_within_a_packet() {
        assert!(contains(b"..token-1..", b"token-1") && !contains(b"..token-", b"token-1"));
    }
}
