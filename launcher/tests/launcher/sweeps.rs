//! A directory of runs, as a sweep leaves one: its status, watching it and cancelling it; and what a failed attempt leaves to be read.
use std::fs;

use sirocco_tests::program::{LIMIT, Running};

use crate::bench::{Bench, Finished};
use crate::live::{append, event, step};
use crate::training::wait_for;

const RUN_FILE: &str =
    "name = \"far\"\nmodel.path = \"/m\"\ndata.train = [\"/d\"]\ntrain.steps = 60\ncheckpoint.every_steps = 20\n";

const SUBMITTED: &str = r#""event":"submitted","after":null,"excluded":[]"#;

/// Three runs of the array 9: one trains, one waits, one is done.
fn sweep() -> Bench {
    let bench = Bench::new();
    let file = |run: u64, name: &str| format!("runs/sweep/{run:04}/{name}");
    for run in 0..3 {
        bench.write(&file(run, "run.toml"), RUN_FILE);
        fs::create_dir(bench.path(&file(run, "logs"))).unwrap();
        bench.write(&file(run, "jobs.jsonl"), &event(&format!("9_{run}"), SUBMITTED));
    }
    bench.write(
        "runs/sweep/sweep.toml",
        "# A sweep\n0000 = [\"method.rank=8\"]\n0001 = [\"method.rank=16\"]\n0002 = [\"method.rank=32\"]\n",
    );
    let ranks = r#""event":"ranks","attempt":1,"nodes":["n1"],"ranks":1,"from_step":0"#;
    append(&bench.path(&file(0, "jobs.jsonl")), &event("9_0", ranks));
    bench.write(&file(0, "metrics.jsonl"), &(step(9, 4.0, "") + "{\"step\":0,\"valid_loss\":4.5}\n" + &step(10, 3.5, "")));
    done(&bench, 2);
    bench
}

fn done(bench: &Bench, run: u64) {
    let path = |name: &str| bench.path(&format!("runs/sweep/{run:04}/{name}"));
    append(&path("metrics.jsonl"), &step(60, 2.5, ""));
    fs::create_dir_all(path("checkpoints/step-00000060")).unwrap();
    fs::write(path("checkpoints/LATEST"), "step-00000060\n").unwrap();
    let ended =
        r#""event":"ended","attempt":1,"outcome":"done","step":60,"why":"every step is done","unfit":[],"next":"nothing""#;
    append(&path("jobs.jsonl"), &event(&format!("9_{run}"), ended));
}

/// With commands of Slurm that are `script`, and write down how they were called.
fn with_slurm(bench: &Bench, script: &str, arguments: &[&str]) -> Finished {
    fs::create_dir_all(bench.path("slurm")).unwrap();
    for name in ["squeue", "scancel"] {
        let text = format!("#!/bin/sh\necho \"{name} $*\" >>{}\n{script}\n", bench.path("asked").display());
        bench.write_program(&format!("../slurm/{name}"), &text);
    }
    let path = format!("{}:/usr/bin:/bin", bench.path("slurm").display());
    Finished::new(&bench.command(arguments).env("PATH", path).output().unwrap(), &bench.path(""))
}

#[test]
fn the_status_of_a_sweep_is_a_line_for_each_run() {
    let bench = sweep();
    let queue = "echo '10|9_0|RUNNING|None|N/A'; echo '9|9_1|PENDING|Resources|N/A'";
    let said = with_slurm(&bench, queue, &["status", "runs/sweep"]);
    let expected = "\
runs/sweep: 3 runs: 1 running, 1 queued, 1 done
run   state               step      loss    held-out loss  left      job  settings
0000  running             10 of 60  3.5000  4.5000         1:40 min  9_0  rank=8
0001  queued (Resources)  0 of 60                                    9_1  rank=16
0002  done                60 of 60  2.5000                           9_2  rank=32
";
    assert_eq!((said.out.as_str(), said.err.as_str()), (expected, ""), "{said:?}");
    assert_eq!(bench.read("asked").lines().count(), 1, "Slurm is asked once");
    let json = with_slurm(&bench, queue, &["status", "runs/sweep", "--json"]).json();
    assert_eq!((&json["run_dir"], json["runs"].as_array().unwrap().len()), (&"runs/sweep".into(), 3));
    assert_eq!(
        (&json["runs"][1]["chain"][0]["slurm"]["reason"], &json["runs"][0]["left_s"]),
        (&"Resources".into(), &100.0.into())
    );
    bench.write("runs/sweep/0001/run.toml", "name = 3\n");
    let damaged = with_slurm(&bench, queue, &["status", "runs/sweep"]);
    assert!(damaged.out.contains("2 runs: 1 running, 1 done") && damaged.err.contains("note: left out: "), "{damaged:?}");
    let refused = bench.run(&["logs", "runs/sweep"]);
    assert!(refused.code == Some(2) && refused.err.contains("name one, such as runs/sweep/0000"), "{refused:?}");
}

