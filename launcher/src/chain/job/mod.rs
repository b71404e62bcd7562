//! `sirocco job`: what a job does from its start to its end. It starts the ranks, writes down how they end, and sees to what follows.

mod allocation;
mod blame;
mod confine;
mod decide;
mod next;
mod ranks;
mod test;

use std::ffi::OsString;
use std::fs::File;
use std::time::{Duration, Instant};

use sirocco_config::{Run, RunFile};
use sirocco_site::MpiStart;

use crate::chain::history::Past;
use crate::chain::record::{self, Event, Next, Outcome, Unfit, What};
use crate::chain::{container, needs, slurm};
use crate::cli;
use crate::confined::task::NOT_CONFINED;
use crate::failure::{Failure, Kind};
use crate::gate::account;
use crate::output::say;
use crate::programs::{TRAINER, beside};
use crate::report::tensorboard;
use crate::site::find;
use crate::train::directory::RunDirectory;
use crate::train::outcome::{IN_TIME, STOPPED, State, judge};
use crate::train::{here, steps_of};
use allocation::Allocation;
use confine::Confined;
use decide::{CANCELLED, Decision, Ending, Left, decide};
use ranks::Asked;

/// How long a job waits for the one before it to let go of the run: after a power cut a file system may keep a lock for a while.
const HANDOVER: Duration = Duration::from_secs(300);

/// Before the same is tried again that has just failed without a new checkpoint.
const PAUSE: Duration = Duration::from_secs(5);

/// Of a stop that came so early.
const UNSTARTED: &str = "stopped before the ranks were started";

/// A job at work.
struct Job {
    directory: RunDirectory,
    run: Run,
    allocation: Allocation,
    mpi: MpiStart,
    /// GPUs of each node that the run computes on.
    gpus: u64,
}

/// Runs the job. Returns the exit code: 0 when the run is done, 75 when it is not and goes on elsewhere.
pub(crate) fn run(arguments: &cli::Job) -> Result<u8, Failure> {
    let directory = RunDirectory::existing(&arguments.run)?;
    let run = RunFile::read(&directory.run_file())?.check(&here()?)?;
    let mut asked = Asked::listen()?;
    let allocation = Allocation::here()?;
    if let Some(other) = gone_on_in(&Past::read(directory.path())?, &allocation.id)? {
        say(format_args!("this run has gone on in job {other}"));
        return Ok(STOPPED);
    }
    let _lock = lock(&directory)?;
    let site = find::site(&run.site.profile)?.site;
    let gpus = needs::gpus_per_node(&run);
    let mpi = site.mpi.map_or(MpiStart::Srun, |known| known.facts.start);
    let mut job = Job { directory, run, allocation, mpi, gpus };
    job.go(&mut asked).inspect_err(|failure| job.note_failure(failure))
}

