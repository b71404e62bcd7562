//! What can end the program: in words, with advice and an exit code.

use std::collections::BTreeSet;
use std::io::Write;

use serde_json::json;
use sirocco_confine::witness::NotConfined;
use sirocco_custody::{Class, CustodyError};
use sirocco_model::ModelError;
use sirocco_policy::{Decision, RuleRef};
use sirocco_signing::Error as SigningError;

use crate::engine::EngineError;

/// Why the server could not start or ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// `--listen` is not an address.
    #[error("--listen: found {found:?}, expected HOST:PORT: {source}")]
    Address {
        /// What was given.
        found: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The address cannot be used.
    #[error("--listen: {address}: {source}")]
    Listen {
        /// The address.
        address: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// Two models have one name, or the name cannot be used in a request.
    #[error("model name: found {found:?} {problem}")]
    Name {
        /// The name.
        found: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The tokenizer or its chat template is wrong.
    #[error(transparent)]
    Tokens(#[from] sirocco_tokens::TokensError),
    /// A model, an adapter or the computation.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The policy said no.
    #[error("{0}{open}", open = unanswered(.0))]
    Refused(Box<Decision>),
    /// Rules or facts are not there, not right, or not what this machine takes.
    #[error("--policy: {0}")]
    Rules(CustodyError),
    /// The keys that are believed.
    #[error("--trust: {0}")]
    Trust(CustodyError),
    /// A model or adapter is not what was signed.
    #[error(transparent)]
    Artefact(CustodyError),
    /// The account's own keys or ledger.
    #[error("{0}")]
    Account(CustodyError),
    /// Nothing says where the account's files are.
    #[error("found neither {variable} nor HOME, expected an absolute path in one of them: {what} must lie somewhere")]
    NoHome {
        /// What is kept there.
        what: &'static str,
        /// The variable.
        variable: &'static str,
    },
    /// The system refused a thread, a signal handler or the like.
    #[error("{what}: {source}")]
    System {
        /// What was attempted.
        what: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// It cannot be kept from the network as demanded.
    #[error("{0}; nothing was started")]
    NotConfined(#[from] NotConfined),
    /// The engine's thread panicked.
    #[error("the engine has stopped")]
    EngineEnded,
    /// A second signal came while requests were finishing.
    #[error("a second signal ended the server before its requests were finished")]
    Interrupted,
}

impl Failure {
    /// The exit code, as the documents list them.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Failure::Refused(_) => 3,
            Failure::Rules(error) | Failure::Trust(error) | Failure::Artefact(error) | Failure::Account(error) => {
                of_custody(error)
            }
            Failure::Address { .. } | Failure::Name { .. } => 2,
            Failure::Engine(EngineError::Logits(_) | EngineError::Load { source: ModelError::Torch(_), .. }) => 1,
            Failure::Tokens(_) | Failure::Engine(_) => 4,
            Failure::Listen { .. } | Failure::System { .. } | Failure::NoHome { .. } | Failure::NotConfined(_) => 5,
            Failure::EngineEnded | Failure::Interrupted => 1,
        }
    }

    fn kind(&self) -> &'static str {
        match self.exit_code() {
            2 => "usage",
            3 => "policy",
            4 => "input",
            5 => "machine",
            _ => "failed",
        }
    }

    fn help(&self) -> Option<String> {
        let help = match self {
            Failure::Refused(decision) => return Some(advice(decision)),
            Failure::Artefact(error) => signature_advice(error),
            Failure::Rules(_) => "`sirocco policy test SET` says what a set of rules and facts answers",
            Failure::Trust(_) => {
                "name a directory with the public keys that are believed, and a roles.json that says what each is for"
            }
            Failure::Account(CustodyError::OtherKey { .. }) => {
                "bring back the keys that sealed it, or name another place with XDG_STATE_HOME: a ledger has one key for ever"
            }
            Failure::Account(_) | Failure::NoHome { .. } => {
                "XDG_CONFIG_HOME and XDG_STATE_HOME, or else HOME, say where keys and ledger are; both must be this account's own"
            }
            Failure::Address { .. } => "give an address such as --listen 127.0.0.1:8000",
            Failure::Listen { .. } => "choose another address with --listen HOST:PORT; port 0 takes a free one",
            Failure::Name { .. } => "give the models distinct names with --name NAME and --adapter NAME=DIR",
            Failure::Tokens(_) | Failure::Engine(_) => {
                "`sirocco model inspect DIR` shows what a model directory holds; `sirocco export` writes adapters"
            }
            Failure::NotConfined(_) => {
                "sirocco doctor says what this machine has; docs/confinement.md says what each level needs"
            }
            Failure::EngineEnded => "the log above says why; please report it",
            Failure::System { .. } | Failure::Interrupted => return None,
        };
        Some(help.to_owned())
    }

    /// Prints the error on standard error, with `as_json` on standard output too, and gives the exit code.
    pub(crate) fn report(&self, as_json: bool) -> u8 {
        report(self.kind(), &self.to_string(), self.help().as_deref(), self.exit_code(), as_json)
    }
}

/// Nothing was served yet: what fails while running elsewhere is something that this machine does not let it do.
fn of_custody(error: &CustodyError) -> u8 {
    match error.class() {
        Class::Policy => 3,
        Class::Usage => 2,
        Class::File => 4,
        Class::Machine | Class::Running => 5,
    }
}

/// Rules that could not be evaluated refuse, too; a decision's own words leave them out.
fn unanswered(decision: &Decision) -> String {
    let rules: Vec<String> = decision.unanswered.iter().map(|rule| format!("rule {}", rule.id)).collect();
    if rules.is_empty() { String::new() } else { format!(", which leaves open: {}", rules.join(", ")) }
}

/// What the rules advise, each once.
fn advice(decision: &Decision) -> String {
    let said = |rule: &RuleRef| rule.advice.clone();
    let mut lines: Vec<String> = decision.to_heed().filter_map(said).collect();
    let mut seen = BTreeSet::new();
    lines.retain(|line| seen.insert(line.clone()));
    lines
        .push("`sirocco policy explain RUN.toml`, with the run that it was made by, says which facts would change it".to_owned());
    lines.join(" ")
}

fn signature_advice(error: &CustodyError) -> &'static str {
    match error {
        CustodyError::Signing(SigningError::UnknownKey { .. } | SigningError::BadTrust { .. }) => {
            "if you believe who signed it: put the public key into a directory of its own with a roles.json that gives it the role release or \
             import, and name the directory with --trust"
        }
        CustodyError::Signing(SigningError::Unsigned { .. }) => {
            "its signature is lost: get the whole directory again from where it was made"
        }
        _ => "it is not what was signed: get the directory again from where it was made",
    }
}

/// Prints an error in the form that all programs share, and gives its exit code. When even that fails there is nobody to tell.
pub(crate) fn report(kind: &str, message: &str, help: Option<&str>, exit_code: u8, as_json: bool) -> u8 {
    let mut stderr = std::io::stderr().lock();
    let _ = writeln!(stderr, "error: {message}");
    if let Some(help) = help {
        let _ = writeln!(stderr, "help: {help}");
    }
    if as_json {
        let error = json!({"error": {"kind": kind, "message": message, "help": help, "exit_code": exit_code}});
        let _ = writeln!(std::io::stdout(), "{error}");
    }
    exit_code
}
