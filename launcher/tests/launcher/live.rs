//! `sirocco logs`, `sirocco status` and `sirocco watch` without a terminal: directories as jobs and ranks leave them, at work and afterwards.
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use sirocco_tests::material::workplace;
use sirocco_tests::program::{LIMIT, Running, signal};

use crate::bench::{Bench, Finished};
use crate::training::wait_for;

const RUN_FILE: &str = "name = \"far\"\nmodel.path = \"/m\"\ndata.train = [\"/d\"]\nparallel.dp = 2\ntrain.steps = 60\ncheckpoint.every_steps = 20\n";

/// Where the run is, in a bench.
pub(crate) const RUN: &str = "runs/far";

/// A bench with a run that others work on.
pub(crate) fn far_away() -> Bench {
    let bench = Bench::new();
    bench.write("runs/far/run.toml", RUN_FILE);
    fs::create_dir(bench.path("runs/far/logs")).unwrap();
    bench
}

pub(crate) fn append(path: &Path, text: &str) {
    let mut file = fs::File::options().create(true).append(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

pub(crate) fn step(number: u64, loss: f64, more: &str) -> String {
    format!(
        "{{\"step\":{number},\"loss\":{loss},\"tokens\":20,\"grad_norm\":1.5,\"learning_rate\":0.0002,\"seconds\":2.0,\"tokens_per_s\":10.0,\
         \"peak_memory_bytes\":1500000000,\"peak_memory_rank\":1{more}}}\n"
    )
}

pub(crate) fn event(job: &str, what: &str) -> String {
    format!("{{\"time\":1700000000,\"job\":\"{job}\",{what}}}\n")
}

/// Job 7 stopped at step 40, job 8 waits for Slurm.
fn a_chain(bench: &Bench) {
    let started = r#""event":"started","nodes":["n1","n2","n3"],"ends":1700000600,"restarts":0"#;
    let ended = r#""event":"ended","attempt":1,"outcome":"stopped","step":40,"why":"the time was nearly up","unfit":[],"next":{"job":"8"}"#;
    let events = [
        event("7", r#""event":"submitted","after":null,"excluded":[]"#),
        event("8", r#""event":"submitted","after":"7","excluded":[]"#),
        event("7", started),
        event("7", r#""event":"tested","seconds":0.5,"unfit":[{"node":"n3","why":"no memory"}]"#),
        event("7", r#""event":"ranks","attempt":1,"nodes":["n1","n2"],"ranks":2,"from_step":0"#),
        event("7", ended),
    ];
    bench.write("runs/far/jobs.jsonl", &events.concat());
    bench.write(
        "runs/far/metrics.jsonl",
        &(step(39, 3.5, "") + &step(40, 3.25, r#","slowest_rank":{"rank":1,"seconds":3.6,"median_seconds":2.0}"#)),
    );
}

/// With `squeue` as `script` says, and no other.
fn with_squeue(bench: &Bench, script: &str, arguments: &[&str]) -> Finished {
    fs::create_dir_all(bench.path("slurm")).unwrap();
    bench.write_program("../slurm/squeue", &format!("#!/bin/sh\n{script}\n"));
    let path = format!("{}:/usr/bin:/bin", bench.path("slurm").display());
    Finished::new(&bench.command(arguments).env("PATH", path).output().unwrap(), &bench.path(""))
}

#[test]
fn status_tells_the_chain_and_what_slurm_says_of_it() {
    let bench = far_away();
    a_chain(&bench);
    let said = "echo \"$*\" >&2; echo '8|8|PENDING|Resources|2026-11-22T13:30:00'";
    let words = with_squeue(&bench, said, &["status", RUN]);
    assert_eq!(words.code, Some(0), "{words:?}");
    for line in [
        "runs/far: queued, step 40 of 60\n",
        "slowest        rank 1, 1.8 × median\n",
        "job 7          stopped, steps 0 to 40, on n1, n2; the time was nearly up; job 8 follows; n3 is not fit: no memory\n",
        "job 8          queued, after job 7; Slurm: PENDING, Resources, expected to start 2026-11-22T13:30:00\n",
    ] {
        assert!(words.out.contains(line), "{line}{words:?}");
    }
    let json = with_squeue(&bench, said, &["status", RUN, "--json"]).json();
    assert_eq!(
        (&json["state"], &json["slurm_answers"], &json["slowest_rank"]["rank"]),
        (&"queued".into(), &true.into(), &1.into())
    );
    let chain = &json["chain"];
    assert_eq!(
        (&chain[0]["state"], &chain[0]["steps_done"], &chain[0]["next"]["job"]),
        (&"stopped".into(), &40.into(), &"8".into())
    );
    assert_eq!((&chain[1]["slurm"]["reason"], &chain[1]["steps_done"]), (&"Resources".into(), &serde_json::Value::Null));
    // Only what is not over is asked about.
    let asked = with_squeue(&bench, "echo \"$*\" >asked", &["status", RUN]);
    assert!(asked.out.contains("Slurm does not know it, or not any more"), "{asked:?}");
    assert!(bench.read("asked").contains("--jobs=8\n"), "{}", bench.read("asked"));
}

#[test]
fn where_slurm_is_silent_status_tells_what_was_recorded() {
    let bench = far_away();
    a_chain(&bench);
    let down =
        with_squeue(&bench, "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1", &["status", RUN]);
    assert_eq!(down.code, Some(0), "{down:?}");
    let said = "slurm          Slurm does not answer (slurm_load_jobs error: Unable to contact slurm controller); what follows is what was recorded\n";
    assert!(down.out.contains(said) && down.out.contains("job 8          queued, after job 7\n"), "{down:?}");
    let json = with_squeue(&bench, "exit 1", &["status", RUN, "--json"]).json();
    assert_eq!((&json["slurm_answers"], json["slurm_silence"].is_string()), (&false.into(), true));
    let start = Instant::now();
    let hung = with_squeue(&bench, "sleep 60", &["status", RUN]);
    assert!(hung.out.contains("squeue took more than 10 s") && start.elapsed() < Duration::from_secs(20), "{hung:?}");
    fs::remove_file(bench.path("slurm/squeue")).unwrap();
    let without = bench.command(&["status", RUN]).env("PATH", bench.path("slurm")).output().unwrap();
    assert!(String::from_utf8_lossy(&without.stdout).contains("squeue is not on PATH"), "{without:?}");
}

#[test]
fn a_run_that_was_only_submitted_has_a_status() {
    let bench = far_away();
    fs::remove_dir(bench.path("runs/far/logs")).unwrap();
    bench.write("runs/far/jobs.jsonl", &event("7", r#""event":"submitted","after":null,"excluded":[]"#));
    let status = with_squeue(&bench, "exit 1", &["status", RUN, "--json"]).json();
    assert_eq!(
        (&status["state"], &status["chain"][0]["state"], &status["step"]),
        (&"queued".into(), &"queued".into(), &0.into())
    );
}

#[test]
fn status_says_where_ranks_are() {
    let bench = far_away();
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let started = |rank: u64, host: &str, process: u32| {
        let line = format!(
            "2026-11-22T11:55:39Z  INFO sirocco_train::run: started rank={rank} ranks=2 host=\"{host}\" process={process}\n"
        );
        bench.write(&format!("runs/far/logs/rank-{rank:05}.log"), &line);
    };
    started(0, host.trim(), std::process::id());
    started(1, "n2", 77);
    bench.write("runs/far/jobs.jsonl", &event("7", r#""event":"ranks","attempt":1,"nodes":["n1","n2"],"ranks":2,"from_step":0"#));
    let words = with_squeue(&bench, "exit 1", &["status", RUN]).out;
    assert!(
        words.contains("rank 1         on n2, process 77, newest line ")
            && words.contains(&format!("process {}, ", std::process::id())),
        "{words}"
    );
    let json = with_squeue(&bench, "exit 1", &["status", RUN, "--json"]).json();
    let ranks = &json["ranks"];
    assert_eq!(
        (&ranks[0]["alive"], &ranks[1]["alive"], &ranks[1]["host"]),
        (&true.into(), &serde_json::Value::Null, &"n2".into())
    );
}

#[test]
fn logs_are_the_last_lines_of_ranks_and_jobs() {
    let bench = far_away();
    let refused = bench.run(&["logs", RUN]);
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(
        refused.err.contains("has no logs yet: no rank was started, and no job submitted")
            && refused.err.contains("--follow waits"),
        "{refused:?}"
    );
    bench.write("runs/far/logs/job-7.out", "old\n");
    std::thread::sleep(Duration::from_millis(20));
    bench.write("runs/far/logs/job-12.out", "testing nodes\nerror: no node is fit");
    assert_eq!(bench.run(&["logs", RUN]).out, "job 12: testing nodes\njob 12: error: no node is fit\n");
    assert_eq!(bench.run(&["logs", RUN, "--job", "7"]).out, "old\n");
    let lines: String = (1..=30).map(|number| format!("zero {number}\n")).collect();
    bench.write("runs/far/logs/rank-00000.log", &lines);
    bench.write("runs/far/logs/rank-00001.log", "one 1\none \u{fffd}2\n");
    let all = bench.run(&["logs", RUN, "--lines", "2"]).out;
    assert_eq!(all, "rank 0: zero 29\nrank 0: zero 30\nrank 1: one 1\nrank 1: one \u{fffd}2\n");
    assert_eq!(bench.run(&["logs", RUN, "--rank", "0"]).out.lines().count(), 10);
    assert_eq!(bench.run(&["logs", RUN, "--rank", "1", "-n", "1"]).out, "one \u{fffd}2\n");
    let both = bench.run(&["logs", RUN, "--rank", "0", "--job", "7", "-n", "1", "--json"]).out;
    assert_eq!(both, "{\"rank\":0,\"job\":null,\"line\":\"zero 30\"}\n{\"rank\":null,\"job\":\"7\",\"line\":\"old\"}\n");
    for (wrong, word) in [
        (&["--rank", "2"][..], "runs/far has 2 ranks, from 0"),
        (&["--job", "9"], "job-9.out is not there"),
        (&["--job", "../../run"], "expected a number that Slurm gave"),
    ] {
        let refused = bench.run(&[&["logs", RUN], wrong].concat());
        assert!(refused.code == Some(2) && refused.err.contains(word), "{refused:?}");
    }
}

#[test]
fn logs_are_followed_as_they_grow_appear_and_are_rotated() {
    let bench = far_away();
    let log = |rank: u64| bench.path(&format!("runs/far/logs/rank-{rank:05}.log"));
    append(&log(0), "zero 1\nzero 2\nhal");
    let running = Running::start(&mut bench.command(&["logs", RUN, "-n", "1", "--follow"]));
    let says = |text: &str| wait_for(text, || running.stdout() == text);
    says("rank 0: zero 2\n");
    append(&log(0), "f\n");
    says("rank 0: zero 2\nrank 0: half\n");
    append(&log(1), "one 1\none 2\n");
    says("rank 0: zero 2\nrank 0: half\nrank 1: one 1\nrank 1: one 2\n");
    fs::rename(log(0), bench.path("runs/far/logs/rank-00000.log.1")).unwrap();
    append(&log(0), "anew\n");
    says("rank 0: zero 2\nrank 0: half\nrank 1: one 1\nrank 1: one 2\nrank 0: anew\n");
    signal("INT", &running.id().to_string());
    let finished = running.wait(LIMIT).expect_code(0);
    assert_eq!(finished.stderr.matches("note: ").count(), finished.stderr.lines().count(), "{finished:?}");

    let running = Running::start(&mut bench.command(&["logs", RUN, "--job", "9", "--follow"]));
    wait_for("a note", || running.stderr().contains("job-9.out is not there; waiting for it"));
    append(&bench.path("runs/far/logs/job-9.out"), "begun\n");
    wait_for("begun", || running.stdout() == "begun\n");
    signal("TERM", &running.id().to_string());
    running.wait(LIMIT).expect_code(0);
}

#[test]
fn whoever_leaves_ends_what_they_read() {
    let bench = far_away();
    append(&bench.path("runs/far/logs/rank-00000.log"), "one\ntwo\n");
    bench.write("runs/far/jobs.jsonl", &event("7", r#""event":"ranks","attempt":1,"nodes":["n1"],"ranks":2,"from_step":0"#));
    for arguments in [&["logs", RUN, "--follow"][..], &["watch", RUN]] {
        let mut child = bench.command(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(!line.is_empty());
        // Nothing is written any more, and still they end.
        let start = Instant::now();
        assert_eq!(child.wait().unwrap().code(), Some(0), "{arguments:?}");
        assert!(start.elapsed() < Duration::from_secs(5), "{arguments:?}: {:?}", start.elapsed());
    }
}

#[test]
fn a_run_is_told_in_lines_until_its_end() {
    let bench = Bench::with_trainer(
        "for n in 1 2 3; do step $n 2.$n; sleep 0.7; done; valid 3 1.25; step 4 9.5 ',\"loss_spike\":true'\n\
         for n in 5 6 7 8 9 10; do step $n 2.$n; done; checkpoint 10; valid 10 1.125",
    );
    workplace(&bench.path(""));
    let training = Running::start(&mut bench.command(&["train", "run.toml"]));
    wait_for("a first step", || bench.path("runs/tiny/metrics.jsonl").is_file());
    let watching = Running::start(&mut bench.command(&["watch", "runs/tiny"]));
    let as_json = Running::start(&mut bench.command(&["watch", "runs/tiny", "--json"]));
    training.wait(LIMIT).expect_code(0);
    let said = watching.wait(LIMIT).expect_code(0).stdout;
    for line in [
        "runs/tiny: running, step ",
        "step 3/10  loss 2.3000  rate 1.00e-1  norm 1.000  40 tokens/s  1.0 MB  ",
        "warning: the loss jumped from 2.3000 to 9.5000 at step 4\n",
        "step 10  held-out loss 1.1250\n",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    assert!(said.ends_with("done: runs/tiny, step 10 of 10, loss 2.1000, held-out loss 1.1250\n"), "{said}");
    assert!((4..=10).all(|number| said.contains(&format!("step {number}/10  loss "))), "{said}");
    let objects: Vec<serde_json::Value> =
        as_json.wait(LIMIT).expect_code(0).stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let last = &objects[objects.len() - 1];
    assert_eq!(
        (&last["state"], &last["step"], &last["valid_loss"], &last["checkpoint"]),
        (&"done".into(), &10.into(), &1.125.into(), &10.into())
    );
    assert!(
        objects.iter().any(|object| object["warnings"][0].as_str().is_some_and(|warning| warning.starts_with("the loss jumped")))
    );

    // Afterwards: the newest step and the end, at once.
    let after = bench.run(&["watch", "runs/tiny"]);
    assert_eq!((after.code, after.out.lines().count()), (Some(0), 3), "{after:?}");
}

#[test]
fn of_a_chain_that_is_under_way_only_the_job_that_counts_is_told() {
    let bench = far_away();
    a_chain(&bench);
    let watching = Running::start(&mut bench.command(&["watch", RUN]));
    wait_for("a first line", || watching.stdout().contains("step 40/60"));
    append(&bench.path("runs/far/jobs.jsonl"), &event("8", r#""event":"cancelled""#));
    let said = watching.wait(LIMIT).expect_code(0).stdout;
    assert!(said.starts_with("job 8  queued\nruns/far: queued, step 40 of 60\nstep 40/60  loss 3.2500"), "{said}");
    assert!(
        said.ends_with("job 8  cancelled\ncancelled: runs/far, step 40 of 60, loss 3.2500\n") && !said.contains("job 7"),
        "{said}"
    );
}

#[test]
fn one_line_in_so_many_seconds_is_one() {
    let bench = far_away();
    let metrics = bench.path("runs/far/metrics.jsonl");
    bench.write("runs/far/jobs.jsonl", &event("7", r#""event":"ranks","attempt":1,"nodes":["n1"],"ranks":2,"from_step":0"#));
    append(&metrics, &step(1, 4.0, ""));
    let watching = Running::start(&mut bench.command(&["watch", RUN, "--every", "3600"]));
    wait_for("a first line", || watching.stdout().contains("step 1/60"));
    (2..=9).for_each(|number| append(&metrics, &step(number, 4.0, "")));
    // Cut off, as by a run that is resumed, and not there at all for a while.
    fs::write(&metrics, step(1, 4.0, "")).unwrap();
    fs::remove_file(&metrics).unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    append(&metrics, &(step(59, 4.0, "") + &step(60, 3.0, "")));
    fs::create_dir_all(bench.path("runs/far/checkpoints/step-00000060")).unwrap();
    bench.write("runs/far/checkpoints/LATEST", "step-00000060\n");
    let ended =
        r#""event":"ended","attempt":1,"outcome":"done","step":60,"why":"every step is done","unfit":[],"next":"nothing""#;
    append(&bench.path("runs/far/jobs.jsonl"), &event("7", ended));
    let said = watching.wait(LIMIT).expect_code(0).stdout;
    assert_eq!(
        said.matches("step ").count() - said.matches("loss").count(),
        1,
        "the two lines of where it begins and ends: {said}"
    );
    assert!(said.ends_with("job 7  done\ndone: runs/far, step 60 of 60, loss 3.0000\n"), "{said}");
}
