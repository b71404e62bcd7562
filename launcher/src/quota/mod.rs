//! What a file system lets its user, group or project write: Lustre, GPFS, and file systems whose quotas the kernel keeps. A disk may have room
//! that a quota does not give.
mod gpfs;
mod kernel;
mod lustre;
mod mounts;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::{getegid, geteuid};
use serde::Serialize;

use crate::output::{bytes, grouped};
use crate::site::ask::{Answer, ask_command_for};

/// How long one question may take: a quota on NFS is asked of its server.
const LIMIT: Duration = Duration::from_secs(2);

/// Bytes in which every one of these commands counts.
const UNIT: u64 = 1024;

/// One quota: what is used of it, and where it ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Quota {
    /// `user 1000`, `group 1000`, `project 42`, `fileset NAME`.
    pub(crate) of: String,
    pub(crate) bytes: Usage,
    pub(crate) files: Usage,
}

/// A limit that is `None` is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Usage {
    pub(crate) used: u64,
    /// May be passed for some days.
    pub(crate) soft: Option<u64>,
    pub(crate) hard: Option<u64>,
}

/// What was found for a directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) quotas: Vec<Quota>,
    /// What could not be asked.
    pub(crate) notes: Vec<String>,
}

/// Whose files a run writes.
struct Who {
    user: u32,
    group: u32,
}

/// What a quota says of so many more bytes and files.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Fits,
    /// It goes for some days only, and why.
    Warns(String),
    /// And why.
    Refuses(String),
}

/// The quotas of a directory that is there, for files that this user would make in it.
pub(crate) fn of(directory: &Path) -> Found {
    let Ok(directory) = directory.canonicalize() else { return Found::default() };
    let mountinfo = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
    let Some(mount) = mounts::of(&String::from_utf8_lossy(&mountinfo), &directory) else { return Found::default() };
    let who = Who { user: geteuid().as_raw(), group: group_of(&directory) };
    match mount.kind.as_str() {
        "lustre" => lustre::quotas(&directory, &who),
        "gpfs" => gpfs::quotas(&mount, &directory, &who),
        _ => kernel::quotas(&mount, &who),
    }
}

/// The group that new files in a directory belong to: the directory's if it passes it on.
fn group_of(directory: &Path) -> u32 {
    use std::os::unix::fs::MetadataExt as _;
    const SET_GROUP: u32 = 0o2000;
    let inherited = std::fs::metadata(directory).ok().filter(|about| about.mode() & SET_GROUP != 0);
    inherited.map_or_else(|| getegid().as_raw(), |about| about.gid())
}

impl Found {
    /// Adds what one question brought, or why it brought nothing.
    fn add(&mut self, answer: Result<Option<Quota>, String>) {
        match answer {
            Ok(quota) => self.quotas.extend(quota.filter(Quota::is_one)),
            Err(why) => self.notes.push(why),
        }
    }
}

impl Quota {
    fn is_one(&self) -> bool {
        [self.bytes, self.files].iter().any(|usage| usage.soft.is_some() || usage.hard.is_some())
    }

    /// Whether so much more can be written.
    pub(crate) fn verdict(&self, more_bytes: u64, more_files: u64) -> Verdict {
        let plain = |number: u64| format!("{} files", grouped(number));
        let each = [(self.bytes, more_bytes, &bytes as &dyn Fn(u64) -> String), (self.files, more_files, &plain)];
        let words = |usage: Usage, more, limit, shown: &dyn Fn(u64) -> String| {
            let (used, more, limit) = (shown(usage.used), shown(more), shown(limit));
            format!("the quota of {} is {limit}, {used} of it are used, and {more} are needed", self.of)
        };
        let over = |limit: Option<u64>, usage: Usage, more| limit.filter(|limit| usage.used.saturating_add(more) > *limit);
        for (usage, more, shown) in each {
            if let Some(limit) = over(usage.hard, usage, more) {
                return Verdict::Refuses(words(usage, more, limit, shown));
            }
        }
        for (usage, more, shown) in each {
            if let Some(limit) = over(usage.soft, usage, more) {
                let why = words(usage, more, limit, shown).replacen("quota", "soft quota", 1);
                return Verdict::Warns(format!("{why}: when its grace period is over, nothing can be written"));
            }
        }
        Verdict::Fits
    }

    /// Of the columns that `quota` and `lfs quota` print: kilobytes and files, each with two limits and a grace time. A star marks what is exceeded,
    /// brackets what a server that does not answer may have changed.
    fn of_columns(of: &str, [used, soft, hard, _, files, soft_files, hard_files, _]: [&str; 8]) -> Option<Quota> {
        let number = |column: &str| column.trim_matches(['*', '[', ']']).parse::<u64>().ok();
        Some(Quota {
            of: of.to_owned(),
            bytes: Usage::of(number(used)?, number(soft)?, number(hard)?, UNIT),
            files: Usage::of(number(files)?, number(soft_files)?, number(hard_files)?, 1),
        })
    }

    /// Bytes that can still be written.
    pub(crate) fn left(&self) -> Option<u64> {
        Some(self.bytes.hard.or(self.bytes.soft)?.saturating_sub(self.bytes.used))
    }
}

impl Usage {
    /// Of numbers in units of `unit`; a limit of 0 is none.
    fn of(used: u64, soft: u64, hard: u64, unit: u64) -> Usage {
        let limit = |number: u64| Some(number.saturating_mul(unit)).filter(|limit| *limit > 0);
        Usage { used: used.saturating_mul(unit), soft: limit(soft), hard: limit(hard) }
    }
}

/// What a command says on standard output.
fn ask(program: &str, words: &[&str]) -> Result<String, String> {
    match ask_command_for(LIMIT, Command::new(program).args(words)) {
        Answer::Said(said) => Ok(said),
        Answer::Failed(why) => Err(format!("{program}: {why}: quotas were not checked")),
        Answer::NotThere => Err(format!("{program} is not on PATH here: quotas were not checked")),
        Answer::TooLate => Err(format!("{program} did not answer in {} s: quotas were not checked", LIMIT.as_secs())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quota(used: u64, soft: u64, hard: u64) -> Quota {
        Quota { of: "user 7".to_owned(), bytes: Usage::of(used, soft, hard, 1000), files: Usage::of(9, 0, 10, 1) }
    }

    #[test]
    fn a_hard_limit_refuses_and_a_soft_one_warns() {
        assert_eq!(quota(5, 0, 10).verdict(5000, 1), Verdict::Fits);
        let refused = "the quota of user 7 is 10.0 kB, 5.0 kB of it are used, and 5.0 kB are needed";
        assert_eq!(quota(5, 0, 10).verdict(5001, 0), Verdict::Refuses(refused.to_owned()));
        let files = "the quota of user 7 is 10 files, 9 files of it are used, and 2 files are needed";
        assert_eq!(quota(5, 6, 10).verdict(5000, 2), Verdict::Refuses(files.to_owned()));
        let Verdict::Warns(why) = quota(5, 6, 10).verdict(5000, 1) else { panic!("a warning") };
        assert!(why.starts_with("the soft quota of user 7 is 6.0 kB"), "{why}");
        assert_eq!(quota(5, 0, 0).verdict(u64::MAX, 0), Verdict::Fits);
        assert_eq!((quota(12, 0, 10).left(), quota(5, 6, 0).left(), quota(5, 0, 0).left()), (Some(0), Some(1000), None));
    }
}
