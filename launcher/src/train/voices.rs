//! What the ranks and mpirun said on standard error, sorted by speaker, and what it means when a run has failed.
use std::collections::BTreeMap;

pub(crate) use super::marks::Death;
use super::marks::{aborting_rank, death, death_of_task, failed_process, labelled, tagged};

/// Lines kept of each speaker.
const KEPT: usize = 60;

/// A speaker: a rank, or mpirun itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Speaker {
    Rank(u64),
    Launcher,
}

/// What started the ranks, and so how it marks their lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Starter {
    /// Nothing: there is one rank, and every line is its own.
    Nobody,
    Mpirun,
    /// With `--label`.
    Srun,
}

impl Starter {
    /// The name for people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Starter::Nobody => "the trainer",
            Starter::Mpirun => "mpirun",
            Starter::Srun => "srun",
        }
    }
}

/// The last lines of every speaker.
#[derive(Debug, Default)]
pub(crate) struct Voices {
    lines: BTreeMap<Speaker, Vec<String>>,
    dead: Option<Death>,
    first_to_fail: Option<u64>,
}

/// An error that ranks reported in our form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reported {
    pub(crate) ranks: Vec<u64>,
    /// Ranks that repeated what these told them: `rank 1 could not read the base: …`.
    pub(crate) repeated_by: Vec<u64>,
    pub(crate) message: String,
    pub(crate) help: Option<String>,
}

impl Voices {
    /// Takes one line. Returns what a person should see at once: warnings and notes, each once.
    pub(crate) fn hear(&mut self, line: &str, starter: Starter) -> Option<String> {
        let marked = match starter {
            Starter::Nobody => Some((0, tagged(line).map_or(line, |(_, text)| text))),
            Starter::Mpirun => tagged(line),
            Starter::Srun => labelled(line),
        };
        let (speaker, text) = marked.map_or((Speaker::Launcher, line), |(rank, text)| (Speaker::Rank(rank), text));
        if speaker == Speaker::Launcher {
            self.dead = self.dead.take().or_else(|| death(text)).or_else(|| death_of_task(text));
            self.first_to_fail = self.first_to_fail.or_else(|| failed_process(text)).or_else(|| aborting_rank(text));
        }
        let urgent = ["warning: ", "note: "].iter().any(|mark| text.starts_with(mark));
        let known = urgent && self.lines.values().flatten().any(|known| known == text);
        let lines = self.lines.entry(speaker).or_default();
        if lines.len() == KEPT {
            lines.remove(0);
        }
        lines.push(text.to_owned());
        (urgent && !known).then(|| text.to_owned())
    }

    /// The rank that a signal ended, if mpirun said so.
    pub(crate) fn death(&self) -> Option<&Death> {
        self.dead.as_ref()
    }

    /// Whether any rank said a line that begins so.
    pub(crate) fn said(&self, beginning: &str) -> bool {
        self.lines.values().flatten().any(|line| line.starts_with(beginning))
    }

    /// The errors that ranks reported, equal ones and repeated ones together; that of the rank that failed first comes first.
    pub(crate) fn reported(&self) -> Vec<Reported> {
        let mut found: Vec<Reported> = Vec::new();
        for (speaker, lines) in &self.lines {
            let Speaker::Rank(rank) = speaker else { continue };
            let Some((message, help)) = last_error(lines) else { continue };
            match found.iter_mut().find(|known| known.message == message) {
                Some(known) => known.ranks.push(*rank),
                None => found.push(Reported { ranks: vec![*rank], repeated_by: Vec::new(), message, help }),
            }
        }
        let mut found = without_repetitions(found);
        let said_by = |reported: &Reported, rank: u64| reported.ranks.contains(&rank) || reported.repeated_by.contains(&rank);
        found.sort_by_key(|reported| !self.first_to_fail.is_some_and(|rank| said_by(reported, rank)));
        found
    }

    /// The last lines of whoever spoke, for a failure that nobody explained.
    pub(crate) fn last_words(&self, count: usize) -> Vec<String> {
        let said = |speaker: &Speaker, line: &str| match speaker {
            Speaker::Rank(rank) => format!("rank {rank}: {line}"),
            Speaker::Launcher if line.starts_with("srun: ") => line.to_owned(),
            Speaker::Launcher => format!("mpirun: {line}"),
        };
        let spoken = |line: &&String| !line.trim().is_empty() && !line.chars().all(|letter| letter == '-');
        let mut words = Vec::new();
        for (speaker, lines) in &self.lines {
            let lines: Vec<_> = lines.iter().filter(spoken).collect();
            words.extend(lines.iter().skip(lines.len().saturating_sub(count)).map(|line| said(speaker, line)));
        }
        words
    }
}

