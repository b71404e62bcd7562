//! `sirocco train` from run file to exit code: the trainer is a script, mpirun is the real one.
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use sirocco_tests::material::workplace;
use sirocco_tests::program::{LIMIT, Running, signal};

use crate::bench::{Bench, Finished};

/// Five steps with a checkpoint at the end.
const FIVE_STEPS: &str = "for n in 1 2 3 4 5; do step $n 2.$n; done; checkpoint 5";

/// A bench with a model, data and `run.toml`.
fn bench(script: &str) -> Bench {
    let bench = Bench::with_trainer(script);
    workplace(&bench.path(""));
    bench
}

pub(crate) fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(30), "waited 30 s for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub(crate) fn send(child: &std::process::Child, signal: &str) {
    let sent = Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

#[test]
fn check_says_what_will_happen_and_writes_nothing() {
    let bench = bench("");
    let finished = bench.run(&["check", "run.toml"]);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert!(finished.out.contains("10 steps of 4 sequences, into runs/tiny"), "{finished:?}");
    assert!(!bench.path("runs").exists());
    let json = bench.run(&["check", "run.toml", "--json", "--ranks", "2"]).json();
    assert_eq!((&json["ok"], &json["ranks"], &json["data"]["train"]["documents"]), (&true.into(), &2.into(), &64.into()));
    assert_eq!(json["run"]["parallel"]["dp"], 2);
}

#[test]
fn a_run_from_start_to_summary() {
    let bench = bench("for n in 1 2 3 4 5 6 7 8 9 10; do step $n 2.$n; done; checkpoint 10; valid 10 1.5");
    let finished = bench.run(&["train", "run.toml"]);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert!(finished.out.starts_with("done: runs/tiny, step 10 of 10\n"), "{finished:?}");
    assert!(bench.path("runs/tiny/tokens/train.tokens").is_file() && bench.path("runs/tiny/tokens/valid.tokens").is_file());
    assert!(bench.read("runs/tiny/run.toml").contains("epsilon = "), "the run file is complete");

    let again = bench.run(&["train", "runs/tiny", "--json"]);
    assert_eq!((again.code, &again.json()["state"]), (Some(0), &"complete".into()), "{again:?}");
    let status = bench.run(&["status", "runs/tiny", "--json"]).json();
    assert_eq!((&status["state"], &status["step"], &status["checkpoint"]), (&"done".into(), &10.into(), &10.into()));
    let words = bench.run(&["status", "runs/tiny"]).out;
    assert!(words.starts_with("runs/tiny: done, step 10 of 10\n"), "{words}");
}

#[test]
fn a_run_whose_last_evaluation_was_given_up_is_not_done_before_that() {
    let step = "for n in 1 2 3 4 5 6 7 8 9 10; do step $n 2.$n; done; checkpoint 10; exit 75";
    let bench = bench(&format!("if [ -e \"$dir/checkpoints\" ]; then valid 10 1.5; else {step}; fi"));
    let finished = bench.run(&["train", "run.toml"]);
    assert_eq!(finished.code, Some(75), "{finished:?}");
    assert!(finished.out.starts_with("stopped: runs/tiny, step 10 of 10\n"), "{finished:?}");
    assert!(finished.out.ends_with("next: sirocco train runs/tiny goes on from step 10\n"), "{finished:?}");
    let state = || bench.run(&["status", "runs/tiny", "--json"]).json()["state"].clone();
    assert_eq!(state(), "stopped");
    let finished = bench.run(&["train", "runs/tiny"]);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert!(finished.err.contains("10 of 10 steps done and the last evaluation left"), "{finished:?}");
    assert!(finished.out.starts_with("done: runs/tiny, step 10 of 10\n"), "{finished:?}");
    assert_eq!(state(), "done");
    let finished = bench.run(&["train", "runs/tiny"]);
    assert!(finished.out.starts_with("nothing left to do: runs/tiny"), "{finished:?}");
}

#[test]
fn a_run_directory_is_never_overwritten() {
    let bench = bench(FIVE_STEPS);
    assert_eq!(bench.run(&["train", "run.toml", "--dir", "runs/mine"]).code, Some(0));
    insta::assert_snapshot!("existing-run-directory", bench.run(&["train", "run.toml", "--dir", "runs/mine"]).text());
    insta::assert_snapshot!(
        "existing-run-directory-json",
        bench.run(&["train", "run.toml", "--dir", "runs/mine", "--json"]).text()
    );
    bench.write("notes/plan.txt", "");
    insta::assert_snapshot!("directory-with-other-things", bench.run(&["train", "run.toml", "--dir", "notes"]).text());
    insta::assert_snapshot!("no-run-to-resume", bench.run(&["train", "notes"]).text());
    insta::assert_snapshot!("fixed-at-start", bench.run(&["train", "runs/mine", "--set", "data.sequence_length=32"]).text());
}

