//! What can be wrong with a site file.
use std::io;
use std::path::PathBuf;

use sirocco_config::Place;
use thiserror::Error;

/// A fault in a site file. Each variant names the place, what was found and what was expected.
#[derive(Debug, Error)]
pub enum SiteError {
    /// The file cannot be read.
    #[error("{}: cannot read the site file: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The text is not TOML.
    #[error("{at}: not valid TOML: {message}")]
    Syntax {
        /// The line.
        at: Place,
        /// What the parser said.
        message: String,
    },
    /// A section or a key that does not exist.
    #[error("{at}: unknown {setting}{}", did_you_mean(nearest, valid))]
    Unknown {
        /// Where.
        at: Place,
        /// As typed, with its section.
        setting: String,
        /// The nearest valid name, if one is near.
        nearest: Option<String>,
        /// Every valid name there.
        valid: String,
    },
    /// A value of the wrong type or form.
    #[error("{at}: {setting} = {found}: expected {expected}")]
    Value {
        /// Where.
        at: Place,
        /// Section and key.
        setting: String,
        /// The value as TOML.
        found: String,
        /// What it has to be.
        expected: String,
    },
    /// A section or key without which the file says nothing.
    #[error("{at}: {setting} is missing: expected {expected}")]
    Missing {
        /// The section that lacks it, or the file.
        at: Place,
        /// Section and key.
        setting: String,
        /// What it has to be.
        expected: String,
    },
    /// A source that no group of facts names.
    #[error("{at}: no facts name the source {source_name}: expected every source to be the source of something")]
    UnusedSource {
        /// Where.
        at: Place,
        /// Its name.
        source_name: String,
    },
}

/// The end of a message about an unknown name.
fn did_you_mean(nearest: &Option<String>, valid: &str) -> String {
    match nearest {
        Some(name) => format!("; did you mean {name}?"),
        None => format!("; here stand {valid}"),
    }
}
