//! The questions to Slurm, those that do not need one another at the same time. Nothing of what fails is an error.
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use super::read;
use super::rules::{Enforced, Rules};
use crate::site::ask::{Answer, ask_command_for};

const PARTITIONS: [&str; 4] = ["--all", "--oneliner", "show", "partition"];

/// Asks everything that has a bearing on a job of this user, for so long at most.
pub(crate) fn rules(patience: Duration) -> Rules {
    let until = Instant::now() + patience;
    thread::scope(|scope| {
        let partitions = scope.spawn(|| ask("scontrol", &PARTITIONS, until));
        let accounts = scope.spawn(|| accounts(until));
        let mut rules = accounts.join().unwrap_or_default();
        match partitions.join().unwrap_or_else(|_| Err("scontrol was not asked".to_owned())) {
            Ok(said) => rules.partitions = Some(read::partitions(&said)),
            // Who does not answer one question says the same to the other.
            Err(why) if rules.notes.iter().any(|note| note.starts_with(&why)) => {
                rules.notes = vec![format!("{why}: what Slurm allows was not checked")];
            }
            Err(why) => rules.notes.push(format!("{why}: whether the partition takes the job was not checked")),
        }
        rules
    })
}

/// What the accounts say, where Slurm holds jobs to them.
fn accounts(until: Instant) -> Rules {
    let config = match ask("scontrol", &["show", "config"], until) {
        Ok(config) => config,
        Err(why) => return Rules { notes: vec![format!("{why}: account, QOS and limits were not checked")], ..Rules::default() },
    };
    let enforced = read::enforced(&config);
    if enforced == Enforced::default() {
        return Rules { enforced, ..Rules::default() };
    }
    let cluster = format!("cluster={}", read::setting(&config, "ClusterName").unwrap_or_default());
    thread::scope(|scope| {
        let qualities = scope.spawn(|| ask("sacctmgr", &["--noheader", "--parsable2", "show", "qos", read::QUALITY], until));
        let mut rules = Rules { enforced, ..Rules::default() };
        match ask("id", &["--user", "--name"], until) {
            Ok(user) => {
                // The name comes first: what else is said are warnings.
                rules.user = user.lines().next().unwrap_or_default().trim().to_owned();
                let which = ["--noheader", "--parsable2", "show", "user", &rules.user, "withassoc", &cluster, read::ASSOCIATION];
                match ask("sacctmgr", &which, until) {
                    Ok(said) => (rules.default_account, rules.associations) = read::associations(&said),
                    Err(why) => rules.notes.push(format!("{why}: account and QOS were not checked")),
                }
            }
            Err(why) => rules.notes.push(format!("{why}: account and QOS were not checked")),
        }
        match qualities.join().unwrap_or_else(|_| Err("sacctmgr was not asked".to_owned())) {
            Ok(said) => rules.qualities = Some(read::qualities(&said)),
            Err(why) => rules.notes.push(format!("{why}: limits of QOS were not checked")),
        }
        rules
    })
}

/// What a command says, or why it says nothing.
fn ask(program: &str, words: &[&str], until: Instant) -> Result<String, String> {
    let limit = until.saturating_duration_since(Instant::now());
    match ask_command_for(limit, Command::new(program).args(words)) {
        Answer::Said(said) => Ok(said),
        Answer::Failed(why) => Err(format!("{program}: {why}")),
        Answer::NotThere => Err(format!("{program} is not on PATH here")),
        Answer::TooLate => Err(format!("{program} did not answer in time")),
    }
}
