//! A program that confines itself and has that measured: the witness stays outside for as long as that takes, with the listeners.
//!
//! ```text
//!  program ──starts──► witness        opens listeners, has a helper show that they can be reached
//!     ◄── the plan ──────┤            over a pipe
//!  apply, attempts       │
//!     ── what they met ──►            over another
//!     ◄── the report ────┘            and ends
//! ```
//!
//! [`confined`] is the program's side, [`testify`] that of the witness, which is the same program called in another way. The pipes
//! end with the witness, and nothing of it stays.

use std::fs::DirBuilder;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::apply::{Demand, apply, network};
use crate::canary::{Canary, CanaryError, Finding, Inside, Plan, Report};
use crate::child::{ChildError, Helper};
use crate::environment;
use crate::error::Refused;
use crate::level::Level;

/// No message is longer, in bytes: a report has some hundred for each attempt.
const LONGEST: u64 = 4 << 20;

/// A measurement that held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measured {
    /// The level that is in force.
    pub level: Level,
    /// Everything that was attempted.
    pub report: Report,
    /// The network outside, as [`network`] names it.
    pub outside: String,
}

/// Why a process is not confined, or not known to be: it must not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotConfined {
    /// The demand cannot be met.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// Nothing was measured.
    #[error("the confinement cannot be measured: {0}")]
    NotMeasured(#[from] CanaryError),
    /// It was measured, and does not hold.
    #[error("the confinement does not hold: {0}")]
    Open(String),
}

/// What the witness says.
#[derive(Debug, Serialize, Deserialize)]
enum Word {
    Plan(Vec<Plan>),
    Report(Box<Report>),
    Failed(String),
}

/// Confines the calling process as demanded, and has measured that it holds. `witness` is how the program is called to
/// [`testify`]. The process has one thread.
///
/// # Errors
/// When the process is not confined as demanded, or something got through that the gaps of its level do not speak of.
pub fn confined(demand: &Demand, witness: &Helper) -> Result<Measured, NotConfined> {
    let outside = network().map_err(Refused::at("reading /proc/self/ns/net"))?;
    let mut witness = Witness::start(witness)?;
    let plan = match witness.heard()? {
        Word::Plan(plan) => plan,
        other => return Err(unexpected(other).into()),
    };
    let applied = apply(demand)?;
    let level = applied.level;
    witness.tell(&Inside::attempts(&plan, Some(applied)))?;
    let report = match witness.heard()? {
        Word::Report(report) => *report,
        other => return Err(unexpected(other).into()),
    };
    expect_holding(&report)?;
    Ok(Measured { level, report, outside })
}

/// The witness: measures whoever is at the other end of the two pipes. `helper` is how the program is called to
/// [`crate::child::serve`]; the listeners lie in a directory that is made in `within` and removed.
///
/// # Errors
/// When the pipes break.
pub fn testify(helper: &Helper, within: &Path, input: impl BufRead, mut output: impl Write) -> Result<(), ChildError> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.subsec_nanos());
    let directory = within.join(format!("sirocco-canary-{}-{since}", std::process::id()));
    DirBuilder::new().mode(0o700).create(&directory)?;
    let told = measure(helper, &directory, input, &mut output);
    let removed = std::fs::remove_dir_all(&directory);
    if let Err(error) = told {
        output.write_all(&line(&Word::Failed(error.to_string()))?)?;
    }
    Ok(removed?)
}

fn measure(helper: &Helper, directory: &Path, input: impl BufRead, output: &mut impl Write) -> Result<(), CanaryError> {
    let mut canary = Canary::open(helper, directory)?;
    let plan = canary.plan();
    say(output, &Word::Plan(plan.clone()))?;
    let Some(inside) = heard::<Inside>(input)? else { return Ok(()) };
    say(output, &Word::Report(Box::new(canary.judge(&plan, inside)?)))?;
    Ok(())
}

/// Refuses what got through, but for what the level leaves open, and what was not measured.
fn expect_holding(report: &Report) -> Result<(), NotConfined> {
    let beyond = report.beyond_gaps();
    if !beyond.is_empty() {
        return Err(NotConfined::Open(format!("got through: {}", beyond.join(", "))));
    }
    // What has a network of its own reaches no address, also none that comes up later.
    let own_network = report.applied.as_ref().is_some_and(|applied| applied.namespace.is_some());
    let excused = |finding: &&Finding| match finding {
        Finding::GotThrough { .. } => true,
        Finding::NoOutsideAddress => own_network,
        Finding::NotReached { .. } => false,
    };
    match report.findings.iter().find(|finding| !excused(finding)) {
        Some(finding) => Err(NotConfined::Open(finding.to_string())),
        None => Ok(()),
    }
}

