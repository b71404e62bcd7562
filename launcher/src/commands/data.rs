//! `sirocco data`: a corpus judged, prepared, reported on.
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use sirocco_corpus::{Progress, Report, Spec};
use sirocco_custody::Deed;
use sirocco_policy::Kind::Data;
use sirocco_policy::{Admitted, Sha256Digest, verb};

use crate::cli::{self, DataAction};
use crate::failure::{Failure, Kind};
use crate::gate::{Measured, OwnPolicy, expect_same};
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
            let spec = Spec::open(&arguments.spec.spec)?;
            let policy = OwnPolicy::open(&arguments.policy)?;
            let sources = spec.sources.iter().map(|source| policy.measure(Data, &source.path)).collect::<Result<Vec<_>, _>>()?;
            let sources = sources.into_iter().map(|source| policy.admit(source)).collect::<Result<Vec<_>, _>>()?;
            let report = prepare(&spec, &sources)?;
            policy.done(deed(&sources, &report))?;
            show(&report, &arguments.spec)
        }
        DataAction::Report(arguments) => show(&read_report(&Spec::open(&arguments.spec)?, arguments)?, arguments),
    }
}

/// Cleans sources that were admitted, and finds that what was read are the bytes that were asked about.
fn prepare(spec: &Spec, sources: &[Admitted<verb::Prepare, Measured>]) -> Result<Report, Failure> {
    let report = watched(|seen| sirocco_corpus::prepare(spec, seen))?;
    for (read, admitted) in report.sources.iter().zip(sources.iter().map(Admitted::thing)) {
        expect_same(&admitted.path, &read.sha256, &admitted.digest.to_string())?;
    }
    Ok(report)
}

/// What the ledger says of it.
fn deed(sources: &[Admitted<verb::Prepare, Measured>], report: &Report) -> Deed {
    let used = sources.iter().map(Admitted::thing);
    let deed = used.fold(Deed::new("data.prepared"), |deed, file| deed.input(file.name.to_string(), file.digest.into()));
    let made =
        report.files.iter().filter_map(|file| Some((file.path.display().to_string(), file.sha256.parse::<Sha256Digest>().ok()?)));
    made.fold(deed, |deed, (path, digest)| deed.output(format!("data:{path}"), digest.into()))
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
