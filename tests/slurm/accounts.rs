//! A cluster that keeps accounts: what its limits would leave waiting for ever is refused before anything is queued, and what sacct has counted
//! stands in the report. tests/slurm/accounting.sh says who may do what there.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;
use sirocco_tests::program::{Finished, LIMIT, wait_for};
use sirocco_tests::slurm::{Cluster, SOON};
use sirocco_tests::workplace::Workplace;

use crate::submitting::{SITE, ended, events, sirocco, told};

/// A site of two nodes whose jobs get two GPUs on each, which the run does not use.
const WITH_GPUS: &str = "\
[site]
name = \"gpus\"
title = \"The cluster of this test\"
scheduler = \"slurm\"
sources = [\"test\"]
[submit]
options = [\"--gpus-per-node=2\"]
sources = [\"test\"]
[mpi]
start = \"pmix\"
sources = [\"test\"]
[source.test]
seen_in = \"the tests\"
read = \"2026-11-22\"
";

#[test]
fn accounts_limit_jobs_and_count_what_they_took() {
    let Some(cluster) = Cluster::with_accounts() else { return };
    let place = Workplace::new();
    what_slurm_would_never_start_is_refused(&cluster, &place);
    what_sacct_counted_is_reported(&cluster, &place);
    a_database_that_is_silent_is_a_note(&cluster, &place);
}

/// `sirocco COMMAND run.toml` with settings.
fn with(cluster: &Cluster, place: &Workplace, command: &str, settings: &str) -> Finished {
    let sets: String = settings.split_whitespace().map(|set| format!(" --set {set}")).collect();
    sirocco(cluster, place, &format!("{command} run.toml{sets}"))
}

/// A check by a Slurm that has answered: on a busy machine it may need a second question.
fn checked(cluster: &Cluster, place: &Workplace, settings: &str) -> Finished {
    wait_for("an answer of Slurm", LIMIT, || {
        let finished = with(cluster, place, "check --json", settings);
        (!finished.stderr.contains("not checked")).then_some(finished)
    })
}

fn what_slurm_would_never_start_is_refused(cluster: &Cluster, place: &Workplace) {
    let allowed = checked(cluster, place, SITE).expect_code(0);
    let said: Value = serde_json::from_str(allowed.stdout.trim()).expect("JSON");
    assert_eq!(said["slurm"], serde_json::json!({"account": "dune", "partition": "main", "qos": "normal"}), "{said}");

    for (settings, words) in [
        (
            "site.account=cliff",
            "[site] account = \"cliff\": Slurm does not let user root use it: expected one of dune, reef, root",
        ),
        (
            "site.partition=gpux",
            "[site] partition = \"gpux\": Slurm knows no partition of that name: expected one of main, fenced",
        ),
        ("site.qos=long", "[site] qos = \"long\": account dune may not use it: expected one of normal, short"),
        ("site.account=reef site.qos=normal", "[site] qos = \"normal\": account reef may not use it: expected one of short"),
        (
            "site.partition=fenced site.time=5",
            "note: [site] account: Slurm takes dune, as none is named: partition fenced is for reef, and accounts below",
        ),
        ("site.partition=fenced site.account=reef site.time=5", "[site] nodes = 2: partition fenced gives a job 1 node at most"),
        ("site.time=61", "[site] time = 01:01:00: QOS normal gives a job 01:00:00 at most (MaxWall)"),
        ("site.qos=short", "[site] time = 00:30:00: QOS short gives a job 00:10:00 at most (MaxWall); QOS normal would do"),
        ("site.spare_nodes=2", "[site] nodes and spare_nodes = 4: QOS normal gives a job 3 at most (MaxTRES node)"),
        (
            "site.qos=short site.time=5 site.spare_nodes=1",
            "QOS short gives a user 2 at most (MaxTRESPerUser node); QOS normal would do",
        ),
    ] {
        let refused = checked(cluster, place, &format!("{SITE} {settings}")).expect_code(2);
        assert!(refused.stderr.contains(words) && refused.stderr.contains("\nhelp: "), "{settings}:\n{}", refused.stderr);
    }
    let both = checked(cluster, place, &format!("{SITE} site.time=61 site.spare_nodes=2")).expect_code(2);
    assert!(both.stderr.contains("2 things stand against this job:"), "{}", both.stderr);

    let refused = with(cluster, place, "submit", &format!("{SITE} site.spare_nodes=2")).expect_code(2);
    assert!(refused.stderr.contains("(MaxTRES node)"), "{}", refused.stderr);
    assert_eq!(cluster.say("squeue", &["--noheader"]), "", "nothing was submitted");
    // What it is refused for is what Slurm does to it: the job is taken, and waits.
    let waits = cluster.submit("#!/bin/sh\n#SBATCH --nodes=4 --time=5\n", place.path());
    wait_for("a reason to wait", SOON, || (waits.field("Reason") == "QOSMaxNodePerJobLimit").then_some(()));
    cluster.say("scancel", &[&waits.id]);
}

fn what_sacct_counted_is_reported(cluster: &Cluster, place: &Workplace) {
    fs::write(place.path().join("gpus.toml"), WITH_GPUS).expect("a profile");
    let site = format!("{} site.profile=gpus.toml", SITE.replace("site.profile=slurm", "site.account=dune"));
    let unmeasured = run_and_report(cluster, place, "unmeasured", &site);
    let energy = &unmeasured["energy_kwh"];
    assert_eq!(energy["value"], Value::Null, "nothing counts it: {energy}");
    assert!(energy["source"].as_str().expect("words").starts_with("Slurm's accounting counts no energy here"), "{energy}");
    // Two GPUs on each of two nodes.
    let hours = |figure: &str| unmeasured[figure]["value"].as_f64().unwrap_or_else(|| panic!("no {figure}: {unmeasured}"));
    let (nodes, gpus) = (hours("node_hours"), hours("gpu_hours"));
    assert!(nodes > 0.0 && (gpus - 2.0 * nodes).abs() < 1e-9 * gpus, "{unmeasured}");
    assert!(unmeasured["gpu_hours"]["source"].as_str().expect("words").starts_with("Slurm's accounting: gres/gpu of AllocTRES"));

    // From now on Slurm reads the counters of its nodes.
    let config = cluster.file("slurm.conf");
    let text =
        fs::read_to_string(&config).expect("slurm.conf").replace("acct_gather_energy/none", "acct_gather_energy/pm_counters");
    fs::write(config, text).expect("slurm.conf");
    show_energy(cluster, 1000);
    cluster.say("scontrol", &["reconfigure"]);
    let done = AtomicBool::new(false);
    let measured = std::thread::scope(|scope| {
        scope.spawn(|| count_energy(cluster, &done));
        // However it ends: a scope waits for its threads.
        let _done = Done(&done);
        run_and_report(cluster, place, "measured", &site)
    });
    let job = format!("--jobs={}", last_job(place, "measured"));
    let told = cluster.say("sacct", &["--noheader", "--parsable2", "--format=JobIDRaw,ConsumedEnergyRaw", &job]);
    let of_job = told.lines().filter_map(|line| line.split_once('|')).find(|(job, _)| !job.contains('.'));
    let joules: u64 = of_job.and_then(|(_, joules)| joules.parse().ok()).expect("joules");
    let energy = &measured["energy_kwh"];
    assert!(joules > 0, "{told}");
    let kwh = energy["value"].as_f64().unwrap_or_else(|| panic!("not measured: {energy}\n{told}"));
    assert!((kwh * 3.6e6 - joules as f64).abs() < 0.5, "{energy}: {told}");
    assert!(energy["source"].as_str().expect("words").contains(&format!("{joules} joules")), "{energy}");
}

/// Trains, and what the report says that it cost once sacct knows of the end.
#[track_caller]
fn run_and_report(cluster: &Cluster, place: &Workplace, name: &str, settings: &str) -> Value {
    let sets: String = settings.split_whitespace().map(|set| format!(" --set {set}")).collect();
    sirocco(cluster, place, &format!("submit run.toml --dir {name}{sets}")).expect_code(0);
    let run = place.path().join(name);
    assert_eq!(ended(&run, LIMIT)["outcome"], "done", "{}", told(&run));
    let job = format!("--jobs={}", last_job(place, name));
    let words = ["--allocations", "--noheader", "--parsable2", "--format=State", &job];
    wait_for("the end of the job in the accounts", SOON, || cluster.say("sacct", &words).contains("COMPLETED").then_some(()));
    let said = sirocco(cluster, place, &format!("report {name} --json")).expect_code(0).stdout;
    let said: Value = serde_json::from_str(said.trim()).expect("JSON");
    let page = fs::read_to_string(run.join("report.html")).expect("the page");
    let source = said["runs"][0]["cost"]["energy_kwh"]["source"].as_str().expect("words");
    // Behind the apostrophe, which the page writes in another way.
    let (_, words) = source.split_once('\'').expect("words of Slurm's accounting");
    assert!(page.contains(words), "the page does not say: {source}");
    said["runs"][0]["cost"].clone()
}

fn last_job(place: &Workplace, run: &str) -> String {
    let last = events(&place.path().join(run)).pop().expect("an event");
    last["job"].as_str().expect("a job").to_owned()
}

/// Counters of nodes that take two hundred watts each, until it is done.
fn count_energy(cluster: &Cluster, done: &AtomicBool) {
    for joules in (1000..).step_by(10).take_while(|_| !done.load(Ordering::Relaxed)) {
        show_energy(cluster, joules);
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Each counter has a new value at once: an empty file would be a node that counts nothing.
fn show_energy(cluster: &Cluster, joules: u64) {
    for (name, text) in [("power", "200 W 0 us\n".to_owned()), ("energy", format!("{joules} J 0 us\n"))] {
        let (new, counter) = (cluster.file("counters/new"), cluster.file(&format!("counters/{name}")));
        fs::write(&new, text).and_then(|()| fs::rename(&new, counter)).expect("a counter");
    }
}

struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn a_database_that_is_silent_is_a_note(cluster: &Cluster, place: &Workplace) {
    let pid = fs::read_to_string(cluster.file("run/slurmdbd.pid")).expect("a number");
    let signal = |name: &str| cluster.say("kill", &[name, pid.trim()]);
    signal("-STOP");
    // On a busy machine even the controller may need a second question.
    wait_for("a note of the database's silence", LIMIT, || {
        let silent = with(cluster, place, "check", &format!("{SITE} site.qos=long")).expect_code(0);
        silent.stderr.contains("note: sacctmgr did not answer in time").then_some(())
    });
    signal("-CONT");
    // What the controller says itself still counts.
    signal("-KILL");
    wait_for("the controller's own refusal", LIMIT, || {
        let refused = with(cluster, place, "check", &format!("{SITE} site.partition=gpux"));
        (refused.code == Some(2) && refused.stderr.contains("expected one of main, fenced")).then_some(())
    });
}
