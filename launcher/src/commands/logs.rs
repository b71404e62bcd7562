//! `sirocco logs`: the last lines of what ranks and jobs have written, and what they write from then on.
use std::fs;
use std::time::Duration;

use serde::Serialize;
use sirocco_config::RunFile;

use crate::chain::history::{Job, JobState, current, jobs};
use crate::chain::record::{self, now};
use crate::cli;
use crate::failure::{Failure, Kind};
use crate::output::{self, count, duration, say};
use crate::report::clock;
use crate::train::directory::RunDirectory;
use crate::train::here;
use crate::watch::Stop;
use crate::watch::tail::{Change, Tail};

/// Between two looks at the files.
const PAUSE: Duration = Duration::from_millis(300);

/// Whose lines these are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    Rank(u64),
    Job(String),
}

/// A log that is read.
#[derive(Debug)]
struct Voice {
    who: Who,
    tail: Tail,
    /// That it is not there has been said.
    is_missed: bool,
}

/// The fields of `--json`, in their order.
#[derive(Debug, Serialize)]
struct Line<'a> {
    rank: Option<u64>,
    job: Option<&'a str>,
    line: &'a str,
}

/// Every log that is wanted.
#[derive(Debug)]
struct Logs<'a> {
    directory: RunDirectory,
    arguments: &'a cli::Logs,
    voices: Vec<Voice>,
    is_prefixed: bool,
}

pub(crate) fn run(arguments: &cli::Logs) -> Result<(), Failure> {
    let mut logs = Logs::open(arguments)?;
    if !arguments.follow {
        logs.expect_there()?;
        logs.say_new()?;
        return logs.say_rest();
    }
    let stop = Stop::listen()?;
    if logs.voices.is_empty() {
        say(format_args!("note: {}; waiting for its logs", logs.why_silent().0));
    }
    while !stop.is_asked() {
        logs.say_new()?;
        output::sleep_while_read(PAUSE)?;
        logs.look_for_more(true)?;
        logs.hear_job(true)?;
    }
    logs.say_rest()
}