/// The witness as the program sees it.
struct Witness {
    child: Child,
    input: Option<ChildStdin>,
    output: Option<BufReader<ChildStdout>>,
}

impl Witness {
    fn start(helper: &Helper) -> Result<Self, CanaryError> {
        let failed = |source| ChildError::Start { program: helper.program.clone(), source };
        let mut command = Command::new(&helper.program);
        command.args(&helper.arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let handed_on = helper.environment.iter().filter(|(name, _)| environment::reason(name).is_none());
        command.env_clear().envs(handed_on.map(|(name, value)| (name, value)));
        let mut child = command.spawn().map_err(failed)?;
        let (input, output) = (child.stdin.take(), child.stdout.take().map(BufReader::new));
        Ok(Self { child, input, output })
    }

    fn heard(&mut self) -> Result<Word, CanaryError> {
        let word = self.output.as_mut().map(heard).transpose()?.flatten();
        Ok(word.ok_or_else(|| ChildError::Answer("nothing: the witness has ended".to_owned()))?)
    }

    fn tell(&mut self, inside: &Inside) -> Result<(), CanaryError> {
        let line = line(inside)?;
        Ok(self.input.as_mut().map_or(Ok(()), |input| input.write_all(&line)).map_err(ChildError::Talk)?)
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        // It ends when nobody speaks or listens, and removes its files; each of its steps has its own limit of time.
        drop((self.input.take(), self.output.take()));
        let _ = self.child.wait();
    }
}

fn unexpected(word: Word) -> CanaryError {
    match word {
        Word::Failed(why) => CanaryError::Refused(why),
        Word::Plan(_) | Word::Report(_) => ChildError::Answer("another word than expected".to_owned()).into(),
    }
}

fn say(output: &mut impl Write, word: &Word) -> Result<(), ChildError> {
    output.write_all(&line(word)?)?;
    Ok(output.flush()?)
}

fn line(message: &impl Serialize) -> Result<Vec<u8>, ChildError> {
    let mut line = serde_json::to_vec(message).map_err(|error| ChildError::Answer(error.to_string()))?;
    line.push(b'\n');
    Ok(line)
}

/// The next message; `None` when the other end is closed.
fn heard<T: DeserializeOwned>(from: impl BufRead) -> Result<Option<T>, ChildError> {
    let mut text = Vec::new();
    from.take(LONGEST).read_until(b'\n', &mut text)?;
    if text.is_empty() {
        return Ok(None);
    }
    serde_json::from_slice(&text).map(Some).map_err(|error| ChildError::Answer(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canary::{Attempt, Outcome};

    fn report(through: bool, findings: Vec<Finding>) -> Report {
        let attempt = Attempt {
            name: "raw socket".to_owned(),
            listener: None,
            outcome: Outcome::Passed,
            heard: false,
            got_through: through,
            unconfined: None,
        };
        Report { applied: None, user: 0, attempts: vec![attempt], findings, absent: vec![] }
    }

    #[test]
    fn what_got_through_or_was_not_measured_does_not_hold() {
        assert!(expect_holding(&report(false, vec![])).is_ok());
        let named = expect_holding(&report(true, vec![])).unwrap_err().to_string();
        assert_eq!(named, "the confinement does not hold: got through: raw socket");
        let deaf = Finding::NotReached { listener: "x".to_owned() };
        for finding in [deaf, Finding::NoOutsideAddress] {
            assert!(expect_holding(&report(false, vec![finding])).is_err());
        }
    }

    #[test]
    fn a_message_comes_back_and_a_closed_end_is_none() {
        let sent = line(&Word::Failed("no".to_owned())).unwrap();
        assert!(matches!(heard(sent.as_slice()).unwrap(), Some(Word::Failed(why)) if why == "no"));
        assert!(heard::<Word>([].as_slice()).unwrap().is_none());
        assert!(heard::<Word>(b"half a mess".as_slice()).is_err());
    }

    #[test]
    fn a_witness_that_says_nothing_is_an_error() {
        let helper = Helper { program: "true".into(), arguments: vec![], environment: vec![], identity: None };
        let mut witness = Witness::start(&helper).unwrap();
        assert!(matches!(witness.heard(), Err(CanaryError::Helper(ChildError::Answer(_)))));
    }
}