#[test]
fn a_sweep_is_watched_until_its_last_run_has_ended() {
    let bench = sweep();
    let watching = Running::start(&mut bench.command(&["watch", "runs/sweep"]));
    let as_json = Running::start(&mut bench.command(&["watch", "runs/sweep", "--json"]));
    wait_for("the last line of the first look", || watching.stdout().contains("runs/sweep/0002"));
    wait_for("three objects", || as_json.stdout().lines().count() == 3);
    append(&bench.path("runs/sweep/0001/jobs.jsonl"), &event("9_1", r#""event":"cancelled""#));
    done(&bench, 0);
    let said = watching.wait(LIMIT).expect_code(0).stdout;
    for line in [
        "running: runs/sweep/0000, step 10 of 60, loss 3.5000, held-out loss 4.5000, 1:40 min left  (rank=8)\n",
        "queued: runs/sweep/0001, step 0 of 60  (rank=16)\n",
        "done: runs/sweep/0002, step 60 of 60, loss 2.5000  (rank=32)\n",
        "cancelled: runs/sweep/0001, step 0 of 60  (rank=16)\n",
        "done: runs/sweep/0000, step 60 of 60, loss 2.5000, held-out loss 4.5000  (rank=8)\n",
    ] {
        assert!(said.contains(line), "{line}{said}");
    }
    assert!(said.ends_with("runs/sweep: 3 runs: 2 done, 1 cancelled\n") && said.lines().count() == 6, "{said}");
    let objects = as_json.wait(LIMIT).expect_code(0).stdout;
    let last: serde_json::Value = serde_json::from_str(objects.lines().last().unwrap()).unwrap();
    assert!(last["run_dir"].as_str().is_some_and(|run| run.starts_with("runs/sweep/")) && last["state"].is_string(), "{objects}");
}

#[test]
fn cancelling_a_sweep_removes_what_waits_before_what_runs_is_stopped() {
    let bench = sweep();
    let queue =
        "case \"$0\" in *squeue) echo '9_0|RUNNING|far.1'; echo '9_1|PENDING|far.1'; echo '7|RUNNING|other';; *) exit 1;; esac";
    let said = with_slurm(&bench, queue, &["cancel", "runs/sweep"]);
    let expected = "\
runs/sweep/0000: job 9_0 stops at its next step, with a checkpoint
runs/sweep/0001: job 9_1 was removed before it ran
runs/sweep: 3 runs, 2 cancelled; of 1 no job waits or runs
to go on with one: sirocco submit runs/sweep/0000
";
    // scancel fails without a word where a job has ended meanwhile: that is what was wanted.
    assert_eq!((said.code, said.out.as_str()), (Some(0), expected), "{said:?}");
    let asked = bench.read("asked");
    let cancels: Vec<&str> = asked.lines().filter(|line| line.starts_with("scancel")).collect();
    assert_eq!(cancels, ["scancel 9_1", "scancel --signal=USR1 9_0"]);
    for run in [0, 1] {
        let record = bench.read(&format!("runs/sweep/{run:04}/jobs.jsonl"));
        assert!(record.ends_with(&format!("\"job\":\"9_{run}\",\"event\":\"cancelled\"}}\n")), "{record}");
    }
    assert!(!bench.read("runs/sweep/0002/jobs.jsonl").contains("cancelled"), "what is done stays done");
    let none = with_slurm(&bench, "", &["cancel", "runs/sweep"]);
    assert_eq!(none.out, "runs/sweep: 3 runs, 0 cancelled; of 3 no job waits or runs\n");
}

#[test]
fn a_failed_attempt_is_told_with_its_record_until_somebody_cancels() {
    let bench = sweep();
    let run = "runs/sweep/0000";
    let record = bench.path("runs/sweep/0000/jobs.jsonl");
    let failed = r#""event":"ended","attempt":1,"outcome":"failed","step":0,"why":"rank 1 of 4 was killed by signal 9 (SIGKILL)\n  rank 0: rank 1 died","unfit":[],"next":"again""#;
    append(&record, &event("9_0", failed));
    append(&record, &event("9_0", r#""event":"ranks","attempt":2,"nodes":["n1"],"ranks":1,"from_step":0"#));
    let said = with_slurm(&bench, "exit 1", &["status", run]).out;
    for line in [
        "last failure   rank 1 of 4 was killed by signal 9 (SIGKILL)\n",
        "record         runs/sweep/0000/logs has what it wrote\n",
        "job 9_0        running, steps 0 to 10, on n1; attempt 1 failed: rank 1 of 4 was killed by signal 9 (SIGKILL)",
    ] {
        assert!(said.contains(line), "{line}{said}");
    }
    let watching = Running::start(&mut bench.command(&["watch", run]));
    wait_for("the attempt", || watching.stdout().contains("job 9_0  running  attempt 1 failed: rank 1 of 4 was killed"));
    append(&record, &event("9_0", r#""event":"cancelled""#));
    watching.wait(LIMIT).expect_code(0);
    let said = with_slurm(&bench, "exit 1", &["status", run]).out;
    assert!(said.starts_with("runs/sweep/0000: cancelled") && !said.contains("killed"), "{said}");
}

#[test]
fn a_run_without_slurm_whose_ranks_were_killed_says_so_and_where_to_read_on() {
    let bench = sweep();
    let run = "runs/sweep/0000";
    fs::remove_file(bench.path("runs/sweep/0000/jobs.jsonl")).unwrap();
    let log = bench.path("runs/sweep/0000/logs/rank-00000.log");
    let line = |text: &str| format!("2026-11-22T12:00:00.500000Z {text}\n");
    append(&log, &line(" INFO sirocco_train::run: started rank=0 ranks=1 host=\"elsewhere\" process=1"));
    append(&log, &line("ERROR sirocco_train::run: rank 1 (process 7 on n1) died; noticed in `step`"));
    let status = bench.run(&["status", run]);
    let expected = "last failure   rank 0: rank 1 (process 7 on n1) died; noticed in `step`\nrecord         runs/sweep/0000/logs/rank-00000.log has what it wrote\n";
    assert!(status.out.starts_with("runs/sweep/0000: stopped") && status.out.contains(expected), "{status:?}");
    assert_eq!(bench.run(&["status", run, "--json"]).json()["record"], "runs/sweep/0000/logs/rank-00000.log");
    let watched = bench.run(&["watch", run]).out;
    assert!(
        watched.ends_with("; rank 0: rank 1 (process 7 on n1) died; noticed in `step` (runs/sweep/0000/logs/rank-00000.log)\n"),
        "{watched}"
    );
    append(&log, &line(" INFO sirocco_train::run: started rank=0 ranks=1 host=\"elsewhere\" process=2"));
    append(&log, &line(" INFO sirocco_train::run: stopped on request after step 10 of 60, with a checkpoint"));
    assert!(!bench.run(&["status", run]).out.contains("last failure"));
}

#[test]
fn logs_of_a_job_that_waits_say_since_when_and_are_waited_for() {
    let bench = sweep();
    let run = "runs/sweep/0001";
    let refused = bench.run(&["logs", run]);
    let words = "error: runs/sweep/0001 has no logs yet: job 9_1 has waited for Slurm since 2023-11-14 22:13:20 UTC (";
    assert!(refused.code == Some(2) && refused.err.starts_with(words), "{refused:?}");
    let running = Running::start(&mut bench.command(&["logs", run, "--follow"]));
    wait_for("a note", || {
        running.stderr().contains("job 9_1 has waited for Slurm") && running.stderr().contains("waiting for its logs")
    });
    append(&bench.path("runs/sweep/0001/logs/job-9_1.out"), "testing nodes\n");
    wait_for("the job", || running.stdout() == "job 9_1: testing nodes\n");
    append(&bench.path("runs/sweep/0001/logs/rank-00000.log"), "begun\n");
    wait_for("the rank", || running.stdout() == "job 9_1: testing nodes\nrank 0: begun\n");
    sirocco_tests::program::signal("INT", &running.id().to_string());
    running.wait(LIMIT).expect_code(0);
    append(&bench.path("runs/sweep/0002/jobs.jsonl"), &event("9_2", r#""event":"cancelled""#));
    append(&bench.path("runs/sweep/0001/jobs.jsonl"), &event("9_1", r#""event":"cancelled""#));
    fs::remove_dir_all(bench.path("runs/sweep/0001/logs")).unwrap();
    let refused = bench.run(&["logs", run]).err;
    assert!(refused.contains("job 9_1 was cancelled before it wrote any") && !refused.contains("waits for them"), "{refused}");
}
