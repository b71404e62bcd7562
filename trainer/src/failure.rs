//! The one place of this program that turns errors into words and exit codes.

use std::fmt::Display;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use serde_json::{Value, json};
use sirocco_checkpoint::{CheckpointError, ErrorClass};
use sirocco_comm::CommError;
use sirocco_config::{OtherOrigin, other_checkpoint, shell_word};
use sirocco_custody::{Class, CustodyError};
use sirocco_model::ModelError;
use sirocco_parallel::ParallelError;
use sirocco_policy::{Decision, NotTaken};

/// Why a job ended without its result. The numbers are exit codes, the same in all programs.
#[derive(Debug)]
pub(crate) struct Failure {
    kind: Kind,
    message: String,
    help: Option<String>,
    /// Whether ranks lost each other.
    of_a_collective: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Failed = 1,
    Usage = 2,
    Policy = 3,
    Data = 4,
    Machine = 5,
    Stopped = 75,
}

/// The exit code of a run that was stopped on request.
pub(crate) const STOPPED: i32 = Kind::Stopped as i32;

impl Kind {
    const ALL: [Self; 6] = [Self::Failed, Self::Usage, Self::Policy, Self::Data, Self::Machine, Self::Stopped];

    fn name(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Usage => "usage",
            Self::Policy => "policy",
            Self::Data => "input",
            Self::Machine => "machine",
            Self::Stopped => "stopped",
        }
    }
}

impl Failure {
    fn new(kind: Kind, message: impl Display) -> Self {
        Self { kind, message: message.to_string(), help: None, of_a_collective: false }
    }

    /// Something went wrong while running.
    pub(crate) fn failed(message: impl Display) -> Self {
        Self::new(Kind::Failed, message)
    }

    /// The command line or the configuration is wrong.
    pub(crate) fn usage(message: impl Display) -> Self {
        Self::new(Kind::Usage, message)
    }

    /// A data, model or checkpoint file is wrong.
    pub(crate) fn data(message: impl Display) -> Self {
        Self::new(Kind::Data, message)
    }

    /// The machine lacks something.
    pub(crate) fn machine(message: impl Display) -> Self {
        Self::new(Kind::Machine, message)
    }

    /// Stopped early, with a checkpoint to go on from.
    pub(crate) fn stopped(message: impl Display) -> Self {
        Self::new(Kind::Stopped, message)
    }

