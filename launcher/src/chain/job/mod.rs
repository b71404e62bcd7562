//! `sirocco job`: what a job does from its start to its end. It starts the ranks, writes down how they end, and sees to what follows.

mod allocation;
mod decide;
mod ranks;
mod test;

use std::ffi::OsString;
use std::fs::File;
use std::time::{Duration, Instant};

use sirocco_config::{Run, RunFile};
use sirocco_site::MpiStart;

use crate::chain::container;
use crate::chain::record::{self, Event, Next, Outcome, Unfit, What};
use crate::chain::script::job_name;
use crate::chain::slurm::{self, Submission};
use crate::chain::submit::gpus_per_node;
use crate::cli;
use crate::failure::{Failure, Kind};
use crate::output::say;
use crate::programs::{TRAINER, beside};
use crate::report::tensorboard;
use crate::site::find;
use crate::train::directory::RunDirectory;
use crate::train::outcome::{IN_TIME, STOPPED, State, judge};
use crate::train::{here, steps_of};
use allocation::Allocation;
use decide::{CANCELLED, Decision, Ending, Left, decide};
use ranks::{Asked, Start};
use test::Test;

/// How long a job waits for the one before it to let go of the run: after a power cut a file system may keep a lock for a while.
const HANDOVER: Duration = Duration::from_secs(300);

/// Before the same is tried again that has just failed without a new checkpoint.
const PAUSE: Duration = Duration::from_secs(5);

/// Runs the job. Returns the exit code: 0 when the run is done, 75 when it is not and goes on elsewhere.
pub(crate) fn run(arguments: &cli::Job) -> Result<u8, Failure> {
    let directory = RunDirectory::existing(&arguments.run)?;
    let run = RunFile::read(&directory.run_file())?.check(&here()?)?;
    let asked = Asked::listen()?;
    let allocation = Allocation::here()?;
    let past = read(&directory)?;
    if let Some(other) = gone_on_in(&past, &allocation.id)? {
        say(format_args!("this run has gone on in job {other}"));
        return Ok(STOPPED);
    }
    let _lock = lock(&directory)?;
    let site = find::site(&run.site.profile)?.site;
    let gpus = gpus_per_node(&run);
    let mpi = site.mpi.map_or(MpiStart::Srun, |known| known.facts.start);
    let mut job = Job { directory, run, allocation, mpi, gpus, asked };
    job.go().inspect_err(|failure| job.note_failure(failure))
}

/// The job that has the run now, if Slurm starts this one again although it has handed the run over: the newest that was submitted, if it waits
/// or runs.
fn gone_on_in(past: &[Event], id: &str) -> Result<Option<String>, Failure> {
    let newest = past.iter().rev().find(|event| matches!(event.what, What::Submitted { .. })).map(|event| event.job.clone());
    let Some(other) = newest.filter(|other| other != id) else { return Ok(None) };
    Ok(slurm::job(&other)?.filter(|job| job.is_active()).map(|_| other))
}

/// Whether a person has ended the chain since a person last submitted the run.
fn is_cancelled(past: &[Event]) -> bool {
    let newest = past.iter().rev().find(|event| matches!(event.what, What::Cancelled | What::Submitted { after: None, .. }));
    newest.is_some_and(|event| event.what == What::Cancelled)
}

/// The run's lock, as soon as the job before this one has ended.
fn lock(directory: &RunDirectory) -> Result<File, Failure> {
    let until = Instant::now() + HANDOVER;
    loop {
        match directory.lock() {
            Err(_) if Instant::now() < until => std::thread::sleep(Duration::from_millis(200)),
            taken => return taken,
        }
    }
}

fn read(directory: &RunDirectory) -> Result<Vec<Event>, Failure> {
    record::read(directory.path()).map_err(|error| {
        Failure::new(Kind::Failed, format_args!("{}: cannot be read: {error}", directory.path().join(record::FILE).display()))
    })
}

/// A job at work.
struct Job {
    directory: RunDirectory,
    run: Run,
    allocation: Allocation,
    mpi: MpiStart,
    /// Of each node.
    gpus: u64,
    asked: Asked,
}

