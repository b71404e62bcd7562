//! What a rank leaves behind when a collective ended badly: the newest ones, how far each had come, and who was waited for.

use std::fmt::Write as _;
use std::path::Path;

use sirocco_comm::Communicator;

/// Collectives in a trace.
const SHOWN: usize = 100;

/// Writes `RUN/logs/rank-NNNNN.trace`, one line for each of the newest collectives, the newest last. A trace that cannot be written is
/// only logged: the failure itself matters more.
pub(super) fn write(directory: &Path, communicator: &dyn Communicator) {
    let rank = communicator.rank();
    let history = communicator.history();
    let mut text = format!("the newest collectives of rank {rank} of {}, oldest first\n", communicator.size());
    for event in history.iter().skip(history.len().saturating_sub(SHOWN)) {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{event}");
    }
    let path = directory.join("logs").join(format!("rank-{rank:05}.trace"));
    if let Err(error) = std::fs::write(&path, text) {
        tracing::warn!("{}: {error}", path.display());
    }
}
