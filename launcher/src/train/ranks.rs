//! Starts the ranks, shows their progress, and waits for the end.
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use rustix::process::geteuid;

use crate::confined;
use crate::failure::{Failure, Kind};
use crate::programs::{Mpirun, TRAINER, beside, settle};
use crate::train::directory::RunDirectory;
use crate::train::metrics::Follower;
use crate::train::progress::Progress;
use crate::train::requests::Requests;
use crate::train::voices::{Starter, Voices};

/// How often metrics and signals are looked at.
const BEAT: Duration = Duration::from_millis(100);

/// What to start.
pub(crate) struct Start<'a> {
    pub(crate) directory: &'a RunDirectory,
    pub(crate) ranks: u64,
    pub(crate) until: Option<u64>,
    /// Held open by the ranks as their standard input, which is empty.
    pub(crate) lock: File,
}

/// How it ended.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) voices: Voices,
    pub(crate) starter: Starter,
    /// A signal had asked for a stop.
    pub(crate) requested: bool,
    /// Another one had ended the ranks where they were.
    pub(crate) at_once: bool,
}

/// Starts the ranks and waits until the last has ended.
pub(crate) fn run(start: Start<'_>, progress: &mut Progress) -> Result<Ended, Failure> {
    let starter = if start.ranks == 1 { Starter::Nobody } else { Starter::Mpirun };
    let mut follower = Follower::from_end(&start.directory.metrics());
    let mut requests = Requests::listen(start.directory, start.ranks)?;
    let mut command = command(&start)?;
    let program = command.get_program().to_owned();
    let mut child = command
        .spawn()
        .map_err(|error| Failure::new(Kind::Machine, format_args!("{}: cannot be started: {error}", program.display())))?;
    start.directory.note_worker(child.id());
    // Closes our copies of the lock file: from here on the ranks hold the run.
    drop((command, start.lock));
    let lines = listen(&mut child);
    let (mut voices, mut stepping) = (Voices::default(), false);
    let status = loop {
        requests.heed(&child, stepping);
        lines.try_iter().filter_map(|line| voices.hear(&line, starter)).for_each(|line| progress.say(&line));
        stepping |= follow(&mut follower, progress);
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) => std::thread::sleep(BEAT),
            Err(error) => return Err(Failure::new(Kind::Failed, format_args!("cannot wait for the ranks: {error}"))),
        }
    };
    // The pipes end when the last rank has closed them, which a rank that outlives mpirun may never do.
    while let Ok(line) = lines.recv_timeout(Duration::from_secs(1)) {
        voices.hear(&line, starter).iter().for_each(|line| progress.say(line));
    }
    follow(&mut follower, progress);
    progress.end();
    Ok(Ended { status, voices, starter, requested: requests.any(), at_once: requests.at_once() })
}

/// Cores for each rank of this machine.
pub(crate) fn threads(ranks: u64) -> u64 {
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    (cores / ranks).max(1)
}

fn command(start: &Start<'_>) -> Result<Command, Failure> {
    let trainer = beside(TRAINER)?;
    let mut command = if start.ranks == 1 { Command::new(trainer) } else { under_mpirun(&trainer, start.ranks)? };
    command.args(["run", "--dir"]).arg(start.directory.path());
    command.args(["--comm", if start.ranks == 1 { "solo" } else { "mpi" }]);
    command.args(["--threads", &threads(start.ranks).to_string()]);
    if let Some(step) = start.until {
        command.args(["--until", &step.to_string()]);
    }
    settle(&mut command);
    confined::hand_on(&mut command);
    // In a group of its own, so that Ctrl-C reaches the ranks only through us: mpirun would kill them at once.
    let lock =
        start.lock.try_clone().map_err(|error| Failure::new(Kind::Failed, format_args!("the lock of the run: {error}")))?;
    command.stdin(lock).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    Ok(command)
}

/// mpirun on this machine, before the words of the trainer.
pub(crate) fn under_mpirun(trainer: &Path, ranks: u64) -> Result<Command, Failure> {
    let mpirun = Mpirun::find()?;
    let mut command = Command::new(&mpirun.path);
    command.args(mpirun.options(ranks)).arg(trainer);
    if geteuid().is_root() {
        // Open MPI refuses to run as root unless told twice; in a container root is who there is.
        command.envs([("OMPI_ALLOW_RUN_AS_ROOT", "1"), ("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")]);
    }
    Ok(command)
}

/// Reads both outputs line by line, each on a thread of its own, until they close.
pub(crate) fn listen(child: &mut Child) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    let pipes: [Option<Box<dyn Read + Send>>; 2] =
        [child.stdout.take().map(|pipe| Box::new(pipe) as _), child.stderr.take().map(|pipe| Box::new(pipe) as _)];
    for pipe in pipes.into_iter().flatten() {
        let sender = sender.clone();
        std::thread::spawn(move || send_lines(pipe, &sender));
    }
    receiver
}

fn send_lines(pipe: Box<dyn Read + Send>, sender: &Sender<String>) {
    for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
        if sender.send(String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned()).is_err() {
            return;
        }
    }
}

/// Shows what is new in the metrics; `true` if anything is.
fn follow(follower: &mut Follower, progress: &mut Progress) -> bool {
    // A metrics file that cannot be read now may be readable at the next beat; the trainer reports its own failures.
    let records = follower.poll().unwrap_or_default();
    records.iter().for_each(|record| progress.show(record));
    !records.is_empty()
}

/// The signal that ended the process itself, if one did.
pub(crate) fn ended_by(status: ExitStatus) -> Option<i32> {
    status.signal()
}
