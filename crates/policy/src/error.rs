//! What can be wrong with rules, facts and cases.

use thiserror::Error;

use crate::name::Name;
use crate::source::Place;

/// A fault in a policy directory or in a request. Each variant names the place, what was found and what was expected.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PolicyError {
    /// A rule that is not Cedar.
    #[error("{at}: not a Cedar policy: {message}{}", expected.as_ref().map_or(String::new(), |words| format!("; {words}")))]
    Syntax {
        /// Where.
        at: Place,
        /// What Cedar's parser said.
        message: String,
        /// What it expected there, if it said so.
        expected: Option<String>,
    },
    /// A rule that contradicts the schema, or that can never apply.
    #[error("{at}: rule \"{rule}\" does not fit the schema: {message}{}", help.as_ref().map_or(String::new(), |words| format!("; {words}")))]
    Schema {
        /// Where.
        at: Place,
        /// The rule's `@id`.
        rule: String,
        /// What Cedar's validator said.
        message: String,
        /// What it advised, if it did.
        help: Option<String>,
    },
    /// A rule without a name.
    #[error(
        "{at}: this rule has no @id: expected @id(\"a-name\") before permit or forbid, because decisions are reported by that name"
    )]
    NoId {
        /// Where the rule begins.
        at: Place,
    },
    /// Two rules with one name.
    #[error("{at}: the @id \"{rule}\" is already that of the rule at {first}: expected a name of its own for every rule")]
    DuplicateId {
        /// The second rule.
        at: Place,
        /// The name.
        rule: String,
        /// The first rule.
        first: Place,
    },
    /// A rule written in a way that this gate does not take.
    #[error("{at}: rule \"{rule}\": {found}: expected {expected}")]
    Form {
        /// Where the rule begins.
        at: Place,
        /// The rule's `@id`.
        rule: String,
        /// What is there.
        found: String,
        /// What has to be there.
        expected: String,
    },
    /// A policy directory without a rule: everything would be refused, and no rule could be named.
    #[error("{file}: no rule in it: expected at least one permit")]
    NoRules {
        /// The file, or the list of files.
        file: String,
    },
    /// Facts or cases that are not TOML, or not of the form that is expected.
    #[error("{at}: {message}")]
    Toml {
        /// Where.
        at: Place,
        /// What was found and what was expected.
        message: String,
    },
    /// The same thing described twice.
    #[error("{file}: {name} is already described in {first}: expected one description of each")]
    DescribedTwice {
        /// The second file.
        file: String,
        /// Kind and name.
        name: String,
        /// The first file.
        first: String,
    },
    /// An artefact that comes from itself.
    #[error("{name} is made from itself: {}: expected a lineage that ends in data sources and models", chain(path))]
    Circle {
        /// The artefact.
        name: Name,
        /// How it comes back to itself.
        path: Vec<Name>,
    },
    /// A lineage or an artefact that the action does not take.
    #[error("{what}: found {found}; expected {expected}")]
    Request {
        /// The part of the request.
        what: String,
        /// What is there.
        found: String,
        /// What has to be there.
        expected: String,
    },
    /// The embedded schema is not what the code expects; a fault of this program, never of its input.
    #[error("the schema of this program is broken: {message}")]
    Broken {
        /// What Cedar said.
        message: String,
    },
}

fn chain(path: &[Name]) -> String {
    path.iter().map(Name::to_string).collect::<Vec<_>>().join(" from ")
}
