//! `RUN/jobs.jsonl`: what happened to the jobs of a run, one object a line, only ever added to. Who wants to know why a run is where it is
//! reads it from the first line to the last.
use std::fmt::Display;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::failure::{Failure, Kind};

/// The file's name in a run directory.
pub(crate) const FILE: &str = "jobs.jsonl";

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Event {
    /// Seconds since 1970.
    pub(crate) time: f64,
    /// Slurm's number of the job.
    pub(crate) job: String,
    #[serde(flatten)]
    pub(crate) what: What,
}

/// What happened to a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum What {
    /// Slurm has taken it.
    Submitted {
        /// The job whose end it waits for.
        after: Option<String>,
        /// Nodes that it keeps away from.
        excluded: Vec<String>,
    },
    /// It runs.
    Started {
        /// In the order of Slurm.
        nodes: Vec<String>,
        /// When Slurm will end it, in seconds since 1970.
        ends: Option<f64>,
        /// How often Slurm had started it before.
        restarts: u64,
    },
    /// Every node was tested.
    Tested {
        seconds: f64,
        /// Those that failed, with the reason.
        unfit: Vec<Unfit>,
    },
    /// The ranks were started.
    Ranks {
        /// From 1, in this job.
        attempt: u64,
        nodes: Vec<String>,
        ranks: u64,
        /// Of the checkpoint that they go on from; 0 without one.
        from_step: u64,
    },
    /// The ranks have ended.
    Ended {
        attempt: u64,
        outcome: Outcome,
        /// Of the newest checkpoint.
        step: u64,
        /// In words, for people.
        why: String,
        /// Nodes that seem to be the cause.
        unfit: Vec<Unfit>,
        next: Next,
    },
    /// A person ended the chain.
    Cancelled,
}

/// How ranks ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// Every step is done.
    Done,
    /// With a checkpoint, before the time was up or because somebody asked.
    Stopped,
    Failed,
}

/// What follows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Next {
    /// Nothing: the run is done, or a person has to look.
    Nothing,
    /// The ranks are started again in the same job.
    Again,
    /// Slurm starts the same job again.
    Requeued,
    /// Another job.
    Job(String),
}

/// A node that is not fit for work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Unfit {
    pub(crate) node: String,
    pub(crate) why: String,
}

impl Event {
    pub(crate) fn now(job: &str, what: What) -> Event {
        Event { time: now(), job: job.to_owned(), what }
    }
}

/// Seconds since 1970, to the millisecond.
pub(crate) fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_millis() as f64 / 1000.0)
}

/// Adds a line, on disk when this returns.
pub(crate) fn add(run: &Path, event: &Event) -> Result<(), Failure> {
    let path = run.join(FILE);
    // A crash may have cut the last line off: what is added begins its own.
    let is_whole = fs::read(&path).map_or(true, |bytes| bytes.last().is_none_or(|last| *last == b'\n'));
    let write = || -> io::Result<()> {
        let line = format!("{}{}\n", if is_whole { "" } else { "\n" }, serde_json::to_string(event)?);
        let mut file = File::options().create(true).append(true).open(&path)?;
        // In one piece: two jobs may write at once.
        file.write_all(line.as_bytes())?;
        file.sync_data()
    };
    write().map_err(|error| failed(&path, "cannot be written", error))
}

/// Every event in order; none for a run that was never submitted. A last line without its end was cut off by a crash, and a line from a later
/// version may say what this one does not know: both are passed over.
pub(crate) fn read(run: &Path) -> Result<Vec<Event>, Failure> {
    let path = run.join(FILE);
    let bytes = match fs::read(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        bytes => bytes.map_err(|error| failed(&path, "cannot be read", error))?,
    };
    Ok(String::from_utf8_lossy(&bytes).lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

fn failed(path: &Path, what: &str, error: impl Display) -> Failure {
    Failure::new(Kind::Failed, format_args!("{}: {what}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_is_read_and_a_line_that_was_cut_off_is_not() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path()).unwrap(), []);
        let unfit = vec![Unfit { node: "n2".to_owned(), why: "no power".to_owned() }];
        let events = [
            What::Submitted { after: None, excluded: vec!["n3".to_owned()] },
            What::Started { nodes: vec!["n1".to_owned()], ends: Some(1e9), restarts: 0 },
            What::Tested { seconds: 0.5, unfit: vec![] },
            What::Ranks { attempt: 1, nodes: vec!["n1".to_owned()], ranks: 2, from_step: 0 },
            What::Ended {
                attempt: 1,
                outcome: Outcome::Failed,
                step: 4,
                why: "it broke".to_owned(),
                unfit,
                next: Next::Job("8".to_owned()),
            },
            What::Cancelled,
        ]
        .map(|what| Event::now("7", what));
        events.iter().for_each(|event| add(dir.path(), event).unwrap());
        fs::write(dir.path().join(FILE), fs::read_to_string(dir.path().join(FILE)).unwrap() + "{\"time\":1,\"job\":\"7\",\"ev")
            .unwrap();
        assert_eq!(read(dir.path()).unwrap(), events);
        add(dir.path(), &events[0]).unwrap();
        assert_eq!(read(dir.path()).unwrap().len(), events.len() + 1, "the line after one that was cut off");
        let first = fs::read_to_string(dir.path().join(FILE)).unwrap();
        assert!(first.lines().nth(4).unwrap().contains(r#""event":"ended","attempt":1,"outcome":"failed","step":4"#), "{first}");
        assert!(first.contains(r#""next":{"job":"8"}"#));
    }
}
