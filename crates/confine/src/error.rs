//! Why a process was not confined as demanded, and what would be possible.

use std::io;
use std::path::PathBuf;

use crate::level::{Gap, Level};

/// Nothing, or not all, of what was demanded is in force: the process must not go on to the work that was to be confined. It may
/// be more confined than before, and never less.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// What was reached is below what was demanded.
    #[error("confinement at level {demanded} is demanded and {possible} is possible: {because}")]
    Unreachable {
        /// What was demanded.
        demanded: Level,
        /// The level that the process has reached, and so the highest here.
        possible: Level,
        /// What stands in the way of the next one.
        because: String,
    },
    /// What is to be allowed cannot be had below a level that was not reached.
    #[error("\"{allowed}\" needs level {needs} and {possible} is possible: {because}")]
    Impossible {
        /// The name of what is to be allowed.
        allowed: &'static str,
        /// The level that it needs.
        needs: Level,
        /// The level that the process has reached, and so the highest here.
        possible: Level,
        /// What stands in the way.
        because: String,
    },
    /// The demand contradicts itself. Nothing was done.
    #[error("a demand for at least level {least} that ends at {most}")]
    Contradiction {
        /// The lowest level that will do.
        least: Level,
        /// The highest level to go to.
        most: Level,
    },
    /// Variables that lead out were there when the program started. Nothing was done.
    #[error("variables that lead out are set: {}; the program is to be started without them", names.join(", "))]
    Variables {
        /// Their names, in their order.
        names: Vec<String>,
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
    #[error("file descriptor {descriptor} is {what}, open before the confinement and not part of what is allowed")]
    Inherited {
        /// Its number.
        descriptor: i32,
        /// What it is.
        what: String,
    },
    /// No open listener has the port that is allowed.
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
    /// A path of the demand may not be written.
    #[error("{} cannot be writable: it is {what}", path.display())]
    Writable {
        /// The path, every link followed.
        path: PathBuf,
        /// What it is.
        what: String,
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