impl Job {
    fn go(&mut self) -> Result<u8, Failure> {
        let Allocation { nodes, restarts, .. } = &self.allocation;
        self.add(What::Started { nodes: nodes.clone(), ends: self.allocation.ends(), restarts: *restarts })?;
        let (mut attempt, mut is_tested) = (0, false);
        loop {
            attempt += 1;
            if is_cancelled(&read(&self.directory)?) {
                say(format_args!("this run was cancelled"));
                return Ok(STOPPED);
            }
            let unfit = if is_tested { None } else { self.test()? };
            let ending = unfit.map_or_else(|| self.attempt(attempt), Ok)?;
            // Whoever stops when asked has shown what it is worth.
            is_tested = ending.outcome != Outcome::Failed;
            self.allocation.refresh();
            let past = read(&self.directory)?;
            let lost: Vec<&String> = ending.unfit.iter().map(|unfit| &unfit.node).collect();
            let fit = self.fit(&past).iter().filter(|node| !lost.contains(node)).count();
            let left = Left { time: self.allocation.left(), nodes: fit as i64 - self.run.site.nodes as i64 };
            let decision = decide(&past, &ending, &left, self.run.site.restarts);
            let (next, code) = self.follow(&decision, &past, &lost)?;
            let why = match &decision {
                Decision::GiveUp(reason) if reason != CANCELLED => format!("{}; {reason}", ending.why),
                _ => ending.why.clone(),
            };
            say(format_args!("{why}: {}", words(&next, &decision)));
            let (outcome, unfit, (from, step)) = (ending.outcome, ending.unfit, ending.steps);
            self.add(What::Ended { attempt, outcome, step, why, unfit, next })?;
            if decision != Decision::Again {
                if let Err(failure) = tensorboard::write_for(&self.directory) {
                    say(format_args!("warning: {}", failure.message));
                }
                return Ok(code);
            }
            if outcome == Outcome::Failed && from == step {
                std::thread::sleep(PAUSE);
            }
        }
    }

    /// Tests the nodes, and says why ranks cannot be started on them, if they cannot.
    fn test(&mut self) -> Result<Option<Ending>, Failure> {
        let nodes = self.fit(&read(&self.directory)?);
        let step = self.directory.newest_checkpoint()?.unwrap_or(0);
        let (directory, allocation) = (&self.directory, &self.allocation);
        let checkpoint_bytes = self.directory.checkpoint_bytes(step);
        let test = Test { run: &self.run, directory, allocation, mpi: self.mpi, gpus: self.gpus, checkpoint_bytes };
        let tested = test.of(&nodes);
        if self.asked.drain() {
            // Whatever ends the job ends the test, too, and says nothing about the nodes.
            let (why, terminated) = ("stopped before the ranks were started".to_owned(), self.asked.terminated);
            let (outcome, kind) = (Outcome::Stopped, Kind::Stopped);
            return Ok(Some(Ending { outcome, kind, steps: (step, step), why, unfit: vec![], terminated, in_time: false }));
        }
        let (seconds, verdict) = tested?;
        self.add(What::Tested { seconds, unfit: verdict.unfit.clone() })?;
        let (bad, wanted) = (verdict.unfit.len(), self.run.site.nodes as usize);
        if nodes.len() - bad >= wanted {
            return Ok(None);
        }
        let each: Vec<String> = verdict.unfit.iter().map(|unfit| format!("{}: {}", unfit.node, unfit.why)).collect();
        let why = format!("{} of {} nodes fit, and the run needs {wanted}: {}", nodes.len() - bad, nodes.len(), each.join("; "));
        // What most nodes lack is not the fault of a node.
        let kind = if bad > 1 && 2 * bad > nodes.len() { Kind::Usage } else { Kind::Machine };
        let (outcome, terminated) = (Outcome::Failed, self.asked.terminated);
        Ok(Some(Ending { outcome, kind, steps: (step, step), why, unfit: vec![], terminated, in_time: false }))
    }

    /// Starts the ranks once.
    fn attempt(&mut self, attempt: u64) -> Result<Ending, Failure> {
        let past = read(&self.directory)?;
        let nodes: Vec<String> = self.fit(&past).into_iter().take(self.run.site.nodes as usize).collect();
        let from = self.directory.newest_checkpoint()?.unwrap_or(0);
        self.add(What::Ranks { attempt, nodes: nodes.clone(), ranks: self.run.ranks(), from_step: from })?;
        let start = Start {
            run: &self.run,
            directory: &self.directory,
            allocation: &self.allocation,
            mpi: self.mpi,
            nodes: &nodes,
            gpus: self.gpus,
        };
        let (ended, lost) = ranks::run(&start, &mut self.asked)?;
        let judged = judge(&ended, &self.directory, self.run.ranks());
        let to = self.directory.newest_checkpoint()?.unwrap_or(0);
        let (terminated, in_time) = (self.asked.terminated, ended.voices.said(IN_TIME));
        let ending = |outcome, kind, why, unfit| Ending { outcome, kind, steps: (from, to), why, unfit, terminated, in_time };
        let steps = steps_of(&self.directory, &self.run)?;
        Ok(match judged {
            Ok((State::Stopped, _)) => ending(
                Outcome::Stopped,
                Kind::Stopped,
                format!(
                    "stopped at step {to} of {steps}, with a checkpoint{}",
                    if in_time { ", because the time of the job was nearly up" } else { "" }
                ),
                vec![],
            ),
            Ok(_) => ending(Outcome::Done, Kind::Stopped, format!("all {steps} steps are done"), vec![]),
            Err(failure) => {
                let unfit = if lost { silent(&nodes, &failure.message) } else { vec![] };
                ending(Outcome::Failed, failure.kind, failure.message, unfit)
            }
        })
    }

    /// The nodes of the job about which nothing bad is recorded.
    fn fit(&self, past: &[Event]) -> Vec<String> {
        let bad = unfit_nodes(past);
        self.allocation.nodes.iter().filter(|node| !bad.contains(*node)).cloned().collect()
    }

