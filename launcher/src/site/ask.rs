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
    within(LIMIT, command)
}

fn within(limit: Duration, command: &mut Command) -> Answer {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // A group of its own: what the command starts is ended with it, and lets go of the pipes.
    let mut child = match command.process_group(0).spawn() {
        Ok(child) => child,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Answer::NotThere,
        Err(error) => return Answer::Failed(error.to_string()),
    };
    let end = Instant::now() + limit;
    let pipes = (child.stdout.take().map(listen), child.stderr.take().map(listen));
    let heard = |pipe: Option<mpsc::Receiver<String>>| {
        let left = end.saturating_duration_since(Instant::now());
        pipe.and_then(|pipe| pipe.recv_timeout(left).ok())
    };
    let said = heard(pipes.0).zip(heard(pipes.1));
    match (said, ended(&mut child, end)) {
        (Some((out, err)), Some(true)) => Answer::Said(out + &err),
        (Some((out, err)), Some(false)) => {
            let first = [&err, &out].into_iter().flat_map(|text| text.lines()).map(str::trim).find(|line| !line.is_empty());
            Answer::Failed(first.unwrap_or("it said nothing").to_owned())
        }
        _ => {
            if let Some(group) = Pid::from_raw(child.id().cast_signed()) {
                // It may have ended this very moment.
                let _ = kill_process_group(group, Signal::KILL);
            }
            let _ = child.wait();
            Answer::TooLate
        }
    }
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
        assert_eq!(within(Duration::from_millis(200), Command::new("sh").args(["-c", "sleep 60 & sleep 60"])), Answer::TooLate);
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    }
}
