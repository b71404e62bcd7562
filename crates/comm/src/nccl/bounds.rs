//! How long the oldest operation of a group may take on the device, in each state that it can be in.

use std::time::{Duration, Instant};

use super::Failure;

/// How long what is under way may still take once its group is dropped: a group is dropped with work under way only where something else
/// has failed already.
const FAREWELL: Duration = Duration::from_secs(5);
/// Timeouts that may pass before the device comes to the oldest operation: one of another group before it may take one, and so may the
/// computation that it waits for.
const UNBEGUN: u32 = 2;

/// The oldest operation under way, in time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Standing {
    /// When its group was dropped.
    pub(super) closed: Option<Instant>,
    /// When it was first seen as the oldest.
    pub(super) oldest: Instant,
    /// When it was first seen to have begun.
    pub(super) begun: Option<Instant>,
}

impl Standing {
    /// Why it has taken too long, if it has.
    pub(super) fn overdue(self, timeout: Duration) -> Option<Failure> {
        let failure = |message| Some(Failure::new("NCCL", message));
        match self {
            Standing { closed: Some(closed), .. } if closed.elapsed() >= FAREWELL => {
                failure(format!("not done {:.1} s after this rank left the group", closed.elapsed().as_secs_f64()))
            }
            Standing { begun: Some(begun), .. } if begun.elapsed() >= timeout => {
                let waited = begun.elapsed();
                let message = format!("not done {:.1} s after it began on the device", waited.as_secs_f64());
                Some(Failure { waited: Some(waited), ..Failure::new("NCCL", message) })
            }
            Standing { begun: None, oldest, .. } if oldest.elapsed() >= UNBEGUN * timeout => failure(format!(
                "not begun on the device after {:.1} s; what the device was given before does not end",
                oldest.elapsed().as_secs_f64()
            )),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_has_its_bound() {
        let Some(past) = Instant::now().checked_sub(Duration::from_secs(15)) else { return };
        let (now, timeout) = (Instant::now(), Duration::from_secs(10));
        let overdue = |closed, oldest, begun| Standing { closed, oldest, begun }.overdue(timeout).map(|failure| failure.message);
        assert_eq!(overdue(None, past, Some(now)), None);
        assert_eq!(overdue(None, past, None), None);
        assert_eq!(overdue(Some(now), past, None), None);
        assert!(overdue(None, past, Some(past)).is_some_and(|text| text.starts_with("not done 15.")));
        assert!(overdue(Some(past), now, None).is_some_and(|text| text.contains("after this rank left the group")));
        let short = Standing { closed: None, oldest: past, begun: None }.overdue(timeout / 2);
        assert!(short.is_some_and(|failure| failure.message.starts_with("not begun on the device after 15.")));
    }
}
