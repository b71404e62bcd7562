//! How a run ended: done, stopped with a checkpoint, or failed, in our words rather than mpirun's.
use std::fmt::Write as _;
use std::process::ExitStatus;

use signal_hook::consts::SIGUSR1;
use signal_hook::low_level::signal_name;

use crate::failure::{Failure, Kind};
use crate::output::say;
use crate::train::directory::RunDirectory;
use crate::train::ranks::{Ended, ended_by};
use crate::train::voices::{Death, Starter, Voices};

/// Exit code of a run that stopped early, to be resumed.
pub(crate) const STOPPED: u8 = 75;

/// What ranks say that left because their job was about to end.
pub(crate) const IN_TIME: &str = "stopped in time for the end of the job";

/// What a run is after `sirocco train`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Every step was done.
    Done,
    /// Every step had been done before.
    Complete,
    /// A signal or `--until` ended it early, with a checkpoint.
    Stopped,
}

/// The state and the exit code, or the failure.
pub(crate) fn judge(ended: &Ended, directory: &RunDirectory, ranks: u64) -> Result<(State, u8), Failure> {
    match ended.status.code() {
        Some(0) => Ok((State::Done, 0)),
        Some(code) if code == i32::from(STOPPED) => Ok((State::Stopped, STOPPED)),
        _ if ended.at_once || stopped_with_a_checkpoint(ended) => Ok((State::Stopped, STOPPED)),
        _ if stopped_before_listening(ended) => {
            say(format_args!("stopped before the first step"));
            Ok((State::Stopped, STOPPED))
        }
        _ => Err(failure(ended, directory, ranks)),
    }
}

/// Whether the ranks had stopped as asked, though mpirun ended otherwise.
fn stopped_with_a_checkpoint(ended: &Ended) -> bool {
    // srun ends ranks that are a moment behind one that has left; Slurm may have asked them without asking us.
    let asked = ended.requested || (ended.starter == Starter::Srun && ended.voices.reported().is_empty());
    asked && (ended.voices.said("stopped on request") || ended.voices.said(IN_TIME))
}

/// Whether the request to stop itself ended a rank, or mpirun, which did not handle signals yet: nothing was lost.
fn stopped_before_listening(ended: &Ended) -> bool {
    let signal = ended.voices.death().map(|death| death.signal).or(ended_by(ended.status));
    ended.requested && signal == Some(SIGUSR1)
}

fn failure(ended: &Ended, directory: &RunDirectory, ranks: u64) -> Failure {
    let words = Words { voices: &ended.voices, ranks, starter: ended.starter };
    let killed = ended_by(ended.status).map(|signal| Death { rank: 0, signal, node: None });
    let dead = ended.voices.death().cloned().or(killed.filter(|_| ranks == 1));
    let go_on = resume_advice(directory);
    if let Some(dead) = dead {
        let message = format!("{}{}", words.of_death(&dead), words.what_the_others_said());
        let hint = if dead.signal == 9 { "SIGKILL is often the kernel out of memory; " } else { "" };
        let log = directory.log(dead.rank);
        return Failure::new(Kind::Failed, message).help(format_args!("{hint}its log is {}; {go_on}", log.display()));
    }
    let kind = Kind::of_code(ended.status.code().unwrap_or(1));
    match words.of_reported() {
        // Advice that says what to type is the whole of it.
        Some((message, Some(help))) if help.contains("sirocco train ") => Failure::new(kind, message).help(help),
        Some((message, Some(help))) => Failure::new(kind, message).help(format_args!("{help}; then: {go_on}")),
        Some((message, None)) => Failure::new(kind, message).help(go_on),
        None => {
            let logs = directory.path().join("logs");
            let message = format!("{}{}", words.of_status(ended.status), words.last_words());
            Failure::new(kind, message).help(format_args!("the logs of the ranks are in {}; {go_on}", logs.display()))
        }
    }
}

/// What to type to go on, and from where that would be.
fn resume_advice(directory: &RunDirectory) -> String {
    let shown = directory.word();
    match directory.newest_checkpoint() {
        Ok(Some(step)) => format!("sirocco train {shown} resumes from the newest checkpoint, step {step}"),
        Ok(None) => format!("no checkpoint was written yet: sirocco train {shown} starts from the beginning"),
        Err(failure) => failure.message,
    }
}

