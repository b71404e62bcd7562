//! Several processes write one log, some are killed at random moments, and a disk is full or read-only. Children are this test program.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use sirocco_ledger::disk::Log;
use sirocco_ledger::entry::{Entry, Fact};
use sirocco_ledger::source::entry;
use support::{action, author, check, key};
use tempfile::tempdir;

/// How a child is told what to do: `MODE WRITER COUNT PATH`. Without it the test below is not a child and passes.
const ORDER: &str = "LEDGER_TEST_CHILD";

fn child(command: &mut Command, mode: &str, writer: u64, count: u64, path: &Path) -> Child {
    let order = format!("{mode} {writer} {count} {}", path.display());
    command.env(ORDER, order).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap()
}

/// This program, running only the test that is a child.
fn myself() -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "the_child", "--nocapture", "--test-threads=1"]);
    command
}

#[test]
fn the_child() {
    let Ok(order) = std::env::var(ORDER) else { return };
    let mut words = order.splitn(4, ' ');
    let mut word = || words.next().unwrap().to_owned();
    let (mode, writer, count, path) = (word(), word().parse().unwrap(), word().parse().unwrap(), word());
    let log = Log::create(Path::new(&path), author());
    if mode == "refused" {
        return refused(log, count);
    }
    let log = log.unwrap();
    for number in 0..count {
        log.append(&action(writer, number)).unwrap();
        if number % 5 == 4 || number + 1 == count {
            log.sync().unwrap();
            // What this line says is on disk, whatever happens now.
            println!("safe {}", number + 1);
        }
        if mode == "sealing" && number % 37 == 36 {
            log.seal(&key()).unwrap();
        }
    }
}

/// Appends until the disk refuses, and says how many entries it took and what the error was.
#[expect(clippy::print_stdout, reason = "what a child tells its parent")]
fn refused(log: Result<Log, sirocco_ledger::LedgerError>, count: u64) {
    let log = match log {
        Ok(log) => log,
        Err(error) => return println!("safe 0 {error:?}"),
    };
    for number in 0..count {
        if let Err(error) = log.append(&action(0, number)) {
            let sealed = log.seal(&key()).map(|sealed| sealed.checkpoint.checkpoint.size);
            return println!("safe {} {error:?} {sealed:?}", log.len().unwrap());
        }
    }
    println!("safe {count} never refused");
}

/// What each writer's entries are, in the log's order.
fn by_writer(log: &Log) -> BTreeMap<i64, Vec<i64>> {
    let size = log.seal(&key()).unwrap().checkpoint.checkpoint.size;
    let mut found: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    for index in 0..size {
        let entry = Entry::parse(&entry(&log.directory(), index, size).unwrap()).unwrap();
        if let (Some(Fact::Number(writer)), Some(Fact::Number(number))) = (entry.facts.get("writer"), entry.facts.get("number")) {
            found.entry(*writer).or_default().push(*number);
        }
    }
    found
}

/// The numbers that a child calls safe, one after the other, until it ends.
fn safe(child: &mut Child) -> impl Iterator<Item = u64> + use<> {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    // The test harness prints before the first of our lines, on the same line.
    lines.filter_map(|line| line.rsplit_once("safe ").and_then(|(_, number)| number.trim().parse().ok()))
}

#[test]
fn several_processes_write_and_seal_at_once() {
    let folder = tempdir().unwrap();
    let mut children: Vec<Child> = (0..4)
        .map(|writer| child(&mut myself(), if writer == 0 { "sealing" } else { "plain" }, writer, 400, folder.path()))
        .collect();
    for child in &mut children {
        assert_eq!(safe(child).last(), Some(400));
        assert!(child.wait().unwrap().success());
    }
    let log = Log::open(folder.path(), author()).unwrap();
    let expected: BTreeMap<i64, Vec<i64>> = (0..4).map(|writer| (writer, (0..400).collect())).collect();
    assert_eq!(by_writer(&log), expected);
    let report = check(&log.directory());
    assert!(report.is_sound() && report.size == 1600, "{:?}", report.findings);
}