impl Logs<'_> {
    fn open(arguments: &cli::Logs) -> Result<Logs<'_>, Failure> {
        let directory = RunDirectory::existing(&arguments.run)?;
        let ranks =
            RunFile::read(&directory.run_file()).ok().and_then(|file| file.check(&here().ok()?).ok()).map(|run| run.ranks());
        let wanted = arguments.rank.len() + arguments.job.len();
        let is_prefixed = wanted > 1 || (wanted == 0 && ranks != Some(1));
        let mut logs = Logs { directory, arguments, voices: Vec::new(), is_prefixed };
        for rank in &arguments.rank {
            let is_there = logs.directory.log(*rank).is_file();
            if let Some(ranks) = ranks.filter(|ranks| rank >= ranks && !is_there) {
                let shown = logs.directory.shown();
                return Err(Failure::usage(format_args!("--rank {rank}: {shown} has {}, from 0", count(ranks, "rank"))));
            }
            logs.listen(Who::Rank(*rank), false)?;
        }
        for job in &arguments.job {
            logs.listen(Who::Job(job.clone()), false)?;
        }
        logs.look_for_more(false)?;
        logs.hear_job(false)?;
        Ok(logs)
    }

    /// What a job says before it has ranks matters only while there are none.
    fn hear_job(&mut self, from_start: bool) -> Result<(), Failure> {
        if !self.voices.is_empty() {
            return Ok(());
        }
        let Some(job) = self.newest_job() else { return Ok(()) };
        self.is_prefixed = true;
        self.listen(Who::Job(job), from_start)
    }

    /// Why nobody has written anything yet, by the record of the run's jobs, and whether somebody still may.
    fn why_silent(&self) -> (String, bool) {
        let shown = self.directory.shown();
        let jobs = jobs(record::read(self.directory.path()).unwrap_or_default());
        let since = |time: Option<f64>| {
            time.map_or_else(String::new, |time| format!(" since {} ({})", clock::show(time), duration(now() - time)))
        };
        let job = current(&jobs);
        let words = match job {
            None => format!("{shown} has no logs yet: no rank was started, and no job submitted"),
            Some(Job { job, state: JobState::Queued, submitted, .. }) => {
                format!("{shown} has no logs yet: job {job} has waited for Slurm{}", since(*submitted))
            }
            Some(Job { job, state: JobState::Cancelled, .. }) => {
                format!("{shown} has no logs: job {job} was cancelled before it wrote any")
            }
            Some(Job { job, state, started, .. }) if !state.is_over() => {
                format!("{shown} has no logs yet: job {job} has run{}", since(*started))
            }
            Some(Job { job, state, .. }) => format!("{shown} has no logs: job {job} is recorded as {}", state.word()),
        };
        (words, job.is_none_or(|job| !job.is_last()))
    }

    /// Where everything is wanted: the logs of ranks that were not there before. `from_start`: all of their lines are new.
    fn look_for_more(&mut self, from_start: bool) -> Result<(), Failure> {
        if !self.arguments.rank.is_empty() || !self.arguments.job.is_empty() {
            return Ok(());
        }
        let mut found: Vec<u64> =
            self.names().filter_map(|name| name.strip_prefix("rank-")?.strip_suffix(".log")?.parse().ok()).collect();
        found.sort_unstable();
        for rank in found {
            if !self.voices.iter().any(|voice| voice.who == Who::Rank(rank)) {
                self.listen(Who::Rank(rank), from_start)?;
            }
        }
        Ok(())
    }

    fn listen(&mut self, who: Who, from_start: bool) -> Result<(), Failure> {
        let path = match &who {
            Who::Rank(rank) => self.directory.log(*rank),
            Who::Job(job) => self.directory.job_output(job),
        };
        let tail = if from_start { Ok(Tail::from_start(&path)) } else { Tail::from_last(&path, self.arguments.lines) };
        let tail =
            tail.map_err(|error| Failure::new(Kind::Failed, format_args!("{}: cannot be read: {error}", path.display())))?;
        self.voices.push(Voice { who, tail, is_missed: false });
        Ok(())
    }

    fn names(&self) -> impl Iterator<Item = String> {
        let entries = fs::read_dir(self.directory.logs()).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok())
    }

    /// The job that has written last.
    fn newest_job(&self) -> Option<String> {
        let jobs = self.names().filter_map(|name| Some(name.strip_prefix("job-")?.strip_suffix(".out")?.to_owned()));
        jobs.max_by_key(|job| fs::metadata(self.directory.job_output(job)).and_then(|file| file.modified()).ok())
    }

    /// Where nobody waits, what is not there is an error.
    fn expect_there(&self) -> Result<(), Failure> {
        let word = self.directory.word();
        if self.voices.is_empty() {
            let status = format!("sirocco status {word} asks Slurm");
            let (why, may_come) = self.why_silent();
            let help = if may_come { format!("sirocco logs {word} --follow waits for them; {status}") } else { status };
            return Err(Failure::usage(why).help(help));
        }
        match self.voices.iter().find(|voice| !voice.tail.path().is_file()) {
            None => Ok(()),
            Some(voice) => {
                let message = format!("{} is not there", voice.tail.path().display());
                Err(Failure::usage(message)
                    .help(format_args!("with --follow it is waited for; sirocco status {word} names jobs and ranks")))
            }
        }
    }

    /// What was written since the last call.
    fn say_new(&mut self) -> Result<(), Failure> {
        for voice in &mut self.voices {
            let (who, prefixed, json) = (&voice.who, self.is_prefixed, self.arguments.json);
            let mut text = String::new();
            let change = voice.tail.poll(|line| text += &shown(who, line, prefixed, json));
            match change {
                Ok(Change::Missing) | Err(_) if !voice.is_missed => {
                    voice.is_missed = true;
                    let why = change
                        .err()
                        .map_or_else(|| "is not there; waiting for it".to_owned(), |error| format!("cannot be read: {error}"));
                    say(format_args!("note: {} {why}", voice.tail.path().display()));
                }
                Ok(Change::Grown | Change::Anew) => voice.is_missed = false,
                Ok(Change::Missing) | Err(_) => {}
            }
            output::text(&text)?;
        }
        Ok(())
    }

    /// The beginning of a line whose end nobody will wait for.
    fn say_rest(&self) -> Result<(), Failure> {
        let rest = self.voices.iter().filter(|voice| !voice.tail.rest().is_empty());
        let text: String =
            rest.map(|voice| shown(&voice.who, voice.tail.rest(), self.is_prefixed, self.arguments.json)).collect();
        output::text(&text)
    }
}

/// A line as it is printed, with its end.
fn shown(who: &Who, line: &[u8], prefixed: bool, json: bool) -> String {
    let line = String::from_utf8_lossy(line);
    if json {
        let (rank, job) = match who {
            Who::Rank(rank) => (Some(*rank), None),
            Who::Job(job) => (None, Some(job.as_str())),
        };
        // Numbers and text always become JSON.
        return serde_json::to_string(&Line { rank, job, line: &line }).unwrap_or_default() + "\n";
    }
    match who {
        Who::Rank(rank) if prefixed => format!("rank {rank}: {line}\n"),
        Who::Job(job) if prefixed => format!("job {job}: {line}\n"),
        _ => format!("{line}\n"),
    }
}
