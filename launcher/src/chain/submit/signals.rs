//! Signals while a job is submitted: they end the command.
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::failure::{Failure, Kind};

/// Preparing has taken the signals over: from here on they end this command again.
pub(super) fn obey() -> Result<(), Failure> {
    let failed = |error| Failure::new(Kind::Failed, format_args!("cannot watch for signals: {error}"));
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).map_err(failed)?;
    std::thread::spawn(move || {
        for signal in signals.forever() {
            // It ends the process, or another signal will.
            let _ = signal_hook::low_level::emulate_default_handler(signal);
        }
    });
    Ok(())
}
