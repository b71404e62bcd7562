//! `sirocco status` beside a real Slurm: why a job waits, when it may start, and what Slurm has forgotten.

use std::fs;

use sirocco_tests::program::{LIMIT, Running, path};
use sirocco_tests::slurm::{Cluster, SOON};
use tempfile::TempDir;

const RUN_FILE: &str = "name = \"far\"\nmodel.path = \"/m\"\ndata.train = [\"/d\"]\ntrain.steps = 60\n";

/// `sirocco status RUN` on a login node of the cluster, for a run with these jobs.
#[track_caller]
fn status(cluster: &Cluster, place: &TempDir, jobs: &[&str]) -> String {
    let run = place.path().join("run");
    fs::create_dir_all(run.join("logs")).expect("a run directory");
    fs::write(run.join("run.toml"), RUN_FILE).expect("a run file");
    let submitted =
        |job: &&str| format!("{{\"time\":1,\"job\":\"{job}\",\"event\":\"submitted\",\"after\":null,\"excluded\":[]}}\n");
    fs::write(run.join("jobs.jsonl"), jobs.iter().map(submitted).collect::<String>()).expect("a record");
    let mut command = cluster.command(&path("sirocco").to_string_lossy(), &["status", "run"], place.path());
    Running::start(&mut command).wait(LIMIT).expect_code(0).stdout
}

#[test]
fn status_tells_what_slurm_says_of_each_job() {
    let Some(cluster) = Cluster::start() else { return };
    let place = TempDir::new().expect("a temporary directory");
    let held = cluster.submit("#!/bin/sh\n#SBATCH --hold\nsleep 600\n", place.path());
    let later = cluster.submit("#!/bin/sh\n#SBATCH --begin=now+1hour\nexit 0\n", place.path());
    let unknown = "999999";
    let said = status(&cluster, &place, &[&held.id, &later.id, unknown]);
    let line = |job: &str| {
        let name = format!("job {job} ");
        said.lines().find(|line| line.starts_with(&name)).unwrap_or_else(|| panic!("no {name}in {said}")).to_owned()
    };
    assert!(line(&held.id).ends_with("queued; Slurm: PENDING, JobHeldUser"), "{said}");
    assert!(line(&later.id).contains("Slurm: PENDING, BeginTime, expected to start 2"), "{said}");
    assert!(line(unknown).ends_with("Slurm does not know it, or not any more"), "{said}");
    assert!(status(&cluster, &place, &[unknown]).contains("Slurm does not know it, or not any more"), "of one job alone");

    cluster.say("scontrol", &["release", &held.id]);
    held.wait_until("RUNNING", SOON);
    assert!(status(&cluster, &place, &[&held.id]).contains("queued; Slurm: RUNNING"), "the record lags behind");
}