/// Sentences about a failure.
struct Words<'a> {
    voices: &'a Voices,
    ranks: u64,
    starter: Starter,
}

impl Words<'_> {
    fn of_death(&self, dead: &Death) -> String {
        let node = dead.node.as_ref().map_or_else(String::new, |node| format!(" on {node}"));
        let name = signal_name(dead.signal).map_or_else(String::new, |name| format!(" ({name})"));
        format!("rank {} of {}{node} was killed by signal {}{name}", dead.rank, self.ranks, dead.signal)
    }

    fn of_status(&self, status: ExitStatus) -> String {
        let who = self.starter.name();
        match (status.code(), ended_by(status)) {
            (Some(code @ 129..=192), _) if self.starter == Starter::Mpirun => {
                let (signal, ranks) = (code - 128, self.ranks);
                let name = signal_name(signal).map_or_else(String::new, |name| format!(" ({name})"));
                format!(
                    "one of {ranks} ranks was killed by signal {signal}{name} before they had started; mpirun does not say which"
                )
            }
            (Some(code), _) => format!("{who} ended with exit code {code} and no error message"),
            (None, Some(signal)) => format!("{who} was killed by signal {signal}"),
            (None, None) => format!("{who} ended: {status}"),
        }
    }

    /// The error of the rank that failed first, with its help; then what the others reported.
    fn of_reported(&self) -> Option<(String, Option<String>)> {
        let reported = self.voices.reported();
        let (first, others) = reported.split_first()?;
        let whole = first.ranks.len() as u64 == self.ranks;
        let mut message = if whole { first.message.clone() } else { format!("{}: {}", names(&first.ranks), first.message) };
        for other in others {
            // Writing to a string cannot fail.
            let _ = write!(message, "\n  {}: {}", names(&other.ranks), other.message.lines().next().unwrap_or_default());
        }
        Some((message, first.help.clone()))
    }

    fn what_the_others_said(&self) -> String {
        self.voices.reported().iter().fold(String::new(), |mut text, reported| {
            let _ = write!(text, "\n  {}: {}", names(&reported.ranks), reported.message.lines().next().unwrap_or_default());
            text
        })
    }

    fn last_words(&self) -> String {
        self.voices.last_words(8).iter().fold(String::new(), |text, line| format!("{text}\n  {line}"))
    }
}

