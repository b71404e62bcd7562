//! What is said before a run is resumed: settings that do not fit, checkpoints that are damaged or unnamed, a run that is in
//! progress.
use std::process::Stdio;

use sirocco_tests::material::workplace;
use sirocco_tests::program::Running;

use crate::bench::{Bench, Finished};
use crate::training::{send, wait_for};

fn bench(script: &str) -> Bench {
    let bench = Bench::with_trainer(script);
    workplace(&bench.path(""));
    bench
}

/// A bench with a run that has stopped at step 5; its checkpoint is a directory and nothing in it.
fn begun() -> Bench {
    let bench =
        bench("n=$(ls \"$dir/checkpoints\" 2>/dev/null | grep -c step); step $((n + 5)) 2.5; checkpoint $((n + 5)); exit 75");
    assert_eq!(bench.run(&["train", "run.toml"]).code, Some(75));
    bench
}

#[test]
fn a_flag_is_blamed_for_what_it_breaks_and_the_advice_names_nothing_that_is_settled() {
    let bench = begun();
    for command in ["train", "check"] {
        let finished = bench.run(&[command, "runs/tiny", "--set", "parallel.dp=3"]);
        assert_eq!(finished.code, Some(2), "{finished:?}");
        assert!(
            finished.err.starts_with("error: --set parallel.dp: [train] global_batch = 4 (runs/tiny/run.toml:"),
            "{finished:?}"
        );
        assert!(finished.err.contains("help: global_batch was settled when the run began: choose parallel.dp"), "{finished:?}");
        assert!(!finished.err.contains("set train.global_batch="), "{finished:?}");
        let finished = bench.run(&[command, "runs/tiny", "--set", "train.steps=2"]);
        assert!(finished.err.starts_with("error: --set train.steps: [train] warmup_steps = 2: "), "{finished:?}");
        assert!(finished.err.contains("let the run have more than 2 steps"), "{finished:?}");
        let finished = bench.run(&[command, "runs/tiny", "--set", "train.epochs=0.1"]);
        assert!(finished.err.starts_with("error: --set train.epochs: [train] warmup_steps = 2: "), "{finished:?}");
    }
    assert!(bench.read("runs/tiny/run.toml").contains("\ndp = 1\n"), "nothing was written");
    let finished = bench.run(&["check", "run.toml", "--ranks", "3"]);
    assert!(
        finished.err.starts_with("error: --ranks: [train] global_batch = 4 (run.toml:18): expected a multiple"),
        "{finished:?}"
    );
    assert!(finished.err.contains("help: set train.global_batch=6"), "{finished:?}");
}

#[test]
fn a_run_none_of_whose_checkpoints_is_whole_is_told_how_to_do_it_again() {
    let bench = begun();
    let finished = bench.run(&["check", "runs/tiny"]);
    assert_eq!(finished.code, Some(4), "{finished:?}");
    assert!(
        finished.err.contains("step-00000005 cannot be used: ") && finished.err.contains("there is no good one"),
        "{finished:?}"
    );
    let again = "sirocco train BENCH/runs/tiny/run.toml --dir BENCH/runs/tiny-again\n";
    assert!(finished.err.ends_with(again), "{finished:?}");
    let (file, dir) = (bench.path("runs/tiny/run.toml"), bench.path("runs/tiny-again"));
    let finished = bench.run(&["train", file.to_str().unwrap(), "--dir", dir.to_str().unwrap()]);
    assert_eq!(finished.code, Some(75), "{finished:?}");
    assert!(finished.out.contains("goes on from step 5\n"), "{finished:?}");
}

#[test]
fn a_latest_that_names_nothing_is_told_with_what_to_write() {
    let bench = begun();
    bench.write("runs/tiny/checkpoints/LATEST", "the newest\n");
    let finished = bench.run(&["train", "runs/tiny"]);
    assert_eq!(finished.code, Some(4), "{finished:?}");
    assert!(finished.err.contains("found \"the newest\", expected a name such as step-00000040"), "{finished:?}");
    assert!(finished.err.contains("help: no checkpoint of this run is whole"), "{finished:?}");
}

