//! What a rank does while another one waits for it: the answer to the question that follows a time-out.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::entry::{Collective, list};

/// What a rank is doing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Standing {
    /// It does not answer: its process is stopped or its machine out of reach.
    Silent,
    /// It is in no collective: whatever it computes, reads or writes takes too long.
    Idle {
        /// What it did last.
        last: Option<Collective>,
        /// Seconds since then.
        seconds: f64,
    },
    /// It is in a collective that gets on: it is late.
    Busy {
        /// That collective.
        collective: Collective,
    },
    /// It waits for other ranks itself.
    Waiting(Wait),
    /// It has given a collective to its device, which is at what was queued before that: it computes.
    Queued {
        /// That collective.
        collective: Collective,
    },
    /// It has ended the collective that it was asked about, well or not.
    Past {
        /// That collective.
        collective: Collective,
    },
}

/// A rank's wait for others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Wait {
    /// Where it waits.
    pub collective: Collective,
    /// Seconds since it entered that.
    pub seconds: f64,
    /// For whom, as far as it knows.
    pub missing: Vec<usize>,
}

/// The rest of a sentence that begins with the rank.
impl fmt::Display for Standing {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Standing::Silent => write!(out, "does not answer"),
            Standing::Idle { last: None, seconds } => write!(out, "has entered nothing for {seconds:.1} s"),
            Standing::Idle { last: Some(last), seconds } => {
                write!(out, "has entered nothing since {last} ended {seconds:.1} s ago")
            }
            Standing::Busy { collective } => write!(out, "is still getting on with {collective}"),
            Standing::Queued { collective } => write!(out, "is still computing what comes before {collective}"),
            Standing::Past { collective } => write!(out, "has ended {collective}"),
            Standing::Waiting(Wait { collective, missing, .. }) => {
                write!(out, "is in {collective}, waiting for rank {}", list(missing, 16))
            }
        }
    }
}