#[test]
fn resuming_takes_overrides_and_keeps_them() {
    let bench = bench("[ \"$until\" = 0 ] || exit 1\nfor n in 1 2 3 4 5 6 7 8 9 10 11 12; do step $n 1.$n; done; checkpoint 12");
    let finished = bench.run(&["train", "run.toml", "--until", "5"]);
    assert_eq!(finished.code, Some(1), "the script fails when asked to stop: {finished:?}");
    let finished = bench.run(&["train", "runs/tiny", "--set", "train.steps=12", "--json"]);
    assert_eq!((finished.code, &finished.json()["steps"]), (Some(0), &12.into()), "{finished:?}");
    assert!(bench.read("runs/tiny/run.toml").contains("steps = 12"));
    assert_eq!(bench.run(&["status", "runs/tiny", "--json"]).json()["steps"], 12);
}

#[test]
fn data_that_is_wrong_leaves_no_directory() {
    let bench = bench(FIVE_STEPS);
    bench.write("train.jsonl", "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}]}\n");
    let finished = bench.run(&["train", "run.toml"]);
    assert_eq!(finished.code, Some(4), "{finished:?}");
    assert!(finished.err.starts_with("error: BENCH/train.jsonl:1: "), "{finished:?}");
    assert!(!bench.path("runs/tiny").exists());
    bench.write("train.jsonl", "");
    let finished = bench.run(&["train", "run.toml"]);
    assert_eq!(finished.code, Some(4), "{finished:?}");
    assert!(finished.err.contains("found no target tokens"), "{finished:?}");
}

#[test]
fn a_signal_stops_with_a_checkpoint_and_exit_code_75() {
    let script = "trap 'checkpoint 1; exit 75' USR1\nstep 1 2.0\nwhile :; do sleep 0.05; done";
    for (ranks, signal) in [("1", "TERM"), ("2", "INT"), ("2", "USR1"), ("1", "HUP")] {
        let bench = bench(script);
        let mut command = bench.command(&["train", "run.toml", "--ranks", ranks, "--json"]);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        wait_for("the first step", || bench.path("runs/tiny/metrics.jsonl").exists());
        let busy = bench.run(&["train", "runs/tiny"]);
        assert_eq!(busy.code, Some(2), "{busy:?}");
        assert!(busy.err.contains("another sirocco train is at work"), "{busy:?}");
        assert_eq!(bench.run(&["status", "runs/tiny", "--json"]).json()["state"], "running");
        send(&child, signal);
        let finished = Finished::new(&child.wait_with_output().unwrap(), &bench.path(""));
        assert_eq!(finished.code, Some(75), "{ranks} {signal}: {finished:?}");
        assert_eq!(finished.json()["state"], "stopped");
        assert_eq!(bench.run(&["status", "runs/tiny", "--json"]).json()["state"], "stopped");
    }
}

#[test]
fn a_second_ctrl_c_is_a_stop_and_no_failure() {
    let script = "trap '' USR1 TERM\nready\n[ -e \"$dir/checkpoints\" ] || [ \"$until\" = 0 ] || checkpoint 1\nstep 1 2.0\nwhile :; do sleep 0.05; done";
    for (ranks, until, next) in
        [("1", "3", "goes on from step 1"), ("1", "", "starts from the beginning"), ("2", "3", "goes on from step 1")]
    {
        let bench = bench(script);
        let until = if until.is_empty() { vec![] } else { vec!["--until", until] };
        let running = Running::start(&mut bench.command(&[&["train", "run.toml", "--ranks", ranks], &until[..]].concat()));
        wait_for("the first step", || bench.path("runs/tiny/metrics.jsonl").exists());
        signal("INT", &running.id().to_string());
        // A second signal before the first was taken would be the same one.
        wait_for("the answer to the first", || running.stderr().contains("stopping after this step"));
        signal("INT", &running.id().to_string());
        let finished = running.wait(LIMIT).expect_code(75);
        assert!(finished.stderr.contains("stopping now") && !finished.stderr.contains("error: "), "{ranks}: {finished:?}");
        assert!(finished.stdout.starts_with("stopped: runs/tiny") && finished.stdout.contains(next), "{ranks}: {finished:?}");
    }
}