/// The job that has the run now, if Slurm starts this one again although it has handed the run over: the newest that was submitted, if it waits
/// or runs.
fn gone_on_in(past: &Past, id: &str) -> Result<Option<String>, Failure> {
    let Some(other) = past.newest_job().filter(|other| *other != id) else { return Ok(None) };
    Ok(slurm::job(other)?.filter(|job| job.is_active()).map(|_| other.to_owned()))
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

impl Job {
    fn go(&mut self, asked: &mut Asked) -> Result<u8, Failure> {
        let Allocation { nodes, restarts, .. } = &self.allocation;
        self.note(What::Started { nodes: nodes.clone(), ends: self.allocation.ends(), restarts: *restarts })?;
        let (mut attempt, mut is_tested) = (0, false);
        loop {
            attempt += 1;
            if self.past()?.is_cancelled() {
                say(format_args!("this run was cancelled"));
                return Ok(STOPPED);
            }
            let unfit = if is_tested { None } else { self.test(asked)? };
            let have_run = unfit.is_none();
            let ending = unfit.map_or_else(|| self.attempt(attempt, asked), Ok)?;
            // Whoever stops when asked has shown what it is worth.
            is_tested = have_run && ending.outcome != Outcome::Failed;
            self.allocation.refresh();
            let past = self.past()?;
            // What this ending says is not in the record yet.
            let mut unfit = past.unfit_nodes();
            unfit.extend(ending.unfit.iter().map(|unfit| unfit.node.clone()));
            let left = Left { time: self.allocation.left(), nodes: self.fit(&unfit).len() as i64 - self.run.site.nodes as i64 };
            let decision = decide(&past, &ending, &left, self.run.site.restarts);
            let (next, code) = self.follow(&decision, &past, unfit)?;
            let why = match &decision {
                Decision::GiveUp(reason) if reason != CANCELLED => format!("{}; {reason}", ending.why),
                _ => ending.why.clone(),
            };
            say(format_args!("{why}: {}", next::words(&next, &decision)));
            let (outcome, unfit, (from, step)) = (ending.outcome, ending.unfit, ending.steps);
            self.note(What::Ended { attempt, outcome, step, why, unfit, next })?;
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
    fn test(&self, asked: &mut Asked) -> Result<Option<Ending>, Failure> {
        let (nodes, step) = (self.fit(&self.past()?.unfit_nodes()), self.step()?);
        let tested = test::test(self, &nodes, self.directory.checkpoint_bytes(step));
        if asked.drain() {
            // Whatever ends the job ends the test, too, and says nothing about the nodes.
            return self.none_started((Outcome::Stopped, Kind::Stopped), UNSTARTED, vec![], asked.terminated).map(Some);
        }
        let (seconds, verdict) = tested?;
        self.note(What::Tested { seconds, unfit: verdict.unfit.clone() })?;
        match blame::too_few(&verdict, nodes.len(), self.run.site.nodes as usize) {
            None => Ok(None),
            Some((kind, why)) => self.none_started((Outcome::Failed, kind), &why, vec![], asked.terminated).map(Some),
        }
    }

    /// The end of an attempt that did not come as far as to start ranks.
    fn none_started(
        &self,
        (outcome, kind): (Outcome, Kind),
        why: &str,
        unfit: Vec<Unfit>,
        terminated: bool,
    ) -> Result<Ending, Failure> {
        let step = self.step()?;
        Ok(Ending { outcome, kind, steps: (step, step), why: why.to_owned(), unfit, terminated, in_time: false })
    }

    /// Starts the ranks once.
    fn attempt(&self, attempt: u64, asked: &mut Asked) -> Result<Ending, Failure> {
        let nodes: Vec<String> = self.fit(&self.past()?.unfit_nodes()).into_iter().take(self.run.site.nodes as usize).collect();
        let from = self.step()?;
        let confined = confine::confine(self, &nodes, from);
        if asked.drain() {
            return self.none_started((Outcome::Stopped, Kind::Stopped), UNSTARTED, vec![], asked.terminated);
        }
        let confined = confined?;
        if let Confined::Silent(unfit) = confined {
            let why = unfit.iter().map(|unfit| format!("{}: {}", unfit.node, unfit.why)).collect::<Vec<_>>().join("; ");
            return self.none_started((Outcome::Failed, Kind::Machine), &why, unfit, asked.terminated);
        }
        self.note(What::Ranks { attempt, nodes: nodes.clone(), ranks: self.run.ranks(), from_step: from })?;
        let (ended, lost) = ranks::run(self, (&nodes, &confined), asked)?;
        let judged = judge(&ended, &self.directory, self.run.ranks());
        let to = self.step()?;
        let (terminated, in_time) = (asked.terminated, ended.voices.said(IN_TIME));
        let ending = |outcome, kind, why, unfit| Ending { outcome, kind, steps: (from, to), why, unfit, terminated, in_time };
        let steps = steps_of(&self.directory, &self.run)?;
        Ok(match judged {
            Ok((State::Stopped, _)) => {
                let because = if in_time { ", because the time of the job was nearly up" } else { "" };
                let why = format!("stopped at step {to} of {steps}, with a checkpoint{because}");
                ending(Outcome::Stopped, Kind::Stopped, why, vec![])
            }
            Ok(_) => ending(Outcome::Done, Kind::Stopped, format!("all {steps} steps are done"), vec![]),
            // It would not be at another time, and costs no restart.
            Err(failure) if ended.voices.said(&format!("error: {NOT_CONFINED}")) => {
                return Err(Failure { kind: Kind::Machine, ..failure });
            }
            Err(failure) => {
                let unfit = if lost { blame::silent(&nodes, &failure.message) } else { vec![] };
                ending(Outcome::Failed, failure.kind, failure.message, unfit)
            }
        })
    }

    /// The nodes of the job but these.
    fn fit(&self, unfit: &[String]) -> Vec<String> {
        self.allocation.nodes.iter().filter(|node| !unfit.contains(*node)).cloned().collect()
    }

    /// Of the newest checkpoint; 0 without one.
    fn step(&self) -> Result<u64, Failure> {
        Ok(self.directory.newest_checkpoint()?.unwrap_or(0))
    }

    /// The words that open the image, if there is one, in which programs are found by their names.
    fn opening(&self) -> Result<(Vec<OsString>, bool), Failure> {
        // Made here: what is made in a container is gone with it.
        let ledger = self.directory.path().join(RunDirectory::LEDGER);
        let make = |_| account::keys_for(self.run.policy.keys.as_deref(), Some(ledger.clone()));
        let keys = self.run.site.container.as_ref().map(make).transpose()?;
        let keys = keys.as_ref().map(sirocco_custody::Keys::path);
        let opening = container::of_run(&self.run, self.directory.path(), self.gpus > 0, keys)?;
        let inside = !opening.is_empty();
        Ok((opening.into_iter().map(OsString::from).collect(), inside))
    }

    /// The trainer: its path, or in an image its name.
    fn program(&self, inside: bool) -> Result<OsString, Failure> {
        Ok(if inside { TRAINER.into() } else { beside(TRAINER)?.into_os_string() })
    }

    /// The words that start the trainer.
    fn trainer(&self) -> Result<Vec<OsString>, Failure> {
        let (opening, inside) = self.opening()?;
        Ok(opening.into_iter().chain([self.program(inside)?]).collect())
    }

    fn past(&self) -> Result<Past, Failure> {
        Past::read(self.directory.path())
    }

    fn note(&self, what: What) -> Result<(), Failure> {
        record::add(self.directory.path(), &Event::now(&self.allocation.id, what))
    }

    /// What ended this job besides its ranks, for whoever looks why the run does not go on.
    fn note_failure(&self, failure: &Failure) {
        let outcome = if failure.kind == Kind::Stopped { Outcome::Stopped } else { Outcome::Failed };
        let (step, why) = (self.step().unwrap_or(0), failure.message.clone());
        // The failure itself is told whether this can be written or not.
        let _ = self.note(What::Ended { attempt: 0, outcome, step, why, unfit: vec![], next: Next::Nothing });
    }
}
