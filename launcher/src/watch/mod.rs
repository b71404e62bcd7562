//! `sirocco watch`: a run as it goes on, drawn on a terminal or told in lines. It reads files of the run directory and writes none.

mod lines;
mod look;
mod panels;
pub(crate) mod recorded;
mod screen;
mod several;
mod shown;
pub(crate) mod source;
pub(crate) mod state;
pub(crate) mod table;
pub(crate) mod tail;
mod view;
pub(crate) mod words;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::chain::record;
use crate::cli;
use crate::failure::{Failure, Kind};
use crate::train::directory::RunDirectory;
use crate::train::several::members;
use lines::Lines;
use screen::Screen;
use several::Runs;
use source::Source;

pub(crate) use record::now;
pub(crate) use shown::slow_words;

/// Between two looks at the files.
pub(crate) const PAUSE: Duration = Duration::from_secs(1);

/// Watches until the person leaves, or until the end of the run where there is no screen or that is what was asked for.
pub(crate) fn run(arguments: &cli::Watch) -> Result<(), Failure> {
    let members = members(&arguments.run)?;
    let every = arguments.every.map(Duration::from_secs);
    let wants_lines = arguments.json || every.is_some();
    // A terminal that cannot be drawn on can be written to.
    let screen = || (!wants_lines && Screen::is_possible()).then(Screen::open).and_then(Result::ok);
    if !members.is_empty() {
        let mut runs = Runs::open(&arguments.run, &members)?;
        let stop = Stop::listen()?;
        return match screen() {
            Some(screen) => screen.run(move || runs.look(now()), &stop, arguments.until_end),
            None => runs.run(every, arguments.json, &stop),
        };
    }
    let source = Source::new(RunDirectory::existing(&arguments.run)?);
    let stop = Stop::listen()?;
    let look = |mut source: Source| {
        move || {
            source.poll();
            source.shown(now())
        }
    };
    match screen() {
        Some(screen) => screen.run(look(source), &stop, arguments.until_end),
        None => Lines::new(every, arguments.json).run(source, &stop),
    }
}

/// A request to end: SIGTERM, SIGINT or SIGHUP.
#[derive(Debug)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    /// From now on these signals are requests.
    pub(crate) fn listen() -> Result<Stop, Failure> {
        let asked = Arc::new(AtomicBool::new(false));
        let register = |signal| signal_hook::flag::register(signal, Arc::clone(&asked)).map(|_| ());
        let failed = |error: io::Error| Failure::new(Kind::Failed, format_args!("cannot watch for signals: {error}"));
        [SIGTERM, SIGINT, SIGHUP].into_iter().try_for_each(register).map_err(failed)?;
        Ok(Stop(asked))
    }

    pub(crate) fn is_asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