/// Leaves out errors that end in another rank's error: a rank that was told of it.
fn without_repetitions(mut all: Vec<Reported>) -> Vec<Reported> {
    let source = |all: &[Reported], said: &Reported| {
        all.iter().position(|other| said.message.strip_suffix(&other.message).is_some_and(|before| before.ends_with(": ")))
    };
    while let Some((at, of)) = (0..all.len()).find_map(|at| Some((at, source(&all, &all[at])?))) {
        let repeated = [all[at].ranks.clone(), all[at].repeated_by.clone()].concat();
        all[of].repeated_by.extend(repeated);
        all.remove(at);
    }
    all
}

/// The last `error:` of a rank, with the lines that continue it and its `help:`.
fn last_error(lines: &[String]) -> Option<(String, Option<String>)> {
    let start = lines.iter().rposition(|line| line.starts_with("error: "))?;
    let mut message = lines[start]["error: ".len()..].to_owned();
    for line in &lines[start + 1..] {
        match line.strip_prefix("help: ") {
            Some(help) => return Some((message, Some(help.to_owned()))),
            // Of the indent one blank may have gone with the tag.
            None if line.starts_with(' ') => message.extend(["\n  ", line.trim()]),
            None => break,
        }
    }
    Some((message, None))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hear(lines: &[&str]) -> Voices {
        let mut voices = Voices::default();
        lines.iter().for_each(|line| drop(voices.hear(line, Starter::Mpirun)));
        voices
    }

    #[test]
    fn equal_errors_of_several_ranks_are_one() {
        let voices = hear(&[
            "[1,0]<stderr>:error: model.safetensors: truncated",
            "[1,0]<stderr>:  found 3 bytes",
            "[1,1]<stderr>:error: model.safetensors: truncated",
            "[1,1]<stderr>:  found 3 bytes",
            "[1,0]<stderr>:help: fetch it again",
        ]);
        let reported = voices.reported();
        assert_eq!(reported.len(), 1);
        assert_eq!(reported[0].ranks, [0, 1]);
        assert_eq!(reported[0].message, "model.safetensors: truncated\n  found 3 bytes");
        assert_eq!(reported[0].help.as_deref(), Some("fetch it again"));
    }

    #[test]
    fn the_banner_says_who_died_and_of_what() {
        let voices = hear(&[
            "[1,0]<stderr>:error: rank 1 closed its connection",
            "--------------------------------------------------------------------------",
            "mpirun noticed that process rank 1 with PID 0 on node cn042 exited on signal 9 (Killed).",
            "--------------------------------------------------------------------------",
        ]);
        assert_eq!(voices.death(), Some(&Death { rank: 1, signal: 9, node: Some("cn042".to_owned()) }));
        assert_eq!(voices.reported()[0].ranks, [0]);
        assert_eq!(voices.last_words(1).len(), 2);
    }

    #[test]
    fn the_error_of_the_first_to_fail_leads() {
        let voices = hear(&[
            "[1,0]<stderr>:error: rank 1 is gone",
            "[1,1]<stderr>:error: no space left on device",
            "  Process name: [[30459,1],1]",
            "  Exit code:    1",
        ]);
        assert_eq!(voices.reported()[0].message, "no space left on device");
    }

    #[test]
    fn an_error_that_another_rank_repeats_is_one() {
        let voices = hear(&[
            "[1,0]<stderr>:error: rank 1 cannot use the newest checkpoint: a.safetensors: altered",
            "[1,1]<stderr>:error: a.safetensors: altered",
            "[1,1]<stderr>:help: go back",
            "[1,2]<stderr>:error: rank 1 cannot use the newest checkpoint: a.safetensors: altered",
            "[1,3]<stderr>:error: rank 1 is gone",
            "  Process name: [[30459,1],2]",
        ]);
        let reported = voices.reported();
        assert_eq!((reported.len(), reported[0].message.as_str()), (2, "a.safetensors: altered"));
        assert_eq!((&reported[0].ranks[..], &reported[0].repeated_by[..]), (&[1][..], &[0, 2][..]));
        assert_eq!(reported[0].help.as_deref(), Some("go back"));
    }

    #[test]
    fn warnings_are_shown_once() {
        let mut voices = Voices::default();
        assert_eq!(voices.hear("[1,0]<stderr>:warning: slow", Starter::Mpirun).as_deref(), Some("warning: slow"));
        assert_eq!(voices.hear("[1,1]<stderr>:warning: slow", Starter::Mpirun), None);
        assert_eq!(voices.hear("error: x", Starter::Nobody), None);
        assert_eq!(voices.reported()[0].ranks, [0]);
    }

    #[test]
    fn srun_s_labels_and_deaths_are_understood() {
        let mut voices = Voices::default();
        let lines =
            ["1: error: rank 3 is gone", " 2: help: look", "srun: error: n2: task 3: Killed", "srun: error: n1: task 0: Killed"];
        lines.iter().for_each(|line| drop(voices.hear(line, Starter::Srun)));
        assert_eq!(voices.death(), Some(&Death { rank: 3, signal: 9, node: Some("n2".to_owned()) }));
        assert_eq!(voices.reported()[0].ranks, [1]);
    }
}
