//! The process that is asked instead of the one that asks: what is tried, or confined, is it and not its starter.
//!
//! Rust's standard library has no safe way to run code between `fork` and `exec`, so that the helper is a program: one that calls
//! [`serve`] first thing when it is started so, as the program that asks may do itself. The question comes on its standard input
//! and the answer goes to its standard output, both JSON.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::apply::{Demand, apply};
use crate::canary::{Inside, Plan};
use crate::environment;
use crate::error::Refused;
use crate::level::Allowed;
use crate::probe::{self, Offer};

/// What a helper is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// What this kernel offers.
    Probe,
    /// To confine itself, if there is a demand, and to attempt what is planned.
    Canary {
        /// What to be confined to; `None` when whoever started the helper has seen to it, or for the control.
        demand: Option<Demand>,
        /// The attempts.
        plan: Vec<Plan>,
    },
}

/// What it answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// What this kernel offers.
    Offer(Offer),
    /// What the attempts met.
    Canary(Inside),
    /// Why the demand could not be met.
    Refused(String),
}

/// Why a helper gave no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChildError {
    /// It could not be started, or its pipes broke.
    #[error("the helper {}: {source}", program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// It took too long and was ended.
    #[error("the helper said nothing for {0:?}")]
    Silent(Duration),
    /// It answered something else.
    #[error("the helper's answer: {0}")]
    Answer(String),
    /// Its question could not be read, or its answer not written.
    #[error("the helper's question or answer: {0}")]
    Talk(#[from] std::io::Error),
}

/// A program that calls [`serve`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Helper {
    /// The program.
    pub program: PathBuf,
    /// What it is given, so that it does.
    pub arguments: Vec<OsString>,
    /// Its environment, as the caller's is: what leads out is not handed on ([`crate::environment`]).
    pub environment: Vec<(OsString, OsString)>,
    /// Whom it runs as, user and group, when the asker is root and wants another.
    pub identity: Option<(u32, u32)>,
}

impl Helper {
    /// Asks, and waits for the answer at most so long.
    ///
    /// # Errors
    /// When there is no answer. The helper has ended in every case.
    pub fn ask(&self, request: &Request, limit: Duration) -> Result<Reply, ChildError> {
        let failed = |source| ChildError::Start { program: self.program.clone(), source };
        let question = serde_json::to_vec(request).map_err(|error| ChildError::Answer(error.to_string()))?;
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let handed_on = self.environment.iter().filter(|(name, _)| environment::reason(name).is_none());
        command.env_clear().envs(handed_on.map(|(name, value)| (name, value)));
        if let Some((user, group)) = self.identity {
            command.uid(user).gid(group);
        }
        let mut child = command.spawn().map_err(failed)?;
        let answer = talk(&mut child, question, limit);
        if answer.is_none() {
            let _ = child.kill();
        }
        let status = child.wait().map_err(failed)?;
        let answer = answer.ok_or(ChildError::Silent(limit))?.map_err(failed)?;
        serde_json::from_slice(&answer).map_err(|error| ChildError::Answer(format!("{error} ({status})")))
    }
}

/// Writes the question and reads the answer to its end, on a thread that a silent helper cannot hold up; `None` when the time is
/// over.
fn talk(child: &mut Child, question: Vec<u8>, limit: Duration) -> Option<std::io::Result<Vec<u8>>> {
    let (input, output) = (child.stdin.take(), child.stdout.take());
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut answer = Vec::new();
        // A helper that ends before it has read all says why by its answer, or by having none.
        let _ = input.map(|mut pipe| pipe.write_all(&question));
        let read = output.map_or(Ok(0), |mut pipe| pipe.read_to_end(&mut answer));
        sender.send(read.map(|_| answer))
    });
    receiver.recv_timeout(limit).ok()
}

