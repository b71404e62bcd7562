//! Long work, with what is done of it on a terminal, and an end at the first Ctrl-C that leaves nothing behind.
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};
use signal_hook::flag::{register, register_conditional_default};

use crate::failure::{Failure, Kind};
use crate::train::requests::stop_signals;
use crate::waiting::PATIENCE;

/// Whether somebody has asked to stop.
pub(super) struct Requests(Arc<AtomicBool>);

impl Requests {
    /// From now on a signal is a request; a second one ends the process at once.
    pub(super) fn heed() -> Result<Requests, Failure> {
        let asked = Arc::new(AtomicBool::new(false));
        for signal in stop_signals() {
            let both =
                register_conditional_default(signal, Arc::clone(&asked)).and_then(|_| register(signal, Arc::clone(&asked)));
            both.map_err(|error| Failure::new(Kind::Failed, format_args!("signals cannot be heeded: {error}")))?;
        }
        Ok(Requests(asked))
    }

    /// Does some work on `total` bytes; 0 if nobody knows how many.
    pub(super) fn watched<T>(
        &self,
        what: &'static str,
        total: u64,
        work: impl FnOnce(&mut dyn FnMut(&str, u64) -> ControlFlow<()>) -> T,
    ) -> T {
        let (start, mut done, mut shown) = (Instant::now(), 0_u64, None);
        let result = work(&mut |file, bytes| {
            done = done.saturating_add(bytes);
            if start.elapsed() >= PATIENCE {
                let bar = shown.get_or_insert_with(|| bar(what, total));
                bar.set_position(done);
                bar.set_message(file.to_owned());
            }
            if self.0.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        if let Some(bar) = shown {
            bar.finish_and_clear();
        }
        result
    }
}

fn bar(what: &str, total: u64) -> ProgressBar {
    let (bar, form) = match total {
        0 => (ProgressBar::new_spinner(), "{bytes}  {msg}"),
        total => (ProgressBar::new(total), "{bar:16} {bytes}/{total_bytes}  {msg}"),
    };
    let style = ProgressStyle::with_template(&format!("{what} {form}")).unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.with_style(style)
}
