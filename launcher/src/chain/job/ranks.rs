//! Starts the ranks of a job on its nodes, hears what they say, and gets over nodes that say nothing any more.
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, geteuid, kill_process_group};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;
use sirocco_custody::Account;
use sirocco_site::MpiStart;

use super::Job;
use super::confine::{Confined, started_so};
use crate::chain::{hosts, slurm};
use crate::confined::task::{RANK, WHOLE, Words};
use crate::failure::{Failure, Kind};
use crate::output::say;
use crate::programs::{Mpirun, settle};
use crate::train::ranks::{Ended, listen};
use crate::train::voices::{Starter, Voices};

/// How often signals and the ranks are looked at.
const BEAT: Duration = Duration::from_millis(50);

/// Ranks end within this time of the first error, says their contract. What is left then is on a node that does not answer, for which srun would
/// wait until Slurm declares it down.
const LINGER: Duration = Duration::from_secs(15);

/// How long Slurm's controller may take to end what is left of them.
const ENDING: Duration = Duration::from_secs(20);

/// This long before its end a job stops waiting for its ranks, which should have left by themselves.
const LAST: Duration = Duration::from_secs(5);

/// What this program was asked by signals, over all of the job.
pub(crate) struct Asked {
    signals: Signals,
    /// SIGTERM has come: Slurm is ending the job, or a person wants that.
    pub(crate) terminated: bool,
    any: bool,
}

impl Asked {
    /// Listens from now on.
    pub(crate) fn listen() -> Result<Asked, Failure> {
        let signals = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR1])
            .map_err(|error| Failure::new(Kind::Failed, format_args!("cannot watch for signals: {error}")))?;
        Ok(Asked { signals, terminated: false, any: false })
    }

    /// Takes in what has come while there were no ranks; whether there was anything.
    pub(crate) fn drain(&mut self) -> bool {
        let signals: Vec<i32> = self.signals.pending().collect();
        self.terminated |= signals.contains(&SIGTERM);
        !signals.is_empty()
    }

    /// Hands what has come on to `starter`, which hands it on to its ranks: each of them may have it from Slurm already.
    fn hand_on(&mut self, child: &Child) {
        for signal in self.signals.pending().collect::<Vec<_>>() {
            self.any = true;
            self.terminated |= signal == SIGTERM;
            if let Some(pid) = Pid::from_raw(child.id().cast_signed()) {
                // It may have ended this very moment.
                let _ = rustix::process::kill_process(pid, Signal::USR1);
            }
        }
    }
}

/// Starts the ranks on these nodes, as many as the run has, and waits for their end; `true` beside it if some of them are out of reach.
pub(super) fn run(job: &Job, (nodes, confined): (&[String], &Confined), asked: &mut Asked) -> Result<(Ended, bool), Failure> {
    let starter = match confined {
        Confined::Together if job.run.ranks() == 1 => Starter::Nobody,
        Confined::Together => Starter::Mpirun,
        _ if job.mpi == MpiStart::Mpirun => Starter::Mpirun,
        _ => Starter::Srun,
    };
    let mut command = command(job, nodes, confined)?;
    let shown = std::iter::once(command.get_program()).chain(command.get_args()).map(|word| word.to_string_lossy().into_owned());
    say(format_args!("{}", shown.collect::<Vec<_>>().join(" ")));
    asked.any = false;
    let mut child = command
        .spawn()
        .map_err(|error| Failure::new(Kind::Machine, format_args!("{}: cannot be started: {error}", starter.name())))?;
    let lines = listen(&mut child);
    let (mut voices, mut troubled) = (Voices::default(), None);
    let hear = |line: &str, voices: &mut Voices| {
        // The job's output is where people look first.
        let _ = writeln!(std::io::stdout().lock(), "{line}");
        voices.hear(line, starter);
    };
    let (status, lost) = loop {
        asked.hand_on(&child);
        lines.try_iter().for_each(|line| hear(&line, &mut voices));
        if troubled.is_none() && (voices.said("error: ") || voices.said("srun: error: Node failure")) {
            troubled = Some(Instant::now());
        }
        let status =
            child.try_wait().map_err(|error| Failure::new(Kind::Failed, format_args!("cannot wait for the ranks: {error}")))?;
        match status {
            Some(status) => break (status, false),
            None if troubled.is_some_and(|since| since.elapsed() >= LINGER) => {
                say(format_args!("some ranks are out of reach {} s after the first error", LINGER.as_secs()));
                break (give_up(&mut child, job)?, true);
            }
            // What follows has to be seen to before the job ends.
            None if job.allocation.left().is_some_and(|left| left < LAST) => {
                say(format_args!("the job ends, and its ranks have not: they are ended"));
                break (give_up(&mut child, job)?, false);
            }
            None => std::thread::sleep(BEAT),
        }
    };
    while let Ok(line) = lines.recv_timeout(Duration::from_secs(1)) {
        hear(&line, &mut voices);
    }
    Ok((Ended { status, voices, starter, requested: asked.any, at_once: false }, lost))
}