#[test]
fn a_kill_at_any_moment_loses_nothing_that_was_synced() {
    let folder = tempdir().unwrap();
    for round in 0..24_u64 {
        let path = folder.path().join(round.to_string());
        let mut children: Vec<Child> = (0..2).map(|writer| child(&mut myself(), "sealing", writer, 1_000_000, &path)).collect();
        let mut lines: Vec<_> = children.iter_mut().map(safe).collect();
        // Every other round begins when each child has something to lose, however slow the machine is.
        let waited = if round % 2 == 1 { Some(lines.iter_mut().map(|lines| lines.next().unwrap()).min().unwrap()) } else { None };
        // Not evenly spread on purpose: beginnings, first sealings and the steady state are all hit.
        std::thread::sleep(Duration::from_millis(5 + round * round * 3 / 4));
        children[(round % 2) as usize].kill().unwrap();
        std::thread::sleep(Duration::from_millis(round % 7));
        for child in &mut children {
            child.kill().unwrap();
        }
        let safe: Vec<u64> = lines.into_iter().map(|lines| lines.last().or(waited).unwrap_or(0)).collect();
        assert!(waited.is_none() || safe.iter().all(|safe| *safe > 0), "round {round}: a child did nothing");
        children.iter_mut().for_each(|child| drop(child.wait()));
        let log = Log::create(&path, author()).unwrap();
        let found = by_writer(&log);
        for (writer, safe) in safe.iter().enumerate() {
            let numbers = found.get(&(writer as i64)).cloned().unwrap_or_default();
            assert!(numbers.len() as u64 >= *safe, "round {round}: {} of {safe}", numbers.len());
            assert!(numbers.iter().zip(0..).all(|(a, b)| *a == b), "round {round}: in order, none twice");
        }
        let report = check(&log.directory());
        assert!(report.is_sound(), "round {round}: {:?}", report.findings);
    }
}

/// A file-size limit refuses writes as a full disk does, and needs no rights.
#[test]
fn a_full_disk_is_a_typed_error_and_loses_nothing() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("log");
    let mut limited = Command::new("sh");
    // 40 KiB; with the signal ignored the write fails instead.
    limited.args(["-c", "trap '' XFSZ; ulimit -f 80; exec \"$@\"", "sh"]);
    limited.arg(std::env::current_exe().unwrap()).args(["--exact", "the_child", "--nocapture", "--test-threads=1"]);
    let output = child(&mut limited, "refused", 0, 1000, &path).wait_with_output().unwrap();
    let output = String::from_utf8(output.stdout).unwrap();
    let safe: usize = output.split("safe ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!(output.contains("DiskFull") && (10..1000).contains(&safe), "{output}");
    let log = Log::open(&path, author()).unwrap();
    assert_eq!(by_writer(&log)[&0], (0..safe as i64).collect::<Vec<_>>());
    assert!(check(&log.directory()).is_sound());
    assert_eq!(log.append(&action(0, safe as u64)).unwrap(), safe as u64, "with room again it goes on");
}

/// Needs a user namespace to mount a directory read-only; where the system gives none, the mapping of the error is a unit test.
#[test]
fn a_read_only_disk_is_a_typed_error() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("log");
    let log = Log::create(&path, author()).unwrap();
    log.append(&action(0, 0)).unwrap();
    let shell = "mount --bind \"$DIR\" \"$DIR\" && mount -o remount,bind,ro \"$DIR\" && exec \"$@\"";
    let mut inside = Command::new("unshare");
    inside.args(["-rm", "sh", "-c", shell, "sh"]).env("DIR", &path);
    if !inside.arg("true").status().is_ok_and(|status| status.success()) {
        println!("skipped: no user namespace, or no right to mount in it");
        return;
    }
    let mut inside = Command::new("unshare");
    inside.args(["-rm", "sh", "-c", shell, "sh"]).env("DIR", &path).arg(std::env::current_exe().unwrap());
    inside.args(["--exact", "the_child", "--nocapture", "--test-threads=1"]);
    let output = child(&mut inside, "refused", 0, 1, &path).wait_with_output().unwrap();
    let output = String::from_utf8(output.stdout).unwrap();
    assert!(output.contains("ReadOnly"), "{output}");
    assert_eq!(log.len().unwrap(), 1);
}
