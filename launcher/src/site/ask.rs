//! One question to a command, with a limit on how long it may think: a login node whose controller is down must not hang a person.
use std::io::Read;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

/// How long one command may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(10);

/// For what a command that was ended has said before.
const GRACE: Duration = Duration::from_secs(1);

/// What came of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Both outputs, standard output first.
    Said(String),
    /// It ended with an error: the first line that says something.
    Failed(String),
    /// The command is not on PATH.
    NotThere,
    /// It took too long, and was ended.
    TooLate,
}

/// Asks `program`, which gets nothing to read.
pub(crate) fn ask(program: &str, arguments: &[&str]) -> Answer {
    ask_command(Command::new(program).args(arguments))
}

/// The same for a command with an environment of its own.
pub(crate) fn ask_command(command: &mut Command) -> Answer {
    answer(within(LIMIT, command))
}

/// What a command says that fails without a word.
pub(crate) const SILENCE: &str = "it said nothing";

fn answer(heard: Heard) -> Answer {
    let Heard { out, err, end } = heard;
    match end {
        End::Well => Answer::Said(out + &err),
        End::Badly => {
            let first = [&err, &out].into_iter().flat_map(|text| text.lines()).map(str::trim).find(|line| !line.is_empty());
            Answer::Failed(first.unwrap_or(SILENCE).to_owned())
        }
        End::TooLate => Answer::TooLate,
        End::NotStarted(error) if error.kind() == std::io::ErrorKind::NotFound => Answer::NotThere,
        End::NotStarted(error) => Answer::Failed(error.to_string()),
    }
}

/// The same, with a limit of its own.
pub(crate) fn ask_command_for(limit: Duration, command: &mut Command) -> Answer {
    answer(within(limit, command))
}

/// What a command has said, and how it has ended.
#[derive(Debug)]
pub(crate) struct Heard {
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) end: End,
}

/// How a command has ended.
#[derive(Debug)]
pub(crate) enum End {
    Well,
    /// With an error.
    Badly,
    /// It took too long, and was ended.
    TooLate,
    NotStarted(std::io::Error),
}

/// Runs a command, which gets nothing to read, for so long at most. What it said before it was ended is kept.
pub(crate) fn within(limit: Duration, command: &mut Command) -> Heard {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // A group of its own: what the command starts is ended with it, and lets go of the pipes.
    let mut child = match command.process_group(0).spawn() {
        Ok(child) => child,
        Err(error) => return Heard { out: String::new(), err: String::new(), end: End::NotStarted(error) },
    };
    let until = Instant::now() + limit;
    let pipes = [child.stdout.take().map(listen), child.stderr.take().map(listen)];
    let hear = |pipe: &Option<mpsc::Receiver<String>>, until: Instant| {
        pipe.as_ref().and_then(|pipe| pipe.recv_timeout(until.saturating_duration_since(Instant::now())).ok())
    };
    let said = pipes.each_ref().map(|pipe| hear(pipe, until));
    let end = match ended(&mut child, until) {
        Some(well) if said.iter().all(Option::is_some) => {
            if well {
                End::Well
            } else {
                End::Badly
            }
        }
        _ => {
            if let Some(group) = Pid::from_raw(child.id().cast_signed()) {
                // It may have ended this very moment.
                let _ = kill_process_group(group, Signal::KILL);
            }
            let _ = child.wait();
            End::TooLate
        }
    };
    // Who was ended lets go of the pipes.
    let until = Instant::now() + GRACE;
    let [out, err] = [0, 1].map(|which| said[which].clone().or_else(|| hear(&pipes[which], until)).unwrap_or_default());
    Heard { out, err, end }
}

/// All that comes out of a pipe, once it is closed.
fn listen(mut pipe: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // What was read before a failure is what was said.
        let _ = pipe.read_to_end(&mut bytes);
        let _ = sender.send(String::from_utf8_lossy(&bytes).into_owned());
    });
    receiver
}

/// Whether the child ended well; `None` if it has not ended by then.
fn ended(child: &mut Child, end: Instant) -> Option<bool> {
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status.success()),
            Ok(None) if Instant::now() < end => thread::sleep(Duration::from_millis(2)),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_answer() {
        assert_eq!(ask("sh", &["-c", "echo out; echo err >&2"]), Answer::Said("out\nerr\n".to_owned()));
        assert_eq!(ask("sh", &["-c", "echo why >&2; exit 1"]), Answer::Failed("why".to_owned()));
        assert_eq!(ask("no-such-command", &[]), Answer::NotThere);
    }

    #[test]
    fn a_command_that_hangs_is_ended_with_what_it_started() {
        let start = Instant::now();
        let heard = within(Duration::from_millis(200), Command::new("sh").args(["-c", "echo begun; sleep 60 & sleep 60"]));
        assert!(matches!(heard.end, End::TooLate) && heard.out == "begun\n", "{heard:?}");
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    }
}