/// Answers one question; the calling process is confined by it and should end afterwards. It must have one thread.
///
/// # Errors
/// When the question cannot be read or the answer not written.
pub fn serve(mut input: impl Read, mut output: impl Write) -> Result<(), ChildError> {
    let mut text = Vec::new();
    input.read_to_end(&mut text)?;
    let request = serde_json::from_slice(&text).map_err(|error| ChildError::Answer(error.to_string()))?;
    let reply = serde_json::to_vec(&answer(request)).map_err(|error| ChildError::Answer(error.to_string()))?;
    output.write_all(&reply)?;
    Ok(output.flush()?)
}

fn answer(request: Request) -> Reply {
    match request {
        Request::Probe => Reply::Offer(probe::try_here()),
        Request::Canary { demand: None, plan } => Reply::Canary(Inside::attempts(&plan, None)),
        Request::Canary { demand: Some(demand), plan } => match confined(demand, &plan) {
            Ok(inside) => Reply::Canary(inside),
            Err(refused) => Reply::Refused(refused.to_string()),
        },
    }
}

/// Confines itself and attempts everything. Who may listen on a port has it open before: the helper opens one of its own,
/// since the port that is meant is the server's, and its answer has that port.
fn confined(mut demand: Demand, plan: &[Plan]) -> Result<Inside, Refused> {
    let listener = match &mut demand.allowed {
        Allowed::Listen { port } => {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(Refused::at("opening a listener"))?;
            *port = listener.local_addr().map_err(Refused::at("asking for a listener's port"))?.port();
            Some(listener)
        }
        _ => None,
    };
    let applied = apply(&demand)?;
    let inside = Inside::attempts(plan, Some(applied));
    drop(listener);
    Ok(inside)
}

/// What this kernel offers to the helper's user.
///
/// # Errors
/// When the helper gives no answer.
pub fn probe(helper: &Helper) -> Result<Offer, ChildError> {
    const LIMIT: Duration = Duration::from_secs(20);
    match helper.ask(&Request::Probe, LIMIT)? {
        Reply::Offer(offer) => Ok(offer),
        Reply::Canary(_) | Reply::Refused(_) => Err(ChildError::Answer("an answer to another question".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canary::Outcome;

    fn helper(program: &str, arguments: &[&str]) -> Helper {
        let arguments = arguments.iter().map(Into::into).collect();
        Helper { program: program.into(), arguments, environment: std::env::vars_os().collect(), identity: None }
    }

    #[test]
    fn a_program_that_is_no_helper_is_found_out() {
        let answer = helper("echo", &["hello"]).ask(&Request::Probe, Duration::from_secs(20));
        assert!(matches!(answer, Err(ChildError::Answer(_))), "{answer:?}");
        let answer = helper("no-such-program-here", &[]).ask(&Request::Probe, Duration::from_secs(20));
        assert!(matches!(answer, Err(ChildError::Start { .. })), "{answer:?}");
    }

    #[test]
    fn a_helper_gets_no_variable_that_leads_out() {
        let mut helper = helper("sh", &["-c", "test -z \"$https_proxy\" && echo '{\"refused\":\"clean\"}'"]);
        helper.environment.push(("https_proxy".into(), "http://192.0.2.1".into()));
        let answer = helper.ask(&Request::Probe, Duration::from_secs(20)).unwrap();
        assert_eq!(answer, Reply::Refused("clean".to_owned()));
    }

    #[test]
    fn a_silent_helper_is_ended() {
        let answer = helper("sleep", &["600"]).ask(&Request::Probe, Duration::from_millis(100));
        assert!(matches!(answer, Err(ChildError::Silent(_))), "{answer:?}");
    }

    #[test]
    fn the_control_is_answered_in_place() {
        let plan = vec![Plan { attempt: crate::canary::Try::UnixConnect("no/such".into()), token: "t".into() }];
        let question = serde_json::to_vec(&Request::Canary { demand: None, plan }).unwrap();
        let mut answer = Vec::new();
        serve(question.as_slice(), &mut answer).unwrap();
        let Reply::Canary(Inside { applied: None, outcomes, .. }) = serde_json::from_slice(&answer).unwrap() else {
            panic!("another answer")
        };
        assert!(matches!(outcomes.as_slice(), [Outcome::Errno { number: libc::ENOENT, .. }]));
        assert!(serve(&b"no question"[..], &mut answer).is_err());
    }
}
