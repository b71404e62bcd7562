//! Errors on their way to the other ranks: a rank that gives up tells all others why.

use std::{sync::Arc, time::Duration};

use super::{
    Tag, Wire,
    call::{Call, Trouble},
    patience::Exchange,
    raw::{Failure, Receiving},
    transfer::zeros,
};
use crate::CommError;

/// Room for an error that a rank reports to the others.
const REPORT_MAX: usize = 4096;
/// How long a rank that is giving up tries to tell the others.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// What a rank reported.
pub(super) struct Report {
    pub(super) from: usize,
    /// `None` if it cannot be read.
    pub(super) error: Option<CommError>,
}

impl Report {
    /// The error as the end of `call`.
    pub(super) fn trouble(self, call: &Call) -> Trouble {
        let garbled = || call.garbled(self.from, "a report that cannot be read", "an error report");
        Trouble::told(self.error.unwrap_or_else(garbled))
    }
}

impl Wire {
    /// The error that another rank reports, if one does.
    pub(super) fn reported(&self) -> Result<Option<Report>, Failure> {
        let Some(from) = self.world.probe(Tag::Report as i32) else { return Ok(None) };
        let receive = self.world.receive(zeros(REPORT_MAX), from, Tag::Report as i32)?;
        let mut exchange = Exchange { sends: Vec::new(), receives: vec![receive] };
        self.within(LAST_WORDS, &mut exchange);
        let report = exchange.receives.pop().and_then(Receiving::take);
        let error = report.and_then(|(bytes, length)| serde_json::from_slice(bytes.get(..length)?).ok());
        Ok(Some(Report { from, error }))
    }

    /// Tells all ranks of the job that are not known to be dead about an error, as far as that can be done quickly.
    pub(super) fn report(&self, error: &CommError) {
        let Ok(text) = serde_json::to_vec(error) else { return };
        if text.len() > REPORT_MAX {
            return;
        }
        let text: Arc<[u8]> = text.into();
        let dead: Vec<usize> =
            self.shared.roster.get().map(|roster| roster.dead().iter().map(|dead| dead.peer.rank).collect()).unwrap_or_default();
        let others = (0..self.world.size).filter(|&rank| rank != self.world.rank && !dead.contains(&rank));
        let sends = others.filter_map(|rank| self.world.send(text.clone(), rank, Tag::Report as i32).ok()).collect();
        self.within(LAST_WORDS, &mut Exchange { sends, receives: Vec::new() });
    }
}
