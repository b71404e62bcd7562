//! What `sirocco job` asks of every node before ranks start: facts about it, whether its numbers are right and how fast they come, whether
//! it sees the run's files; and, with `--link`, how fast nodes talk to each other. What of it makes a node unfit is for `sirocco` to say.
//!
//! One line comes, whatever is wrong: what cannot be found out is null, with the reason.

mod device_memory;
mod devices;
mod disk;
mod facts;
mod link;
mod product;
mod tournament;

use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use sirocco_config::{Device, NodeReport, Run};

use crate::failure::{Failure, print_line};
use crate::run::settings;

/// How long a part of the test may keep the others waiting. A file system that hangs must not keep a node from saying so.
const PATIENCE: Duration = Duration::from_secs(5);

/// The test's command line.
#[derive(Debug, clap::Args)]
pub(crate) struct NodeJob {
    /// Run directory.
    #[arg(long, value_name = "RUN")]
    dir: PathBuf,
    /// What .nodes/stamp in the run directory must say, for it to be the one that was meant.
    #[arg(long, value_name = "TEXT", required_unless_present = "link")]
    stamp: Option<String>,
    /// Measure the links between the nodes instead: one MPI rank on each.
    #[arg(long)]
    link: bool,
}

/// Prints what was found.
pub(crate) fn run(job: &NodeJob) -> Result<(), Failure> {
    if job.link {
        return link::run();
    }
    let stamp = job.stamp.clone().unwrap_or_default();
    let line = serde_json::to_string(&report(&job.dir, &stamp)).map_err(Failure::failed)?;
    print_line(&line);
    Ok(())
}

fn report(directory: &Path, stamp: &str) -> NodeReport {
    let started = Instant::now();
    let mut report = NodeReport::default();
    facts::look(&mut report);
    let (settings, of_settings) = part({
        let directory = directory.to_owned();
        move || settings::read_run(&directory).map_err(|failure| failure.message().to_owned())
    });
    let (files, of_files) = part({
        let (directory, stamp) = (directory.to_owned(), stamp.to_owned());
        move || Ok(disk::look(&directory, &stamp))
    });
    let (program, of_program) = part(facts::program);
    let settings = wait(&settings, of_settings);
    let (needed, of_needed) = part({
        let (directory, run) = (directory.to_owned(), settings.as_ref().ok().cloned());
        move || Ok(disk::look_further(&directory, run.as_ref()))
    });
    compute(&settings, &mut report);
    match wait(&files, of_files) {
        Ok(found) => found.enter(&mut report),
        Err(reason) => ["stamp", "write_s"].iter().for_each(|name| report.lacks(name, &reason)),
    }
    match wait(&needed, of_needed) {
        Ok(found) => found.enter(&mut report),
        Err(reason) => report.lacks("space", &reason),
    }
    report.finds("versions.sirocco", wait(&program, of_program), |report, found| {
        report.versions.insert("sirocco".to_owned(), found);
    });
    report.seconds = started.elapsed().as_secs_f64();
    report.clock = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64());
    report
}

/// What the run computes on; without its settings nobody knows what that is.
fn compute(settings: &Result<Run, String>, report: &mut NodeReport) {
    let run = match settings {
        Ok(run) => run,
        Err(reason) => return report.lacks("devices", &format!("the settings of the run cannot be read: {reason}")),
    };
    let found = match run.model.device {
        Device::Auto | Device::Cpu => devices::cores().map(|cores| vec![cores]),
        Device::Cuda => {
            facts::of_gpus(report);
            devices::gpus()
        }
    };
    report.finds("devices", found, |report, found| report.devices = found);
}

/// A part of the test on a thread of its own: what it does there cannot be interrupted, but it can be left behind.
fn part<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> (mpsc::Receiver<Result<T, String>>, Instant) {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        // Nobody minds a part that comes too late.
        let _ = sender.send(work());
    });
    (receiver, Instant::now())
}

/// What a part has found.
fn wait<T>(part: &mpsc::Receiver<Result<T, String>>, begun: Instant) -> Result<T, String> {
    part.recv_timeout(PATIENCE.saturating_sub(begun.elapsed())).unwrap_or_else(|error| {
        Err(match error {
            RecvTimeoutError::Timeout => format!("it took longer than {} s", PATIENCE.as_secs()),
            RecvTimeoutError::Disconnected => "the thread that looked for it has died".to_owned(),
        })
    })
}

/// How a report is filled.
trait Fill {
    /// Notes why a field stays null.
    fn lacks(&mut self, name: &str, reason: &str);
    /// Enters what was found, or why nothing was.
    fn finds<T>(&mut self, name: &str, found: Result<T, String>, enter: impl FnOnce(&mut Self, Option<T>));
}

impl Fill for NodeReport {
    fn lacks(&mut self, name: &str, reason: &str) {
        self.reasons.insert(name.to_owned(), reason.to_owned());
    }

    fn finds<T>(&mut self, name: &str, found: Result<T, String>, enter: impl FnOnce(&mut Self, Option<T>)) {
        let value = found.map_err(|reason| self.lacks(name, &reason)).ok();
        enter(self, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_that_dies_is_told_and_one_that_works_gives_its_result() {
        let (dying, begun) = part::<u64>(|| panic!("as it must"));
        assert_eq!(wait(&dying, begun), Err("the thread that looked for it has died".to_owned()));
        let (working, begun) = part(|| Ok(3));
        assert_eq!(wait(&working, begun), Ok(3));
        let (_sender, receiver) = mpsc::channel::<Result<u64, String>>();
        let long_ago = Instant::now().checked_sub(PATIENCE).unwrap();
        assert_eq!(wait(&receiver, long_ago), Err("it took longer than 5 s".to_owned()));
    }

    #[test]
    fn a_node_without_the_run_directory_still_answers() {
        let report = report(Path::new("/nowhere/run"), "7");
        assert_eq!((report.stamp, report.write_s, &report.devices), (Some(false), None, &None));
        for name in ["stamp", "write_s", "devices"] {
            assert!(report.reasons[name].contains("/nowhere/run"), "{name}: {:?}", report.reasons);
        }
        assert!(report.cores.unwrap() > 0 && report.memory_available_bytes.unwrap() > 0 && report.clock > 1.7e9);
        assert!(report.versions["libtorch"].is_some() && report.versions["sirocco"].is_some(), "{:?}", report.versions);
        let text = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<NodeReport>(&text).unwrap(), report);
    }
}
