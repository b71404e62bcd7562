//! Has every node of the job tested before ranks start on it: each by itself, then each beside the others.
use std::fs;
use std::io;
use std::process::Command;
use std::time::{Duration, Instant};

use sirocco_config::LinkLine;
use sirocco_site::MpiStart;

use super::Job;
use crate::chain::hosts;
use crate::chain::nodes::{self, Asked, Needs, Verdict};
use crate::chain::record::now;
use crate::failure::{Failure, Kind};
use crate::output::say;
use crate::programs::settle;
use crate::site::ask::within;

/// How long nodes have to answer: on a cold morning hundreds of them load libtorch from one file system.
const LIMIT: Duration = Duration::from_secs(60);

/// Tests these nodes of a job whose newest checkpoint has so many bytes; the seconds that took, and what came of it.
pub(super) fn test(job: &Job, tested: &[String], checkpoint_bytes: u64) -> Result<(f64, Verdict), Failure> {
    let start = Instant::now();
    let stamp = format!("{} {}", job.allocation.id, now());
    leave(job, &stamp)?;
    let began = now();
    let mut alone = srun(tested);
    node(job, &mut alone)?.args(["--stamp", &stamp]);
    let heard = within(LIMIT, settle(&mut alone));
    let answers = nodes::answers(&heard.out);
    if answers.is_empty() {
        // Not one: that is no node's fault.
        let first = heard.err.lines().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
        return Err(Failure::new(Kind::Machine, format_args!("srun could not start the test of the nodes: {first}")));
    }
    let staged = if job.run.checkpoint.staging.is_some() { checkpoint_bytes / job.run.site.nodes } else { 0 };
    let needs = Needs { checkpoint_bytes, staged_bytes: staged, gpus: job.gpus };
    let asked = Asked { nodes: tested, began, ended: now(), needs };
    let verdict = nodes::judge(&asked, &answers, &[]);
    // Who does not answer alone would keep all others waiting.
    let verdict = if verdict.unfit.is_empty() { nodes::judge(&asked, &answers, &links(job, tested)?) } else { verdict };
    verdict.notes.iter().for_each(|note| say(format_args!("note: {note}")));
    verdict.unfit.iter().for_each(|unfit| say(format_args!("{} is not fit for this run: {}", unfit.node, unfit.why)));
    Ok((start.elapsed().as_secs_f64(), verdict))
}

/// How fast the nodes talk to each other.
fn links(job: &Job, tested: &[String]) -> Result<Vec<LinkLine>, Failure> {
    if tested.len() == 1 || job.mpi == MpiStart::Mpirun {
        return Ok(Vec::new());
    }
    let mut pairs = srun(tested);
    pairs.args(job.mpi.plugin().map(|plugin| format!("--mpi={plugin}")));
    node(job, &mut pairs)?.arg("--link");
    Ok(nodes::links(&within(LIMIT, settle(&mut pairs)).out))
}

/// srun with one task on each of the nodes.
pub(super) fn srun(tested: &[String]) -> Command {
    let count = tested.len();
    let mut command = Command::new("srun");
    command.arg(format!("--nodes={count}")).arg(format!("--nodelist={}", hosts::write(tested)));
    command.arg(format!("--ntasks={count}")).args(["--ntasks-per-node=1", "--overlap", "--input=none", "--no-kill"]);
    command.arg("--cpus-per-task=1");
    command
}

/// Has it start the trainer's test of a node.
fn node<'a>(job: &Job, command: &'a mut Command) -> Result<&'a mut Command, Failure> {
    Ok(command.args(job.trainer()?).args(["node", "--dir"]).arg(job.directory.path()))
}

/// Leaves what every node must see in the run directory.
fn leave(job: &Job, stamp: &str) -> Result<(), Failure> {
    let directory = job.directory.path().join(".nodes");
    let written = fs::create_dir_all(&directory).and_then(|()| fs::write(directory.join("stamp"), stamp));
    let failed =
        |error: io::Error| Failure::new(Kind::Failed, format_args!("{}: cannot be written: {error}", directory.display()));
    written.map_err(failed)
}