#[test]
fn the_summary_compares_what_can_be_compared() {
    let valid = "echo '{\"step\":0,\"valid_loss\":3.5}' >>\"$dir/metrics.jsonl\"";
    let mesh = r#",\"mesh\":{\"pp\":1,\"dp\":$size,\"fsdp\":1,\"tp\":1}"#;
    let script = format!(
        "[ $rank = 0 ] || exit 0\nif [ -e \"$dir/checkpoints\" ]; then step 2 1.5 \"{mesh}\"; step 3 1.25 \"{mesh}\"; checkpoint 10; \
         else {valid}; step 1 2.5 \"{mesh}\"; checkpoint 1; exit 75; fi"
    );
    let bench = bench(&script);
    let finished = bench.run(&["train", "run.toml", "--dir", "runs/mine"]);
    assert_eq!(finished.code, Some(75), "{finished:?}");
    assert!(
        finished.out.contains("\nloss           2.5000\nheld-out loss  3.5000\nspeed          40 tokens/s over 1 s, peak"),
        "{finished:?}"
    );
    let finished = bench.run(&["train", "runs/mine", "--ranks", "2"]);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert!(finished.out.contains("\nloss           2.5000 → 1.2500\nheld-out loss  3.5000\n"), "{finished:?}");
    assert!(finished.out.contains(", since step 2, when the mesh changed\n"), "{finished:?}");
    // Named after the directory, not after the run.
    assert!(finished.out.ends_with("next: sirocco export runs/mine --to exports/mine --adapter\n"), "{finished:?}");
    let json = bench.run(&["train", "runs/mine", "--json"]).json();
    assert_eq!((&json["tokens"], &json["tokens_per_s"]), (&60.into(), &40.0.into()), "{json}");
}

#[test]
fn a_signal_right_after_the_start_waits_until_the_ranks_listen() {
    let script = ": >\"$dir/started-$rank\"; sleep 0.7\ntrap 'checkpoint 1; exit 75' USR1\nready\nwhile :; do sleep 0.05; done";
    for ranks in ["1", "2"] {
        let bench = bench(script);
        let mut command = bench.command(&["train", "run.toml", "--ranks", ranks]);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        wait_for("the start", || bench.path("runs/tiny/started-0").exists());
        send(&child, "TERM");
        let finished = Finished::new(&child.wait_with_output().unwrap(), &bench.path(""));
        assert_eq!(finished.code, Some(75), "{ranks}: {finished:?}");
        assert!(finished.out.contains("checkpoint     step 1"), "{ranks}: {finished:?}");
    }
}

#[test]
fn under_nohup_a_run_outlives_the_terminal() {
    let bench = bench("trap 'checkpoint 1; exit 75' USR1\nready\nstep 1 2.0\nwhile :; do sleep 0.05; done");
    let mut command = Command::new("nohup");
    command.arg(bench.path("bin/sirocco")).args(["train", "run.toml"]).current_dir(bench.path(""));
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for("the first step", || bench.path("runs/tiny/metrics.jsonl").exists());
    send(&child, "HUP");
    std::thread::sleep(Duration::from_millis(400));
    assert_eq!(child.try_wait().unwrap(), None);
    send(&child, "TERM");
    assert_eq!(child.wait().unwrap().code(), Some(75));
}

#[test]
fn a_run_is_resumed_with_the_tokens_that_it_began_with() {
    let bench = bench(FIVE_STEPS);
    assert_eq!(bench.run(&["train", "run.toml"]).code, Some(0));
    let text = bench.read("runs/tiny/run.toml");
    let length = text.lines().find(|line| line.starts_with("sequence_length = ")).unwrap();
    bench.write("runs/tiny/run.toml", &text.replace(length, "sequence_length = 96"));
    let finished = bench.run(&["train", "runs/tiny"]);
    assert_eq!(finished.code, Some(4), "{finished:?}");
    assert!(finished.err.contains("expected 96") && finished.err.contains("start a new run"), "{finished:?}");
    bench.write("runs/tiny/run.toml", &text);
    std::fs::remove_file(bench.path("runs/tiny/tokens/train.tokens")).unwrap();
    assert_eq!(bench.run(&["train", "runs/tiny"]).code, Some(0));
    assert!(bench.path("runs/tiny/tokens/train.tokens").is_file());
}