/// `rank 1`, or `ranks 0, 1 and 3`.
fn names(ranks: &[u64]) -> String {
    match ranks {
        [] => String::new(),
        [one] => format!("rank {one}"),
        [first @ .., last] => {
            let first: Vec<_> = first.iter().map(u64::to_string).collect();
            format!("ranks {} and {last}", first.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt as _;
    use std::path::Path;

    fn ended(raw_status: i32, lines: &[&str]) -> Ended {
        let mut voices = Voices::default();
        lines.iter().for_each(|line| drop(voices.hear(line, Starter::Mpirun)));
        Ended { status: ExitStatus::from_raw(raw_status), voices, starter: Starter::Mpirun, requested: false, at_once: false }
    }

    fn directory(path: &Path) -> RunDirectory {
        RunDirectory::for_new_run(path).unwrap().0
    }

    #[test]
    fn an_impatient_second_request_does_not_turn_a_stop_into_a_failure() {
        let dir = tempfile::tempdir().unwrap();
        let directory = directory(dir.path());
        let said = "[1,0]<stderr>:stopped on request after step 3 of 30, with a checkpoint";
        let twice = |requested| Ended { requested, ..ended(1 << 8, &[said]) };
        assert_eq!(judge(&twice(true), &directory, 2).unwrap(), (State::Stopped, STOPPED));
        assert!(judge(&twice(false), &directory, 2).is_err());
        for (status, ranks) in [(9, 1), (143 << 8, 2)] {
            let killed = Ended { requested: true, at_once: true, ..ended(status, &[]) };
            assert_eq!(judge(&killed, &directory, ranks).unwrap(), (State::Stopped, STOPPED));
        }
    }

    #[test]
    fn advice_that_says_what_to_type_is_not_contradicted() {
        let dir = tempfile::tempdir().unwrap();
        let advice = "to go on from step 5: echo step-00000005 > r/checkpoints/LATEST && sirocco train r";
        let lines = ["[1,0]<stderr>:error: r/checkpoints/step-00000010 cannot be used", &format!("[1,0]<stderr>:help: {advice}")];
        let failure = judge(&ended(4 << 8, &lines), &directory(dir.path()), 1).unwrap_err();
        assert_eq!(failure.help.as_deref(), Some(advice));
    }

    #[test]
    fn a_killed_rank_is_named_with_what_the_others_said() {
        let dir = tempfile::tempdir().unwrap();
        let lines = [
            "[1,0]<stderr>:error: rank 1 closed its connection during reduce_gradients",
            "mpirun noticed that process rank 1 with PID 0 on node cn042 exited on signal 9 (Killed).",
        ];
        let failure = judge(&ended(137 << 8, &lines), &directory(dir.path()), 2).unwrap_err();
        assert_eq!(
            failure.message,
            "rank 1 of 2 on cn042 was killed by signal 9 (SIGKILL)\n  rank 0: rank 1 closed its connection during reduce_gradients"
        );
        assert_eq!(failure.kind, Kind::Failed);
        let help = failure.help.unwrap();
        assert!(help.contains("rank-00001.log") && help.contains("starts from the beginning"), "{help}");
    }

    #[test]
    fn an_error_of_every_rank_is_one_error_with_its_kind() {
        let dir = tempfile::tempdir().unwrap();
        let lines = ["[1,0]<stderr>:error: m.safetensors: truncated", "[1,1]<stderr>:error: m.safetensors: truncated"];
        let failure = judge(&ended(4 << 8, &lines), &directory(dir.path()), 2).unwrap_err();
        assert_eq!((failure.message.as_str(), failure.kind), ("m.safetensors: truncated", Kind::Input));
    }

    #[test]
    fn silence_shows_the_last_words() {
        let dir = tempfile::tempdir().unwrap();
        let failure = judge(&ended(101 << 8, &["[1,1]<stderr>:thread 'main' panicked"]), &directory(dir.path()), 2).unwrap_err();
        assert_eq!(failure.message, "mpirun ended with exit code 101 and no error message\n  rank 1: thread 'main' panicked");
    }

    #[test]
    fn a_rank_that_was_killed_before_mpirun_knew_it_is_told_without_its_number() {
        let dir = tempfile::tempdir().unwrap();
        let lines = ["Primary job  terminated normally, but 1 process returned", "a non-zero exit code."];
        let failure = judge(&ended(137 << 8, &lines), &directory(dir.path()), 2).unwrap_err();
        let expected = "one of 2 ranks was killed by signal 9 (SIGKILL) before they had started; mpirun does not say which\n";
        assert!(failure.message.starts_with(expected), "{}", failure.message);
    }

    #[test]
    fn a_request_that_comes_before_the_ranks_listen_is_a_stop() {
        let dir = tempfile::tempdir().unwrap();
        let directory = directory(dir.path());
        let line = "mpirun noticed that process rank 1 with PID 0 on node cn042 exited on signal 10 (User defined signal 1).";
        for (status, lines, ranks) in [(SIGUSR1, &[][..], 1), (SIGUSR1, &[], 2), (138 << 8, &[line], 2)] {
            let mut ended = ended(status, lines);
            assert!(judge(&ended, &directory, ranks).is_err(), "nobody asked");
            ended.requested = true;
            assert_eq!(judge(&ended, &directory, ranks).unwrap(), (State::Stopped, 75));
        }
    }

    #[test]
    fn done_and_stopped_are_no_failures() {
        let dir = tempfile::tempdir().unwrap();
        let directory = directory(dir.path());
        assert_eq!(judge(&ended(0, &[]), &directory, 2).unwrap(), (State::Done, 0));
        assert_eq!(judge(&ended(75 << 8, &[]), &directory, 2).unwrap(), (State::Stopped, 75));
        assert_eq!(names(&[0, 1, 3]), "ranks 0, 1 and 3");
    }
}
