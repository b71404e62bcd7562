//! The one place where an error becomes words, advice, an exit code and, with `--json`, an object.
use std::fmt::Display;
use std::io::ErrorKind;

use serde_json::json;
use sirocco_checkpoint::CheckpointError;
use sirocco_config::{ConfigError, OtherOrigin, other_checkpoint};
use sirocco_corpus::CorpusError;
use sirocco_site::SiteError;

use crate::output;

/// An exit code and the word for it in `{"error":{"kind":…}}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// No failure: whoever read standard output has left (`| head`), so there is nothing more to do.
    Unread = 0,
    /// Failed while running.
    Failed = 1,
    /// The command line or the configuration is wrong.
    Usage = 2,
    /// A policy refused.
    Policy = 3,
    /// A data, model or checkpoint file is wrong.
    Input = 4,
    /// The machine lacks something.
    Machine = 5,
    /// Stopped on request; the same command goes on or starts over.
    Stopped = 75,
}

impl Kind {
    /// The kind of an exit code of another program of ours; anything unknown failed while running.
    pub(crate) fn of_code(code: i32) -> Kind {
        match code {
            2 => Kind::Usage,
            3 => Kind::Policy,
            4 => Kind::Input,
            5 => Kind::Machine,
            _ => Kind::Failed,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Kind::Unread => "unread",
            Kind::Failed => "failed",
            Kind::Usage => "usage",
            Kind::Policy => "policy",
            Kind::Input => "input",
            Kind::Machine => "machine",
            Kind::Stopped => "stopped",
        }
    }
}

/// An error ready to be shown.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) kind: Kind,
    /// What and where: found …, expected ….
    pub(crate) message: String,
    /// What to do next.
    pub(crate) help: Option<String>,
}

impl Failure {
    pub(crate) fn new(kind: Kind, message: impl Display) -> Failure {
        Failure { kind, message: message.to_string(), help: None }
    }

    pub(crate) fn usage(message: impl Display) -> Failure {
        Failure::new(Kind::Usage, message)
    }

    pub(crate) fn help(mut self, help: impl Display) -> Failure {
        self.help = Some(help.to_string());
        self
    }

    /// For a command whose exit code says more than that nobody read its output.
    pub(crate) fn unless_unread(self) -> Result<(), Failure> {
        if self.kind == Kind::Unread { Ok(()) } else { Err(self) }
    }

    /// Prints the error in our form, and as an object on standard output if `as_json`. Returns the exit code.
    pub(crate) fn show(&self, as_json: bool) -> u8 {
        if self.kind == Kind::Unread {
            return self.kind as u8;
        }
        // Who asks for a stop and gets one has met no error.
        let error = if self.kind == Kind::Stopped { "" } else { "error: " };
        output::say(format_args!("{error}{}", self.message));
        if let Some(help) = &self.help {
            output::say(format_args!("help: {help}"));
        }
        if as_json {
            self.print_json();
        }
        self.kind as u8
    }

    /// Prints the object alone, for an error whose words were printed already.
    pub(crate) fn print_json(&self) {
        let error = json!({
            "kind": self.kind.word(), "message": self.message, "help": self.help, "exit_code": self.kind as u8,
        });
        // What could be done about a standard output that is gone has been done: standard error has the same words.
        let _ = output::json(&json!({ "error": error }));
    }
}

