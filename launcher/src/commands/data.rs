//! `sirocco data`: a corpus judged, prepared, reported on.
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use sirocco_corpus::{Progress, Report, Spec};

use crate::cli::{self, DataAction};
use crate::failure::{Failure, Kind};
use crate::output;

/// Before a spinner appears.
const PATIENCE: Duration = Duration::from_secs(2);

pub(crate) fn run(action: &DataAction) -> Result<(), Failure> {
    match action {
        DataAction::Check(arguments) => {
            let spec = Spec::open(&arguments.spec)?;
            show(&watched(|seen| sirocco_corpus::check(&spec, seen))?, arguments)
        }
        DataAction::Prepare(arguments) => {
            let spec = Spec::open(&arguments.spec)?;
            show(&watched(|seen| sirocco_corpus::prepare(&spec, seen))?, arguments)
        }
        DataAction::Report(arguments) => show(&read_report(&Spec::open(&arguments.spec)?, arguments)?, arguments),
    }
}

fn show(report: &Report, arguments: &cli::Spec) -> Result<(), Failure> {
    if arguments.json { output::json(report) } else { output::text(&report.to_string()) }
}

/// The report that `prepare` left in the output directory.
fn read_report(spec: &Spec, arguments: &cli::Spec) -> Result<Report, Failure> {
    let path = spec.output.join("report.json");
    let bytes = std::fs::read(&path).map_err(|error| {
        let failure = Failure::new(Kind::Input, format_args!("{}: cannot read the report: {error}", path.display()));
        failure.help(format_args!("sirocco data prepare {} writes it", arguments.spec.display()))
    })?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Failure::new(Kind::Input, format_args!("{}: not a report of a corpus: {error}", path.display())))
}

/// Runs `work` with a count of what was read, shown on a terminal when it takes long.
fn watched<T>(work: impl FnOnce(&mut dyn FnMut(Progress)) -> Result<T, sirocco_corpus::CorpusError>) -> Result<T, Failure> {
    let (start, mut bar) = (Instant::now(), None);
    let result = work(&mut |seen: Progress| {
        if start.elapsed() >= PATIENCE {
            let bar = bar.get_or_insert_with(spinner);
            bar.set_message(format!("{}: {} records", seen.source, output::grouped(seen.records)));
        }
    });
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    Ok(result?)
}

fn spinner() -> ProgressBar {
    let style = ProgressStyle::with_template("reading {msg}").unwrap_or_else(|_| ProgressStyle::default_spinner());
    ProgressBar::new_spinner().with_style(style)
}
