//! Why a process was not confined as demanded, and what would be possible.

use std::io;
use std::path::PathBuf;

use crate::level::{Gap, Level};

/// Nothing, or not all, of what was demanded is in force: the process must not go on to the work that was to be confined. It may
/// be more confined than before, and never less.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// The demanded rung is above what this kernel, this user and this wish reach.
    #[error("confinement at level {} is demanded and {} is possible: {because}", demanded.name(), possible.name())]
    Unreachable {
        /// What was demanded.
        demanded: Level,
        /// The highest rung that can be reached here.
        possible: Level,
        /// What stands in the way.
        because: String,
    },
    /// The wish cannot be had below a rung that is out of reach.
    #[error("\"{wish}\" needs level {} and {} is possible: {because}", needs.name(), possible.name())]
    Impossible {
        /// The wish's name.
        wish: &'static str,
        /// The rung that it needs.
        needs: Level,
        /// The highest rung that can be reached here.
        possible: Level,
        /// What stands in the way.
        because: String,
    },
    /// Something stays open that the demand does not tolerate.
    #[error("what is demanded would leave open: {}", names(left))]
    Open {
        /// What stays open.
        left: Vec<Gap>,
    },
    /// Filters and namespaces are of a thread; there must be no second one.
    #[error("the process has {found} threads; confinement is applied while there is one")]
    Threads {
        /// How many there are.
        found: usize,
    },
    /// An open file would lead out past everything that is closed.
    #[error("file descriptor {descriptor} is {what}, open before the confinement and not part of the wish")]
    Inherited {
        /// Its number.
        descriptor: i32,
        /// What it is.
        what: String,
    },
    /// No open listener has the port of the wish.
    #[error("no listener is open on TCP port {port}; it is opened before the confinement")]
    NoListener {
        /// The port.
        port: u16,
    },
    /// A path of the demand cannot be opened.
    #[error("{}: {message}", path.display())]
    Path {
        /// The path.
        path: PathBuf,
        /// What the system said.
        message: String,
    },
    /// The kernel was asked and says that something is not in force that was applied.
    #[error("{what} was applied and is not in force: found {found}")]
    NotInForce {
        /// What.
        what: &'static str,
        /// What /proc says.
        found: String,
    },
    /// A system call of the confinement itself failed.
    #[error("{step}: {source}")]
    System {
        /// What was being done.
        step: &'static str,
        /// The system's error.
        source: io::Error,
    },
    /// A filter could not be made or installed.
    #[error("seccomp: {0}")]
    Seccomp(#[from] seccompiler::Error),
    /// Landlock refused a rule.
    #[error("Landlock: {0}")]
    Landlock(#[from] landlock::RulesetError),
}

impl Refused {
    pub(crate) fn at(step: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { step, source }
    }
}

fn names(gaps: &[Gap]) -> String {
    gaps.iter().map(|gap| gap.name()).collect::<Vec<_>>().join(", ")
}
