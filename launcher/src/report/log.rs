//! `RUN/logs/rank-00000.log`: when what was done, how often the ranks were started, and with which words they ended. It is the only file that
//! knows the time of a step; a run whose log is gone has curves over steps and no dates.
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, ErrorKind};
use std::path::Path;

use crate::failure::{Failure, Kind};
use crate::report::clock;

/// What rank 0 wrote down.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Log {
    /// In the order of time.
    pub(crate) starts: Vec<Start>,
    /// When a step was recorded, in seconds since 1970; the last time it was done.
    pub(crate) steps: BTreeMap<u64, f64>,
    /// When a held-out loss was, by the steps done.
    pub(crate) evaluations: BTreeMap<u64, f64>,
    /// Steps that were done more than once.
    pub(crate) repeated: u64,
}

/// The ranks from one start to their end.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Start {
    /// Seconds since 1970.
    pub(crate) began: f64,
    /// Of the last line.
    pub(crate) last: f64,
    pub(crate) ranks: Option<u64>,
    /// Threads of a rank, where the log says so.
    pub(crate) threads: Option<u64>,
    /// Of the trainer, where the log says so.
    pub(crate) version: Option<String>,
    /// Steps done before; none if it ended before the first.
    pub(crate) from_step: Option<u64>,
    /// Steps done at its end.
    pub(crate) step: Option<u64>,
    /// What it was to reach.
    pub(crate) steps: Option<u64>,
    /// Why it ended, in its own words.
    pub(crate) why: Option<String>,
}

impl Log {
    /// Of a file; empty if it is not there.
    pub(crate) fn read(path: &Path) -> Result<Log, Failure> {
        let failed =
            |error: &std::io::Error| Failure::new(Kind::Failed, format_args!("{}: cannot be read: {error}", path.display()));
        let file = match File::open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Log::default()),
            file => file.map_err(|error| failed(&error))?,
        };
        let mut log = Log::default();
        for line in BufReader::new(file).split(b'\n') {
            log.hear(&String::from_utf8_lossy(&line.map_err(|error| failed(&error))?));
        }
        Ok(log)
    }

    /// Takes in a line: `TIME LEVEL MODULE: MESSAGE FIELDS`. What is no such line belongs to the one before it.
    fn hear(&mut self, line: &str) {
        let Some((time, rest)) = line.split_once(' ') else { return };
        let (Some(time), Some((head, message))) = (clock::parse(time), rest.split_once(": ")) else { return };
        let number = |name| field(message, name).and_then(|text| text.parse().ok());
        // Logs of the first version begin with the training.
        let is_training = message.starts_with("training first=");
        if message.starts_with("started ") || (is_training && self.starts.last().is_none_or(|start| start.from_step.is_some())) {
            self.starts.push(Start { began: time, ..Start::default() });
        }
        let Some(start) = self.starts.last_mut() else { return };
        start.last = time;
        start.ranks = start.ranks.or(number("ranks"));
        start.threads = start.threads.or(number("threads"));
        start.version = start.version.take().or_else(|| field(message, "version").map(|text| text.trim_matches('"').to_owned()));
        if is_training {
            (start.from_step, start.steps) = (number("first"), number("steps"));
        } else if let Some(step) = number("step").filter(|_| message.starts_with("step ")) {
            start.step = Some(step);
            self.repeated += u64::from(self.steps.insert(step, time).is_some());
        } else if let Some(step) = number("step").filter(|_| message.starts_with("held out ")) {
            self.evaluations.insert(step, time);
        } else if message.starts_with("stopped ") || head.trim_start().starts_with("ERROR") {
            start.why.get_or_insert_with(|| message.to_owned());
        }
    }

    /// When the run began and when it was last heard of.
    pub(crate) fn span(&self) -> Option<(f64, f64)> {
        Some((self.starts.first()?.began, self.starts.last()?.last))
    }
}

/// The value of `name=value` in a line.
fn field<'a>(message: &'a str, name: &str) -> Option<&'a str> {
    message.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
2026-11-22T12:00:00.500000Z  INFO sirocco_train::run: started rank=0 ranks=2 threads=3 version=\"0.1.0\"
2026-11-22T12:00:01.000000Z  INFO sirocco_train::run: training first=0 steps=4 sequences=1260 mesh=pp 1 × dp 2 = 2 ranks held_bytes=3
2026-11-22T12:00:02.000000Z  INFO sirocco_train::run::training: held out step=0 loss=7.8
2026-11-22T12:00:03.000000Z  INFO sirocco_train::run::training: step step=1 loss=7.3 seconds=0.9
2026-11-22T12:00:04.000000Z  INFO sirocco_train::run::training: step step=2 loss=7.4 seconds=0.9
2026-11-22T12:00:04.250000Z ERROR sirocco_train::run: rank 1 closed its connection during step
with more words on a line of their own
2026-11-22T12:01:00.000000Z  INFO sirocco_train::run: started rank=0 ranks=2
2026-11-22T12:01:01.000000Z  INFO sirocco_train::run: training first=1 steps=4 sequences=1260
2026-11-22T12:01:02.000000Z  INFO sirocco_train::run::training: step step=2 loss=7.4 seconds=0.9
2026-11-22T12:01:03.000000Z  INFO sirocco_train::run: stopped on request after step 2 of 4, with a checkpoint
";

    #[test]
    fn starts_steps_and_ends() {
        let mut log = Log::default();
        LOG.lines().for_each(|line| log.hear(line));
        assert_eq!(log.starts.len(), 2);
        let [first, second] = [&log.starts[0], &log.starts[1]];
        assert_eq!((first.ranks, first.threads, first.version.as_deref()), (Some(2), Some(3), Some("0.1.0")));
        assert_eq!((first.from_step, first.step, first.steps), (Some(0), Some(2), Some(4)));
        assert_eq!(first.why.as_deref(), Some("rank 1 closed its connection during step"));
        assert_eq!((second.from_step, second.last - second.began), (Some(1), 3.0));
        assert_eq!(second.why.as_deref(), Some("stopped on request after step 2 of 4, with a checkpoint"));
        assert_eq!((log.repeated, log.steps[&2] - log.steps[&1], log.evaluations.len()), (1, 59.0, 1));
    }

    #[test]
    fn a_log_of_the_first_version_begins_with_the_training() {
        let mut log = Log::default();
        let line = "2026-11-22T04:18:56.281557Z  INFO sirocco_train::run: training first=0 steps=60 sequences=2602 ranks=2";
        [line, line].into_iter().for_each(|line| log.hear(line));
        assert_eq!(log.starts.iter().map(|start| start.ranks).collect::<Vec<_>>(), [Some(2), Some(2)]);
        assert_eq!(log.span().map(|(from, to)| to - from), Some(0.0));
    }
}
