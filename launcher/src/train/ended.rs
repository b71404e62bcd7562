//! How the ranks of a run ended last, by what their own logs say. Of a run without Slurm nobody else knows it.
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use crate::output::count;
use crate::train::directory::RunDirectory;

/// Bytes of a log that are looked through, from its end.
const DEEP: u64 = 64 << 10;

/// How the line begins with which a rank starts.
const START: &str = " started rank=";

/// An end that nobody asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct End {
    /// In words, on one line.
    pub(crate) words: String,
    /// Where more stands.
    pub(crate) record: PathBuf,
}

/// What the end of one rank's log says since its newest start.
#[derive(Debug, PartialEq)]
enum Last {
    Error(String),
    /// It left as it was asked to.
    Stopped,
    /// The newest line is none of an end.
    Silent,
}

/// How the ranks of a run ended that nobody is at work on, and that is not done; none where they stopped on request, or never began.
pub(crate) fn last_end(directory: &RunDirectory, ranks: u64) -> Option<End> {
    let read = |rank: u64| Some((rank, last(&directory.log(rank)).ok()?));
    let found: Vec<(u64, Last)> = (0..ranks).filter_map(read).collect();
    let record = |path: PathBuf| path.strip_prefix(directory.path()).map_or(path.clone(), |name| directory.typed(name));
    if found.is_empty() || found.iter().any(|(_, last)| *last == Last::Stopped) {
        return None;
    }
    let errors = found.iter().filter_map(|(rank, last)| if let Last::Error(words) = last { Some((*rank, words)) } else { None });
    let errors: Vec<_> = errors.collect();
    let Some((rank, words)) = errors.first() else {
        let words = "the ranks ended without a word, as when they are killed or the machine goes down".to_owned();
        return Some(End { words, record: record(directory.logs()) });
    };
    // A rank that dies says nothing; those that are left name it, and all end.
    let silent = found.len() - errors.len();
    let more = if silent > 0 { format!("; {} ended without a word", count(silent as u64, "rank")) } else { String::new() };
    Some(End { words: format!("rank {rank}: {words}{more}"), record: record(directory.log(*rank)) })
}

fn last(path: &Path) -> io::Result<Last> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(DEEP)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let newest = text.rfind(START).and_then(|at| text.get(at..)).unwrap_or(&text);
    Ok(said(newest))
}

/// `TIME LEVEL MODULE: MESSAGE`
fn said(text: &str) -> Last {
    let message = |line: &str| line.split_once(": ").map(|(_, message)| message.trim().to_owned());
    let error = text.lines().find(|line| line.contains(" ERROR ")).and_then(message);
    let is_stop = |line: &str| message(line).is_some_and(|message| message.starts_with("stopped "));
    match error {
        Some(words) => Last::Error(words),
        None if text.lines().any(is_stop) => Last::Stopped,
        None => Last::Silent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const STARTED: &str = "2026-11-22T12:00:00.5Z  INFO sirocco_train::run: started rank=0 ranks=2 host=\"n1\" process=7\n";
    const STEP: &str = "2026-11-22T12:00:03.0Z  INFO sirocco_train::run::training: step step=1 loss=7.3 seconds=0.9\n";
    const DIED: &str = "2026-11-22T12:00:04.2Z ERROR sirocco_train::run: rank 1 (process 9 on n1) died; noticed in `step`\n";
    const STOPPED: &str =
        "2026-11-22T12:00:05.0Z  INFO sirocco_train::run: stopped on request after step 2 of 4, with a checkpoint\n";

    #[test]
    fn the_newest_start_counts_and_a_rank_that_is_killed_says_nothing() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("logs")).unwrap();
        fs::write(dir.path().join("run.toml"), "").unwrap();
        let directory = RunDirectory::existing(dir.path()).unwrap();
        let end = |logs: [&[&str]; 2]| {
            for (rank, lines) in (0..).zip(logs) {
                fs::write(directory.log(rank), lines.concat()).unwrap();
            }
            last_end(&directory, 2)
        };
        assert_eq!(last_end(&directory, 2), None);
        let killed = end([&[STARTED, STEP, DIED], &[STARTED, STEP]]).unwrap();
        assert_eq!(killed.words, "rank 0: rank 1 (process 9 on n1) died; noticed in `step`; 1 rank ended without a word");
        assert_eq!(killed.record, dir.path().join("logs/rank-00000.log"));
        assert!(end([&[STARTED, STEP], &[STARTED]]).unwrap().words.contains("without a word, as when they are killed"));
        assert_eq!(end([&[STARTED, STEP, STOPPED], &[STARTED, STEP]]), None);
        let later = [STARTED, DIED, STARTED, STEP, STOPPED];
        assert_eq!(end([&later, &later]), None);
        let earlier = [STARTED, STOPPED, STARTED, STEP];
        assert!(end([&earlier, &earlier]).is_some());
        let long = STEP.repeat(2000);
        assert!(end([&[STARTED, &long, DIED], &[STARTED]]).unwrap().words.starts_with("rank 0: rank 1 "));
    }
}
