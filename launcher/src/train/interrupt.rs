//! A request to stop that comes while much is read or tokenised: before there are ranks to hand it on to, or without any.
use std::io::{IsTerminal as _, stderr};
use std::process::exit;

use signal_hook::iterator::{Handle, Signals};

use crate::failure::{Failure, Kind};
use crate::output::say;
use crate::train::requests::stop_signals;

/// Does `work`, whatever takes long of a command: once it is done, no signal ends this program any more until somebody else
/// listens. A request to stop ends it while it does what `doing` says, after `clear` has removed what `work` had made.
///
/// Nothing is lost by ending in the middle: what is made under a temporary name was never there.
pub(crate) fn unless_interrupted<T>(
    as_json: bool,
    doing: &str,
    clear: impl FnOnce() + Send,
    work: impl FnOnce() -> Result<T, Failure>,
) -> Result<T, Failure> {
    let signals = Signals::new(stop_signals());
    let mut signals = signals.map_err(|error| Failure::new(Kind::Failed, format_args!("cannot watch for signals: {error}")))?;
    let watched = Watched(signals.handle());
    std::thread::scope(|scope| {
        scope.spawn(move || {
            if signals.forever().next().is_some() {
                clear();
                if stderr().is_terminal() {
                    // Below the progress, which is not drawn any more.
                    say(format_args!(""));
                }
                let stopped = Failure::new(Kind::Stopped, format_args!("stopped on request while {doing}"));
                exit(stopped.help("the same command starts over").show(as_json).into());
            }
        });
        let result = work();
        drop(watched);
        result
    })
}

/// Ends the watch when the work is done, however it ends.
struct Watched(Handle);

impl Drop for Watched {
    fn drop(&mut self) {
        self.0.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_that_nobody_interrupts_has_its_own_result() {
        let cleared = || unreachable!("nothing is to be cleared");
        assert_eq!(unless_interrupted(false, "it waited", cleared, || Ok(3)).unwrap(), 3);
        let failure = unless_interrupted(false, "it waited", cleared, || Err::<(), _>(Failure::usage("no"))).unwrap_err();
        assert_eq!(failure.message, "no");
    }
}