    /// Does what was decided; what comes next, and the exit code of this job.
    fn follow(&self, decision: &Decision, past: &[Event], lost: &[&String]) -> Result<(Next, u8), Failure> {
        Ok(match decision {
            Decision::Done => (Next::Nothing, 0),
            Decision::Again => (Next::Again, STOPPED),
            Decision::LeaveToSlurm => (Next::Requeued, STOPPED),
            Decision::GiveUp(reason) => (Next::Nothing, if reason == CANCELLED { STOPPED } else { 1 }),
            Decision::Successor => match self.submit(past, lost) {
                Ok(job) => (Next::Job(job), STOPPED),
                Err(failure) if failure.kind == Kind::Stopped => (Next::Nothing, STOPPED),
                Err(failure) => {
                    say(format_args!(
                        "no other job could be submitted from here ({}): asking Slurm to start this one again",
                        failure.message
                    ));
                    slurm::requeue(&self.allocation.id)?;
                    (Next::Requeued, STOPPED)
                }
            },
        })
    }

    fn submit(&self, past: &[Event], lost: &[&String]) -> Result<String, Failure> {
        let mut known: Vec<String> = past.iter().map(|event| event.job.clone()).collect();
        known.push(self.allocation.id.clone());
        let mut excluded = unfit_nodes(past);
        excluded.extend(lost.iter().copied().cloned());
        let submission = Submission {
            script: &self.directory.path().join("job.sh"),
            name: &job_name(&self.run.name, self.directory.path()),
            known: &known,
            excluded: &excluded,
            leading_out: &[],
        };
        let job = slurm::submit(&submission)?;
        if is_cancelled(&read(&self.directory)?) {
            slurm::cancel(&job, None)?;
            return Err(Failure::new(Kind::Stopped, "this run was cancelled"));
        }
        let after = Some(self.allocation.id.clone());
        self.note(&Event::now(&job, What::Submitted { after, excluded }))?;
        Ok(job)
    }

    /// What ended this job besides its ranks, for whoever looks why the run does not go on.
    fn note_failure(&self, failure: &Failure) {
        let step = self.directory.newest_checkpoint().ok().flatten().unwrap_or(0);
        let (outcome, why, unfit, next) = (Outcome::Failed, failure.message.clone(), vec![], Next::Nothing);
        // The failure itself is told whether this can be written or not.
        let _ = self.add(What::Ended { attempt: 0, outcome, step, why, unfit, next });
    }

    fn add(&self, what: What) -> Result<(), Failure> {
        self.note(&Event::now(&self.allocation.id, what))
    }

    fn note(&self, event: &Event) -> Result<(), Failure> {
        record::add(self.directory.path(), event).map_err(|error| {
            Failure::new(
                Kind::Failed,
                format_args!("{}: cannot be written: {error}", self.directory.path().join(record::FILE).display()),
            )
        })
    }
}

/// The words that start the trainer: its path, or in an image its name behind what opens the image.
fn trainer(run: &Run, directory: &RunDirectory, gpus: u64) -> Result<Vec<OsString>, Failure> {
    let opening = container::of_run(run, directory.path(), gpus > 0)?;
    let program = if opening.is_empty() { beside(TRAINER)?.into_os_string() } else { TRAINER.into() };
    Ok(opening.into_iter().map(OsString::from).chain([program]).collect())
}

/// Nodes that were found unfit since a person last looked.
fn unfit_nodes(past: &[Event]) -> Vec<String> {
    let mut nodes: Vec<String> = Vec::new();
    for event in past {
        match &event.what {
            What::Submitted { after: None, .. } => nodes.clear(),
            What::Submitted { excluded, .. } => nodes.extend(excluded.iter().cloned()),
            What::Tested { unfit, .. } | What::Ended { unfit, .. } => nodes.extend(unfit.iter().map(|unfit| unfit.node.clone())),
            _ => {}
        }
    }
    nodes.sort();
    nodes.dedup();
    nodes
}

/// Those of the nodes that the ranks' message says they lost. A host may call itself by its name with a domain.
fn silent(nodes: &[String], message: &str) -> Vec<Unfit> {
    let hosts: Vec<&str> =
        message.split(" on ").skip(1).filter_map(|rest| rest.split([':', ')', ',', ';', ' ']).next()).collect();
    let is_named =
        |node: &&String| hosts.iter().any(|host| *host == node.as_str() || host.split('.').next() == Some(node.as_str()));
    let why = "its ranks do not answer, and it does not end them".to_owned();
    nodes.iter().filter(is_named).map(|node| Unfit { node: node.clone(), why: why.clone() }).collect()
}

fn words(next: &Next, decision: &Decision) -> String {
    match (next, decision) {
        (Next::Again, _) => "starting the ranks again".to_owned(),
        (Next::Job(job), _) => format!("the run goes on in job {job}"),
        (Next::Requeued, _) => "Slurm starts this job again, unless it was cancelled".to_owned(),
        (Next::Nothing, Decision::Done) => "nothing is left to do".to_owned(),
        (Next::Nothing, _) => "the chain ends here".to_owned(),
    }
}