    /// Adds what to do next.
    pub(crate) fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }

    /// Whether ranks lost each other: then the newest collectives are worth a look.
    pub(crate) fn is_of_a_collective(&self) -> bool {
        self.of_a_collective
    }

    /// Whether somebody asked for it, so that nothing went wrong.
    pub(crate) fn is_stop(&self) -> bool {
        matches!(self.kind, Kind::Stopped)
    }

    /// An error of a step that is split over ranks.
    pub(crate) fn parallel(error: ParallelError) -> Self {
        match error {
            ParallelError::Collective(error) => Self::collective(error),
            ParallelError::Model(error) => Self::model(error),
            error @ (ParallelError::Mesh(_) | ParallelError::Stages { .. } | ParallelError::Tensor { .. }) => Self::usage(error),
            error @ ParallelError::Source { .. } => Self::data(error),
            error => Self::failed(error),
        }
    }

    /// A model's own error: files are to blame for shapes and types, the run for the rest.
    pub(crate) fn model(error: ModelError) -> Self {
        match error {
            ModelError::ContextFull { .. }
            | ModelError::Batch { .. }
            | ModelError::Torch(_)
            | ModelError::Part
            | ModelError::Seam(_) => Self::failed(error),
            ModelError::Cuda { .. } => Self::machine(error),
            other => Self::data(other).help("sirocco model verify DIR checks every tensor of a model"),
        }
    }

    /// A file's error.
    pub(crate) fn file(error: CheckpointError) -> Self {
        let failure = match error.class() {
            ErrorClass::File => Self::data(&error),
            ErrorClass::Running => Self::failed(&error),
            ErrorClass::Usage => Self::usage(&error),
        };
        match error {
            CheckpointError::DiskFull { .. } => failure.help("free some space and try again; what was published before is whole"),
            CheckpointError::BadLatest { path, good, .. } => failure.help(other_checkpoint(&path, good)),
            CheckpointError::Occupied { .. } => failure.help("choose a directory that does not exist yet"),
            _ => failure,
        }
    }

    /// A checkpoint that was made of something else than the run is made of now.
    pub(crate) fn origin(error: &OtherOrigin) -> Self {
        let failure = if error.is_typed() { Self::usage(error) } else { Self::data(error) };
        failure.help(error.advice())
    }

    /// What the policy refused, or a key, a signature or a ledger that is not as it has to be. `run` is the run's directory.
    pub(crate) fn custody(error: CustodyError, run: &Path) -> Self {
        let run_file = shell_word(&run.join("run.toml").to_string_lossy());
        let kind = match error.class() {
            Class::Policy => Kind::Policy,
            Class::Usage => Kind::Usage,
            Class::File => Kind::Data,
            Class::Machine => Kind::Machine,
            Class::Running => Kind::Failed,
        };
        let help = match &error {
            CustodyError::Refused(decision) => return Self::refused(decision, run),
            CustodyError::NoSet { .. } | CustodyError::Set { .. } => format!("policy.set in {run_file} names the rules"),
            CustodyError::NotTaken { why: NotTaken::Other { .. }, .. } => {
                format!("policy.set in {run_file} has to name the set that is demanded")
            }
            CustodyError::NotTaken { .. } => {
                "whoever answers for the rules signs them: sirocco policy sign DIR --key KEY".to_owned()
            }
            CustodyError::SetChanged { .. } => "put the files back that were signed, or have the set signed again".to_owned(),
            CustodyError::OtherKey { .. } | CustodyError::KeysGone { .. } => format!(
                "a ledger has one key for ever: put back the keys that sealed it (policy.keys in {run_file} names them), or give --dir a new directory"
            ),
            CustodyError::OtherRules { .. } => {
                "put it back as it was: a run keeps the rules that it began with; under others, begin a new one".to_owned()
            }
            CustodyError::OtherBase { .. } => {
                "put them back as they were: the tokenizer and the settings beside the weights go into a whole model, too"
                    .to_owned()
            }
            CustodyError::NotBelieved { keys, .. } => {
                format!("copy {}/release.pub there, with the role \"checkpoint\" if there is a roles.json", keys.display())
            }
            CustodyError::Signing(_) if kind == Kind::Usage => {
                format!("policy.keys and policy.trust in {run_file} say where keys are; put back the one that is missing")
            }
            CustodyError::Signing(_) if kind == Kind::Data => "use a copy that is as it was when it was signed".to_owned(),
            _ => return Self::new(kind, error),
        };
        Self::new(kind, error).help(help)
    }

    fn refused(decision: &Decision, run: &Path) -> Self {
        let (word, action) = (shell_word(&run.to_string_lossy()), decision.action);
        let advice = decision.to_heed().filter_map(|rule| rule.advice.clone());
        let explain = format!("sirocco policy explain {word} --action {action} says which rules and facts");
        let help: Vec<String> = advice.chain([explain]).collect();
        let unanswered: String = decision.unanswered.iter().map(|rule| format!("; rule {} lacks a fact", rule.id)).collect();
        Self::new(Kind::Policy, format_args!("{decision}{unanswered}")).help(help.join(" "))
    }

    /// A collective's error.
    pub(crate) fn collective(error: CommError) -> Self {
        match error {
            CommError::Start { .. } => Self::new(Kind::Machine, error).help("sirocco doctor says what MPI this machine has"),
            // What a rank lacks, not ranks that lost each other.
            error if sirocco_comm::nccl::is_of_joining(&error) => Self::machine(error)
                .help("sirocco doctor says what this machine has; NCCL (libnccl.so.2) must be on LD_LIBRARY_PATH"),
            other => Self { of_a_collective: true, ..Self::failed(other) },
        }
    }

    /// What a rank tells the others of its failure.
    pub(crate) fn told(&self) -> Value {
        json!({"exit_code": self.kind as u8, "message": self.message, "help": self.help})
    }

    /// The failure of another rank as that one has told it: of the same kind, with the same advice, so that it does not matter
    /// which rank a person hears of first.
    pub(crate) fn of_another(told: &Value, who: &str) -> Self {
        let kind = Kind::ALL.into_iter().find(|kind| told["exit_code"] == *kind as u8).unwrap_or(Kind::Failed);
        let failure = Self::new(kind, format_args!("{who}: {}", told["message"].as_str().unwrap_or_default()));
        Self { help: told["help"].as_str().map(str::to_owned), ..failure }
    }

    /// Whether a file is to blame, and so whoever made it.
    pub(crate) fn is_of_a_file(&self) -> bool {
        self.kind == Kind::Data
    }

    /// What goes into a log.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }
}

/// Prints a failure on standard error, in the form of all programs. A stop on request is none.
pub(crate) fn tell(failure: &Failure) {
    let error = if failure.is_stop() { "" } else { "error: " };
    let mut text = format!("{error}{}\n", failure.message);
    if let Some(help) = &failure.help {
        text.push_str(&format!("help: {help}\n"));
    }
    // Nobody is left to tell if standard error is closed.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// The exit code of a job; a failure is told as JSON, too, where that is wanted.
pub(crate) fn exit_code(outcome: Result<(), Failure>, json: bool) -> ExitCode {
    let Err(failure) = outcome else { return ExitCode::SUCCESS };
    let code = failure.kind as u8;
    if json {
        let error = json!({"kind": failure.kind.name(), "message": failure.message, "help": failure.help, "exit_code": code});
        print_line(&json!({ "error": error }).to_string());
    }
    ExitCode::from(code)
}

/// One line on standard output. A reader that has gone away is its own business.
pub(crate) fn print_line(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_that_another_rank_has_told_is_of_the_same_kind() {
        for kind in Kind::ALL {
            let failure = Failure::new(kind, "a.safetensors: altered").help("put it back");
            let heard = Failure::of_another(&failure.told(), "rank 1 could not read");
            assert_eq!((heard.kind as u8, heard.help.as_deref()), (kind as u8, Some("put it back")));
            assert_eq!(heard.message, "rank 1 could not read: a.safetensors: altered");
        }
    }
}