#[test]
fn where_latest_is_missing_a_run_goes_on_from_the_newest_checkpoint_and_says_so() {
    let bench = begun();
    std::fs::remove_file(bench.path("runs/tiny/checkpoints/LATEST")).unwrap();
    assert_eq!(bench.run(&["status", "runs/tiny", "--json"]).json()["checkpoint"], 5);
    let finished = bench.run(&["train", "runs/tiny", "--until", "6"]);
    assert_eq!(finished.code, Some(75), "{finished:?}");
    let said = "warning: runs/tiny/checkpoints/LATEST is missing: going on from the newest checkpoint, step 5\n";
    assert!(finished.err.starts_with(said), "{finished:?}");
    assert!(finished.err.contains("runs/tiny: 5 of 10 steps done"), "{finished:?}");
}

#[test]
fn a_run_in_progress_is_told_by_every_command_that_wants_it() {
    let bench =
        bench("trap 'exit 75' USR1\nready\nstep 1 2.0\nwhile :; do [ -e \"$dir/save\" ] && checkpoint 1; sleep 0.05; done");
    let mut command = bench.command(&["train", "run.toml"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for("the first step", || bench.path("runs/tiny/metrics.jsonl").exists());
    let who = format!("started by process {} on ", child.id());
    let told = |arguments: &[&str], code: i32, words: &[&str]| {
        let finished = bench.run(arguments);
        assert_eq!(finished.code, Some(code), "{arguments:?}: {finished:?}");
        for word in [&[who.as_str()], words].concat() {
            assert!(finished.err.contains(word), "{arguments:?} lacks {word:?}: {finished:?}");
        }
    };
    let at_work = "runs/tiny: another sirocco train is at work on this run (";
    told(&["train", "runs/tiny"], 2, &[at_work, "sirocco status runs/tiny"]);
    told(&["train", "runs/tiny", "--set", "train.learning_rate=1"], 2, &[at_work]);
    told(&["check", "runs/tiny"], 2, &[at_work]);
    let holds = "runs/tiny already holds the run \"tiny\", which is in progress (";
    told(&["train", "run.toml"], 2, &[holds, "sirocco status runs/tiny"]);
    told(&["check", "run.toml"], 2, &[holds]);
    let export = ["export", "runs/tiny", "--to", "adapter", "--adapter"];
    told(&export, 4, &["runs/tiny is in progress (", "has saved no checkpoint yet", "sirocco status runs/tiny"]);
    bench.write("runs/tiny/save", "");
    wait_for("the checkpoint", || bench.path("runs/tiny/checkpoints/LATEST").exists());
    // What it becomes is the trainer of shell, which then waits for ever.
    let exporting = Running::start(&mut bench.command(&export));
    wait_for("the note", || exporting.stderr().contains("goes up to step 1\n"));
    let said = exporting.stderr();
    assert!(said.starts_with(&format!("note: runs/tiny is in progress ({who}")), "{said}");
    drop(exporting);
    send(&child, "TERM");
    let finished = Finished::new(&child.wait_with_output().unwrap(), &bench.path(""));
    assert_eq!(finished.code, Some(75), "{finished:?}");
    assert!(!bench.run(&["check", "run.toml"]).err.contains("in progress"));
}

#[test]
fn a_damaged_checkpoint_and_a_lock_are_told_with_commands_for_a_shell() {
    let bench = bench("step 5 2.5; checkpoint 5; exit 75");
    assert_eq!(bench.run(&["train", "run.toml", "--dir", "runs/a;b"]).code, Some(75));
    let finished = bench.run(&["check", "runs/a;b"]);
    assert_eq!(finished.code, Some(4), "{finished:?}");
    let again = "sirocco train 'BENCH/runs/a;b/run.toml' --dir 'BENCH/runs/a;b-again'\n";
    assert!(finished.err.ends_with(again), "{finished:?}");
    let finished = bench.run(&["train", "run.toml", "--dir", "runs/a;b"]);
    assert!(finished.err.contains("help: sirocco train 'runs/a;b' resumes it; "), "{finished:?}");
}
