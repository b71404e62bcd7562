//! What all ranks compare before anything else: the same program, the same run file, clocks that agree.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use sirocco_comm::Communicator;
use sirocco_corpus::{sha256_file, sha256_hex};

use crate::failure::Failure;

/// How far two clocks may be apart. Less would blame a node for the time that ranks take to leave a barrier; more makes
/// time-outs, file times and logs of several nodes worthless.
const MOST_APART_MS: u64 = 30_000;

/// What a rank says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Greeting {
    host: String,
    /// Of this program.
    version: String,
    /// SHA-256 of the executable.
    program: String,
    /// SHA-256 of the text of run.toml.
    run_file: String,
    /// Unix time, taken when all ranks were known to be there.
    clock_ms: u64,
}

/// Compares this rank with all others. Every rank sees the same greetings, so that all of them go on or all of them end, with the
/// same words.
pub(super) fn meet(communicator: &dyn Communicator, run_text: &str) -> Result<(), Failure> {
    let program = sha256_file(Path::new("/proc/self/exe")).map_err(Failure::failed)?;
    let run_file = sha256_hex(run_text.as_bytes());
    let (host, version) = (communicator.place().host, env!("CARGO_PKG_VERSION").to_owned());
    communicator.barrier("before_meeting").wait().map_err(Failure::collective)?;
    // A clock before 1970 is as far off as one in 1970.
    let clock_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
    let own = serde_json::to_vec(&Greeting { host, version, program, run_file, clock_ms }).map_err(Failure::failed)?;
    let all = communicator.all_gather_bytes("meeting", own).wait().map_err(Failure::collective)?;
    compare(&read(&all)?)
}

/// The greetings by rank.
fn read(all: &[Vec<u8>]) -> Result<Vec<Greeting>, Failure> {
    let one = |(rank, bytes): (usize, &Vec<u8>)| {
        serde_json::from_slice(bytes).map_err(|_| {
            Failure::usage(format!(
                "rank {rank} is of a version that introduces itself in another way: expected the same program on every rank"
            ))
            .help(ONE_PROGRAM)
        })
    };
    all.iter().enumerate().map(one).collect()
}

const ONE_PROGRAM: &str =
    "start every rank from one installation, on a file system that all nodes share; sha256sum shows which node has another";
const ONE_RUN_FILE: &str = "the run directory must be the same on every node: put it on a file system that they share, and start all ranks with one command";

/// The first thing in which two ranks differ that must not.
fn compare(all: &[Greeting]) -> Result<(), Failure> {
    let Some(first) = all.first() else { return Ok(()) };
    let differs = |what: fn(&Greeting) -> &str| all.iter().position(|other| what(other) != what(first));
    if let Some(rank) = differs(|rank| &rank.program) {
        let other = &all[rank];
        let message = format!(
            "{} runs another sirocco-train than {}: found version {} with SHA-256 {}, expected version {} with {}",
            name(rank, other),
            name(0, first),
            other.version,
            short(&other.program),
            first.version,
            short(&first.program)
        );
        return Err(Failure::usage(message).help(ONE_PROGRAM));
    }
    if let Some(rank) = differs(|rank| &rank.run_file) {
        let other = &all[rank];
        let (found, expected) = (short(&other.run_file), short(&first.run_file));
        let message = format!(
            "{} has another run.toml than {}: found SHA-256 {found}, expected {expected}",
            name(rank, other),
            name(0, first)
        );
        return Err(Failure::usage(message).help(ONE_RUN_FILE));
    }
    compare_clocks(all)
}

fn compare_clocks(all: &[Greeting]) -> Result<(), Failure> {
    let ranks = || all.iter().enumerate();
    let (Some((slow, behind)), Some((fast, ahead))) =
        (ranks().min_by_key(|(_, rank)| rank.clock_ms), ranks().max_by_key(|(_, rank)| rank.clock_ms))
    else {
        return Ok(());
    };
    let apart = ahead.clock_ms - behind.clock_ms;
    if apart <= MOST_APART_MS {
        return Ok(());
    }
    let (seconds, most) = (apart as f64 / 1e3, MOST_APART_MS / 1000);
    let message = format!(
        "the clock of {} is {seconds:.0} s ahead of that of {}: expected at most {most} s between any two nodes",
        name(fast, ahead),
        name(slow, behind)
    );
    Err(Failure::failed(message)
        .help("synchronise the clocks of both nodes with NTP, or leave the node that is wrong out of the job"))
}

fn name(rank: usize, greeting: &Greeting) -> String {
    format!("rank {rank} on {}", greeting.host)
}

/// Enough of a digest to tell two apart.
fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sirocco_comm::Solo;

    fn greeting(host: &str) -> Greeting {
        let text = |text: &str| sha256_hex(text.as_bytes());
        let (program, run_file) = (text("program"), text("run file"));
        Greeting { host: host.to_owned(), version: "0.1.0".to_owned(), program, run_file, clock_ms: 1_800_000_000_000 }
    }

    fn message(all: &[Greeting]) -> String {
        compare(all).unwrap_err().message().to_owned()
    }

    #[test]
    fn a_rank_alone_and_ranks_that_agree_go_on() {
        assert!(meet(&Solo::new(), "name = 'x'").is_ok());
        let late = Greeting { clock_ms: 1_800_000_030_000, ..greeting("cn2") };
        assert!(compare(&[greeting("cn1"), late, greeting("cn1")]).is_ok());
    }

    #[test]
    fn another_program_is_named_with_host_and_digest() {
        let other = Greeting { program: "0123456789abcdef".to_owned(), version: "0.2.0".to_owned(), ..greeting("cn2") };
        assert_eq!(
            message(&[greeting("cn1"), greeting("cn1"), other]),
            "rank 2 on cn2 runs another sirocco-train than rank 0 on cn1: found version 0.2.0 with SHA-256 0123456789ab, \
             expected version 0.1.0 with 1310ca2c8932"
        );
    }

    #[test]
    fn another_run_file_is_named_with_host_and_digest() {
        let other = Greeting { run_file: "0123456789abcdef".to_owned(), ..greeting("cn2") };
        let message = message(&[greeting("cn1"), other]);
        assert!(
            message.starts_with("rank 1 on cn2 has another run.toml than rank 0 on cn1: found SHA-256 0123456789ab, expected ")
        );
    }

    #[test]
    fn clocks_that_are_far_apart_are_named_with_the_seconds() {
        let ahead = Greeting { clock_ms: 1_800_000_030_001, ..greeting("cn2") };
        let behind = Greeting { clock_ms: 1_799_999_990_000, ..greeting("cn3") };
        assert_eq!(
            message(&[greeting("cn1"), ahead, behind]),
            "the clock of rank 1 on cn2 is 40 s ahead of that of rank 2 on cn3: expected at most 30 s between any two nodes"
        );
    }

    #[test]
    fn what_cannot_be_read_is_another_version() {
        let greetings = [serde_json::to_vec(&greeting("cn1")).unwrap(), b"hello".to_vec()];
        assert!(read(&greetings[..1]).is_ok());
        assert!(read(&greetings).unwrap_err().message().starts_with("rank 1 is of a version"));
    }
}