impl Failure {
    /// A fault in the settings of a run that would be resumed: the advice proposes nothing that was settled when it began.
    pub(crate) fn on_resuming(error: ConfigError) -> Failure {
        let advice = match &error {
            ConfigError::GlobalBatch { global_batch, .. } => format!(
                "global_batch was settled when the run began: choose parallel.dp, parallel.fsdp and train.micro_batch so that their \
                 product divides {global_batch}"
            ),
            ConfigError::Warmup { warmup_steps, .. } => {
                format!("warmup_steps was settled when the run began: let the run have more than {warmup_steps} steps")
            }
            _ => return Failure::from(error),
        };
        Failure::from(error).help(advice)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Failure {
        let failure = Failure::usage(&error);
        match advice(&error) {
            Some(advice) => failure.help(advice),
            None => failure,
        }
    }
}

impl From<SiteError> for Failure {
    fn from(error: SiteError) -> Failure {
        let help = match &error {
            SiteError::Read { .. } => "sirocco site list names the sites that have a profile",
            _ => "sirocco site show meluxina shows a whole profile; configs/sites/slurm.toml is one to start from",
        };
        Failure::usage(error).help(help)
    }
}

impl From<OtherOrigin> for Failure {
    fn from(error: OtherOrigin) -> Failure {
        let kind = if error.is_typed() { Kind::Usage } else { Kind::Input };
        Failure::new(kind, &error).help(error.advice())
    }
}

impl From<CorpusError> for Failure {
    fn from(error: CorpusError) -> Failure {
        let kind = match &error {
            CorpusError::Spec { .. } | CorpusError::OutputTaken { .. } => Kind::Usage,
            CorpusError::Io { action, .. } if *action == "write" => Kind::Failed,
            _ => Kind::Input,
        };
        let help = match &error {
            CorpusError::Bad(_) => "correct the record, or set on_bad = \"skip\": such records are then counted and named",
            CorpusError::Digest { .. } => "fetch the file again, or correct its sha256 in the specification",
            CorpusError::OutputTaken { .. } => "name another output directory in the specification",
            CorpusError::UnknownExtension { .. } => "rename the file after what it holds",
            CorpusError::Io { source, .. } if source.kind() == ErrorKind::NotFound => {
                "relative paths start where the command is typed; sirocco data prepare SPEC.toml makes data files from their sources"
            }
            _ => return Failure::new(kind, error),
        };
        Failure::new(kind, error).help(help)
    }
}

impl From<CheckpointError> for Failure {
    fn from(error: CheckpointError) -> Failure {
        let kind = match &error {
            CheckpointError::Occupied { .. } => Kind::Usage,
            CheckpointError::DiskFull { .. } | CheckpointError::Misuse { .. } => Kind::Failed,
            CheckpointError::Io { action, .. } if *action != "read" && *action != "open" => Kind::Failed,
            _ => Kind::Input,
        };
        let help = match &error {
            CheckpointError::Occupied { .. } => "name a directory that does not exist yet",
            CheckpointError::DiskFull { .. } => "free some space, then type the same command again",
            CheckpointError::Malformed { .. } | CheckpointError::Altered { .. } => "fetch or convert the file again",
            CheckpointError::BadLatest { good, path, .. } => {
                return Failure::new(kind, &error).help(other_checkpoint(path, *good));
            }
            _ => return Failure::new(kind, error),
        };
        Failure::new(kind, error).help(help)
    }
}

fn advice(error: &ConfigError) -> Option<String> {
    Some(match error {
        ConfigError::Read { .. } => "sirocco init DIR writes a commented run file to start from".to_owned(),
        ConfigError::UnknownSetting { .. } | ConfigError::UnknownSection { .. } => {
            "sirocco init DIR writes a run file with every setting and what it means".to_owned()
        }
        ConfigError::GlobalBatch { global_batch, dp, fsdp, micro_batch, .. } => {
            let nearest = global_batch.next_multiple_of(dp * fsdp * micro_batch);
            format!("set train.global_batch={nearest}, or choose a dp × fsdp × micro_batch that divides {global_batch}")
        }
        ConfigError::RanksForMesh { pp, fsdp, tp, ranks, .. } => {
            let nearest = ranks.next_multiple_of(pp * fsdp * tp);
            format!("--ranks {nearest}, or set parallel.fsdp, parallel.tp and parallel.pp so that they divide {ranks}")
        }
        ConfigError::SetTwice { .. } => {
            "with --ranks, dp is what the other axes leave of the ranks: remove one of them".to_owned()
        }
        ConfigError::TensorAxis { .. } => "choose one of these for parallel.tp; dp and fsdp can take the other ranks".to_owned(),
        ConfigError::PipelineAxis { layers, .. } => {
            format!("set parallel.pp={layers} or less; dp and fsdp can take the other ranks")
        }
        ConfigError::FixedAtStart { .. } => {
            format!(
                "start a new run under another name to change it; of this one {} may change",
                sirocco_config::free_on_resume()
            )
        }
        ConfigError::Warmup { .. } => "lower train.warmup_steps or make the run longer".to_owned(),
        ConfigError::TwoLengths { .. } => "remove one of them".to_owned(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use sirocco_config::RunFile;
    use std::path::Path;

    #[test]
    fn exit_codes_follow_the_class() {
        let least = "name = 'x'\nmodel.path = 'm'\ndata.train = ['a']\ntrain.steps = 10\n";
        let kind = |set: &str| {
            let mut file = RunFile::parse(least, Path::new("run.toml")).unwrap();
            file.set(set).unwrap();
            Failure::from(file.check(Path::new("/")).unwrap_err()).kind
        };
        assert_eq!(kind("train.steps=0"), Kind::Usage);
    }

    #[test]
    fn codes_of_other_programs_keep_their_kind() {
        assert_eq!([2, 3, 4, 5, 101].map(Kind::of_code), [Kind::Usage, Kind::Policy, Kind::Input, Kind::Machine, Kind::Failed]);
    }
}