#[test]
fn check_works_in_a_directory_of_its_own_and_removes_it() {
    let bench = bench("");
    std::fs::create_dir(bench.path("tmp")).unwrap();
    let output = bench.command(&["check", "run.toml"]).env("TMPDIR", bench.path("tmp")).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(std::fs::read_dir(bench.path("tmp")).unwrap().count(), 0);
}

#[test]
fn a_killed_rank_is_named() {
    let script =
        "step 1 2.0\nif [ $rank = 1 ]; then sleep 0.3; kill -9 $$; fi\nsleep 0.6; echo 'error: rank 1 is gone' >&2; sleep 20";
    let bench = bench(script);
    let start = Instant::now();
    let finished = bench.run(&["train", "run.toml", "--ranks", "2"]);
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(finished.err.contains("error: rank 1 of 2"), "{finished:?}");
    assert!(finished.err.contains("was killed by signal 9 (SIGKILL)"), "{finished:?}");
    assert!(finished.err.contains("sirocco train runs/tiny"), "{finished:?}");
    assert!(!finished.err.contains("----"), "no banner of mpirun: {finished:?}");
    assert!(start.elapsed() < Duration::from_secs(10));

    let solo = Bench::with_trainer("kill -9 $$");
    workplace(&solo.path(""));
    let finished = solo.run(&["train", "run.toml"]);
    assert!(finished.err.contains("error: rank 0 of 1 was killed by signal 9 (SIGKILL)"), "{finished:?}");
}

#[test]
fn an_error_of_the_ranks_is_shown_once_with_its_exit_code() {
    for ranks in ["1", "2"] {
        let bench = bench("echo 'error: a.safetensors: truncated' >&2; echo 'help: fetch it again' >&2; sleep 0.3; exit 4");
        let finished = bench.run(&["train", "run.toml", "--ranks", ranks, "--json"]);
        assert_eq!(finished.code, Some(4), "{finished:?}");
        assert_eq!(finished.err.matches("truncated").count(), 1, "{finished:?}");
        assert!(finished.err.contains("help: fetch it again"), "{finished:?}");
        assert_eq!(finished.json()["error"]["exit_code"], 4);
    }
}

#[test]
fn the_ranks_share_the_cores_and_get_an_empty_standard_input() {
    let bench = bench("cat >&2; echo done >\"$dir/stdin-$rank\"; for n in 1 2; do step $n 1.0; done; checkpoint 10");
    let finished = bench.run(&["train", "run.toml", "--ranks", "2"]);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert!(bench.path("runs/tiny/stdin-0").exists() && bench.path("runs/tiny/stdin-1").exists());
}

#[test]
fn tokenize_gives_ids_and_answer_spans() {
    let bench = bench("");
    let finished = bench.run(&["tokenize", "--tokenizer", "model", "--chat", "valid.jsonl"]);
    assert_eq!((finished.code, finished.out.lines().count()), (Some(0), 16), "{finished:?}");
    let first: serde_json::Value = serde_json::from_str(finished.out.lines().next().unwrap()).unwrap();
    assert_eq!(first["assistant_spans"].as_array().map(Vec::len), Some(1));
    bench.write("text.jsonl", "{\"text\": \"ab\"}\n{\"txet\": 1}\n");
    let finished = bench.run(&["tokenize", "--tokenizer", "model", "--text", "text.jsonl"]);
    assert_eq!(finished.code, Some(4), "{finished:?}");
    assert!(finished.out.contains("\"assistant_spans\":[]"), "{finished:?}");
    assert!(finished.err.starts_with("error: text.jsonl:2: "), "{finished:?}");
}

#[test]
fn tokenize_ends_when_its_reader_leaves() {
    let bench = bench("");
    let line = "{\"text\": \"ab ab ab ab ab ab ab ab\"}\n";
    // More than could be tokenised in the time that the test waits.
    bench.write("text.jsonl", &line.repeat(2_000_000));
    let mut command = bench.command(&["tokenize", "--tokenizer", "model", "--text", "text.jsonl"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    assert!(first.contains("\"ids\""), "{first}");
    let start = Instant::now();
    let finished = Finished::new(&child.wait_with_output().unwrap(), &bench.path(""));
    assert_eq!((finished.code, finished.err.as_str()), (Some(0), ""), "{finished:?}");
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}
