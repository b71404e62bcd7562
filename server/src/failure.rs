//! What can end the program: in words, with advice and an exit code.

use std::io::Write;

use serde_json::json;
use sirocco_confine::witness::NotConfined;
use sirocco_model::ModelError;

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
            Failure::Address { .. } | Failure::Name { .. } => 2,
            Failure::Engine(EngineError::Logits(_) | EngineError::Load { source: ModelError::Torch(_), .. }) => 1,
            Failure::Tokens(_) | Failure::Engine(_) => 4,
            Failure::Listen { .. } | Failure::System { .. } | Failure::NotConfined(_) => 5,
            Failure::EngineEnded | Failure::Interrupted => 1,
        }
    }

    fn kind(&self) -> &'static str {
        match self.exit_code() {
            2 => "usage",
            4 => "input",
            5 => "machine",
            _ => "failed",
        }
    }

    fn help(&self) -> Option<&'static str> {
        match self {
            Failure::Address { .. } => Some("give an address such as --listen 127.0.0.1:8000"),
            Failure::Listen { .. } => Some("choose another address with --listen HOST:PORT; port 0 takes a free one"),
            Failure::Name { .. } => Some("give the models distinct names with --name NAME and --adapter NAME=DIR"),
            Failure::Tokens(_) | Failure::Engine(_) => {
                Some("`sirocco model inspect DIR` shows what a model directory holds; `sirocco export` writes adapters")
            }
            Failure::NotConfined(_) => {
                Some("sirocco doctor says what this machine has; docs/confinement.md says what each level needs")
            }
            Failure::EngineEnded => Some("the log above says why; please report it"),
            Failure::System { .. } | Failure::Interrupted => None,
        }
    }

    /// Prints the error on standard error, with `as_json` on standard output too, and gives the exit code.
    pub(crate) fn report(&self, as_json: bool) -> u8 {
        report(self.kind(), &self.to_string(), self.help(), self.exit_code(), as_json)
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
