//! Has every node of a job measured before ranks start on it: whether nothing gets out of what is confined there as the ranks will be.
use std::fs;
use std::net::{IpAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use sirocco_custody::Account;

use super::{Job, test};
use crate::chain::record::{Unfit, now};
use crate::confined;
use crate::confined::in_job::{Means, highest, means};
use crate::confined::task::{NODE, NodeReport, Words};
use crate::failure::{Failure, Kind};
use crate::gate::RunPolicy;
use crate::output::{count, say};
use crate::programs::settle;
use crate::site::ask::within;
use sirocco_policy::Action;

/// How long nodes have to answer: each makes some forty attempts, a few of which end by a limit of their own.
const LIMIT: Duration = Duration::from_secs(120);

/// How long a shared file system may take to show what another node has written.
const SEEN: Duration = Duration::from_secs(10);

/// How the ranks that are started next are confined.
pub(super) enum Confined {
    /// Nothing is needed.
    No,
    /// Each by itself; the words that start it so.
    Each(Words),
    /// By the one process that starts them.
    Together,
    /// Nothing was started, because these nodes did not answer.
    Silent(Vec<Unfit>),
}

/// Sees to the confinement of the ranks on these nodes.
///
/// # Errors
/// Where a node is not confined as the run needs: it would not be at another time.
pub(super) fn confine(job: &Job, nodes: &[String], from_step: u64) -> Result<Confined, Failure> {
    let action = if from_step == 0 { Action::Train } else { Action::Resume };
    match means(&job.run, action)? {
        Means::Nothing => Ok(Confined::No),
        Means::Together => Ok(Confined::Together),
        Means::Each => each(job, nodes),
    }
}

fn each(job: &Job, nodes: &[String]) -> Result<Confined, Failure> {
    let words = Words { hosts: addresses(nodes), account: Account::own(None).name, ..Words::default() };
    let (into, stamp) = (job.directory.logs().join("confined"), format!("{} {}", job.allocation.id, now()));
    fs::create_dir_all(&into)
        .map_err(|error| Failure::new(Kind::Failed, format_args!("{}: cannot be made: {error}", into.display())))?;
    let mut command = test::srun(nodes);
    let leave = Words { into: Some(into.clone()), stamp: Some(stamp.clone()), ..words.clone() };
    started_so(job, &mut command, &leave.written(NODE))?;
    let heard = within(LIMIT, settle(&mut command));
    let mut reports = Vec::new();
    let mut silent = Vec::new();
    for node in nodes {
        match left(&into.join(format!("{node}.json")), &stamp) {
            Some(report) => reports.push((node, report)),
            None => silent.push(Unfit { node: node.clone(), why: "its confinement could not be measured".to_owned() }),
        }
    }
    expect_confined(job, &reports)?;
    if !silent.is_empty() {
        let first = heard.err.lines().find(|line| !line.trim().is_empty()).unwrap_or("srun said nothing");
        say(format_args!("the confinement of {} was not measured: {first}", count(silent.len() as u64, "node")));
        return Ok(Confined::Silent(silent));
    }
    record(job, &reports)?;
    confined::tell_for_all();
    say(format_args!("confined: level {}, measured on {}", highest(&job.run), count(nodes.len() as u64, "node")));
    Ok(Confined::Each(words))
}

/// Refuses a job with a node that cannot be confined, or out of which something gets.
fn expect_confined(job: &Job, reports: &[(&String, NodeReport)]) -> Result<(), Failure> {
    let refused: Vec<String> =
        reports.iter().filter_map(|(node, report)| Some(format!("{node}: {}", report.refused.as_ref()?))).collect();
    if refused.is_empty() {
        return Ok(());
    }
    let message = format!("the nodes are not confined as this run needs; no rank was started: {}", refused.join("; "));
    let word = job.directory.word();
    Err(Failure::new(Kind::Machine, message)
        .help(format_args!("docs/confinement.md says what each level needs of a node; then: sirocco submit {word}")))
}

/// Writes what was measured into the run's ledger; it is there before the first rank is.
fn record(job: &Job, reports: &[(&String, NodeReport)]) -> Result<(), Failure> {
    let book = RunPolicy::open(&job.run)?.book(job.directory.path())?;
    for (_, NodeReport { host, kernel, measured, .. }) in reports {
        if let Some(measured) = measured {
            book.write(confined::of_node(measured, host.clone(), kernel.clone())?)?;
        }
    }
    Ok(book.sync()?)
}

/// What a node has left of this measurement.
fn left(file: &Path, stamp: &str) -> Option<NodeReport> {
    let until = Instant::now() + SEEN;
    loop {
        let read = fs::read(file).ok().and_then(|text| serde_json::from_slice::<NodeReport>(&text).ok());
        match read.filter(|report| report.stamp == stamp) {
            Some(report) => return Some(report),
            None if Instant::now() >= until => return None,
            None => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}

/// Has it start this program, as it is called where the ranks run, with these words.
pub(super) fn started_so(job: &Job, command: &mut Command, words: &[std::ffi::OsString]) -> Result<(), Failure> {
    let (opening, inside) = job.opening()?;
    let own = || {
        std::env::current_exe().map_err(|error| Failure::new(Kind::Machine, format_args!("cannot find this program: {error}")))
    };
    let program = if inside { PathBuf::from("sirocco") } else { own()? };
    command.args(opening).arg(program).args(words);
    Ok(())
}

/// The addresses of the nodes as this one finds them. They are told, and not enforced.
fn addresses(nodes: &[String]) -> Vec<IpAddr> {
    let of = |node: &String| (node.as_str(), 0).to_socket_addrs().ok();
    let mut found: Vec<IpAddr> = nodes.iter().filter_map(of).flatten().map(|address| address.ip()).collect();
    found.sort();
    found.dedup();
    found
}