/// Ends what is left of the ranks, as far as that is in reach.
fn give_up(child: &mut Child, job: &Job) -> Result<std::process::ExitStatus, Failure> {
    if let Some(group) = Pid::from_raw(child.id().cast_signed()) {
        let _ = kill_process_group(group, Signal::KILL);
    }
    // What does not come of it is on nodes that are not in reach, and no reason to end the chain.
    if let Err(failure) = slurm::end_steps(&job.allocation.id, ENDING.min(job.allocation.left().unwrap_or(ENDING))) {
        say(format_args!("warning: {}", failure.message));
    }
    child.wait().map_err(|error| Failure::new(Kind::Failed, format_args!("cannot wait for the ranks: {error}")))
}

fn command(job: &Job, nodes: &[String], confined: &Confined) -> Result<Command, Failure> {
    let ranks = job.run.ranks();
    let per_node = ranks / job.run.site.nodes;
    let threads = job.allocation.cpus_per_task.unwrap_or(job.allocation.cpus / per_node).max(1);
    let mut command = match (confined, job.mpi) {
        (Confined::Together, _) => under_one_task(nodes, threads.saturating_mul(ranks)),
        (_, MpiStart::Mpirun) => under_mpirun(ranks, per_node, nodes)?,
        _ => under_srun(job, nodes, (per_node, threads)),
    };
    if let Confined::Together = confined {
        // It says how the ranks are started, inside.
        let words = Words { account: Account::own(None).name, ..Words::default() };
        started_so(job, &mut command, &words.written(WHOLE))?;
        command.arg("--").arg(job.directory.path());
    } else {
        match confined {
            Confined::Each(words) => {
                started_so(job, &mut command, &words.written(RANK))?;
                command.arg("--").arg(job.program(job.opening()?.1)?);
            }
            _ => drop(command.args(job.trainer()?)),
        }
        command.args(["run", "--dir"]).arg(job.directory.path()).args(["--comm", "mpi"]);
    }
    command.args(["--threads", &threads.to_string()]);
    if let Some(ends) = job.allocation.ends() {
        command.args(["--ends", &ends.to_string()]);
    }
    // A group of its own: what Slurm sends to this program reaches the ranks through it or from Slurm, not twice by the terminal's rules.
    settle(&mut command).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    Ok(command)
}

fn under_srun(job: &Job, nodes: &[String], (per_node, threads): (u64, u64)) -> Command {
    let mut command = Command::new("srun");
    command.args(job.mpi.plugin().map(|plugin| format!("--mpi={plugin}")));
    command.arg(format!("--nodes={}", nodes.len())).arg(format!("--nodelist={}", hosts::write(nodes)));
    command.arg(format!("--ntasks={}", job.run.ranks())).arg(format!("--ntasks-per-node={per_node}"));
    // srun does not take it over from sbatch.
    command.arg(format!("--cpus-per-task={threads}"));
    // Of the steps of one job none waits for the cores of another: the one before may still be ending on a node that is gone.
    command.args(["--overlap", "--label", "--kill-on-bad-exit=1", "--wait=60", "--input=none"]);
    command
}

/// One task with all cores, which is told apart from nobody. No plugin for MPI: what it starts finds each other without Slurm.
fn under_one_task(nodes: &[String], cores: u64) -> Command {
    let mut command = Command::new("srun");
    command.args(["--mpi=none", "--nodes=1"]).arg(format!("--nodelist={}", hosts::write(nodes)));
    command.args(["--ntasks=1", "--ntasks-per-node=1"]).arg(format!("--cpus-per-task={cores}"));
    command.args(["--overlap", "--kill-on-bad-exit=1", "--wait=60", "--input=none"]);
    command
}

fn under_mpirun(ranks: u64, per_node: u64, nodes: &[String]) -> Result<Command, Failure> {
    let mpirun = Mpirun::find()?;
    let mut command = Command::new(&mpirun.path);
    let hosts: Vec<String> = nodes.iter().map(|node| format!("{node}:{per_node}")).collect();
    command.args(mpirun.options(ranks)).args(["--host", &hosts.join(",")]);
    if geteuid().is_root() {
        command.envs([("OMPI_ALLOW_RUN_AS_ROOT", "1"), ("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")]);
    }
    Ok(command)
}
