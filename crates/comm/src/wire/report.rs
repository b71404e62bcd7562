//! Errors on their way to the other ranks: a rank that gives up tells all others why.

use std::time::Duration;

use super::{
    Tag, Wire,
    buffer::Buffer,
    call::own_business,
    fitting::fitting,
    raw::{Failure, Message},
};
use crate::CommError;

/// Room for an error that a rank reports to the others.
const REPORT_MAX: usize = 4096;
/// How long a rank that is giving up tries to tell the others.
const LAST_WORDS: Duration = Duration::from_millis(500);

impl Wire {
    /// The error that another rank reports, if one does.
    pub(super) fn reported(&self) -> Result<Option<CommError>, Failure> {
        let Some(from) = self.world.probe(Tag::Report) else { return Ok(None) };
        let mut report = self.world.expect(REPORT_MAX, from, Tag::Report)?;
        self.within(LAST_WORDS, &mut report);
        let error = report.bytes().and_then(|bytes| serde_json::from_slice(bytes).ok());
        let unreadable = || CommError::Garbled {
            rank: from,
            found: "a report that cannot be read".to_owned(),
            expected: "an error report".to_owned(),
            collective: own_business("sirocco/report"),
        };
        Ok(Some(error.unwrap_or_else(unreadable)))
    }

    /// Tells all ranks of the job that are not known to be dead about an error, as far as that can be done quickly.
    pub(super) fn report(&self, error: &CommError) {
        let text = Buffer::new(fitting(error, REPORT_MAX));
        let dead: Vec<usize> =
            self.shared.roster.get().map(|roster| roster.dead().iter().map(|dead| dead.peer.rank).collect()).unwrap_or_default();
        let others = (0..self.world.size).filter(|&rank| rank != self.world.rank && !dead.contains(&rank));
        let mut sends: Vec<Message> =
            others.filter_map(|rank| self.world.send(&text, 0..text.len(), rank, Tag::Report).ok()).collect();
        self.within(LAST_WORDS, &mut sends);
    }
}
