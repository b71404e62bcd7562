//! Work that nobody sees: a terminal shows that it goes on.
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::Builder;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// Before anything is shown.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);
/// Between two looks of what is shown.
const TICK: Duration = Duration::from_millis(100);

/// Does some work, with `what` is done and for how long on the terminal once that is longer than [`PATIENCE`].
pub(crate) fn shown<T>(what: &str, work: impl FnOnce() -> T) -> T {
    std::thread::scope(|scope| {
        let (working, ended) = channel::<()>();
        let showing = Builder::new().spawn_scoped(scope, move || show(what, &ended));
        let result = work();
        drop(working);
        // Without a thread nothing is shown.
        drop(showing);
        result
    })
}

fn show(what: &str, ended: &Receiver<()>) {
    if ended.recv_timeout(PATIENCE) != Err(RecvTimeoutError::Timeout) {
        return;
    }
    let style = ProgressStyle::with_template("{spinner} {msg} {elapsed}").unwrap_or_else(|_| ProgressStyle::default_spinner());
    let spinner = ProgressBar::new_spinner().with_style(style).with_message(what.to_owned()).with_elapsed(PATIENCE);
    spinner.enable_steady_tick(TICK);
    // Nothing is ever sent: it ends when the other side is dropped.
    let _ = ended.recv();
    spinner.finish_and_clear();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_and_panics_come_through() {
        assert_eq!(shown("nothing", || 3), 3);
        assert!(std::panic::catch_unwind(|| shown("nothing", || panic!("as it was"))).is_err());
    }
}
