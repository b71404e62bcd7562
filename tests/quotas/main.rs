//! Quotas of a real disk: what a user, a group or a project may not write is refused before a run begins.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use sirocco_tests::program::{LIMIT, Running, path};
use sirocco_tests::repository::root;
use sirocco_tests::workplace::Workplace;

/// What disk.sh ends with where the kernel keeps no quotas.
const NONE_KEPT: i32 = 77;

fn is_there(program: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).any(|directory| directory.join(program).is_file())
}

/// Runs disk.sh in the namespace of its own mounts, or in a user-mode Linux where this kernel keeps no quotas. Why it could not be run, if so.
fn run_on_a_disk(place: &Path) -> Result<(), String> {
    let missing: Vec<_> =
        ["quota", "setquota", "mkfs.ext4", "unshare", "setpriv"].into_iter().filter(|one| !is_there(one)).collect();
    if !missing.is_empty() {
        return Err(format!("no {}: scripts/setup.sh installs quota for make test", missing.join(", ")));
    }
    let (script, sirocco) = (root().join("tests/quotas/disk.sh"), path("sirocco"));
    let programs = sirocco.parent().expect("the directory of the programs").canonicalize().expect("a path");
    let here = Running::start(Command::new("unshare").args(["--mount"]).arg(&script).arg(&programs).arg(place)).wait(LIMIT);
    match here.code {
        Some(0) => return Ok(()),
        Some(NONE_KEPT) if is_there("linux.uml") && is_there("insmod") => {}
        Some(NONE_KEPT) => return Err("this kernel keeps no quotas, and user-mode-linux and kmod are not installed".to_owned()),
        _ if here.stderr.contains("unshare failed") => return Err(here.stderr),
        _ => panic!("{}\n{}", here.stdout, here.stderr),
    }
    let mut command = Command::new("linux.uml");
    command.args(["mem=256M", "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "rw", "con=null", "con0=null,fd:1", "quiet"]);
    command.arg(format!("init={}", script.display())).arg("--").arg(&programs).arg(place);
    let finished = Running::start(&mut command).wait(LIMIT);
    let status = fs::read_to_string(place.join("status")).unwrap_or_default();
    assert_eq!(status.trim(), "0", "{}\n{}", finished.stdout, finished.stderr);
    Ok(())
}

#[test]
fn what_a_quota_does_not_give_is_refused() {
    let place = Workplace::new();
    if let Err(why) = run_on_a_disk(place.path()) {
        // Not by a macro, whose output is shown of failed tests only.
        let _ = writeln!(std::io::stderr(), "\n*** SKIPPED, a test on a disk with quotas: {why} ***");
        return;
    }
    let said = |name: &str| fs::read_to_string(place.path().join(format!("said-{name}"))).expect("what a check said");
    let of = |name: &str, code: i32, words: &[&str]| {
        let said = said(name);
        assert!(said.ends_with(&format!("exit status {code}\n")), "{name}:\n{said}");
        words.iter().for_each(|words| assert!(said.contains(words), "{name}: {words}\n{said}"));
    };
    of("unlimited", 0, &["ok: sirocco train"]);
    assert!(!said("unlimited").contains("quota"), "{}", said("unlimited"));
    of("roomy", 0, &["quota      of user 65534: 20.5 MB left"]);
    let refused = |who: &'static str| {
        ["checkpoints of ", "; the quota of ", who, " of it are used, and ", " are needed\nhelp: checkpoint.keep"]
    };
    of("bytes", 5, &refused("user 65534 is "));
    of("files", 5, &[&refused("user 65534 is ")[..], &[" files of it are used"]].concat());
    of("group", 5, &refused("group 65534 is "));
    // What is left of a project is what the kernel calls free in its directories.
    of("project", 5, &["checkpoints of ", " are free: expected room for them"]);
    of("soft", 0, &["note: ", "the soft quota of user 65534 is ", "when its grace period is over, nothing can be written"]);
}
