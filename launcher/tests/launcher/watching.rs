//! What a person hears of a run besides its progress, and what happens when they stop it before it has begun.
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use sirocco_checkpoint::{Checkpoints, Cursor, Dtype, Fragment, Mesh, Pace, Piece, RunState};
use sirocco_tests::material::workplace;
use sirocco_tests::program::{Running, signal};
use sirocco_tests::safetensors::header_length;

use crate::bench::{Bench, Finished};
use crate::training::{send, wait_for};

fn bench(script: &str) -> Bench {
    let bench = Bench::with_trainer(script);
    workplace(&bench.path(""));
    bench
}

#[test]
fn skipped_steps_jumps_and_slow_ranks_are_told_once() {
    let slow = r#",\"slowest_rank\":{\"rank\":1,\"seconds\":3.0,\"median_seconds\":1.0},\"peak_memory_rank\":1"#;
    let script = format!(
        "step 1 2.5\nstep 2 null ',\"skipped\":true'\nstep 3 9.5 ',\"loss_spike\":true'\nstep 4 2.25 \"{slow}\"\nstep 5 2.0 \"{slow}\"\n\
         checkpoint 5\nexit 75"
    );
    let bench = bench(&script);
    let finished = bench.run(&["train", "run.toml"]);
    assert_eq!(finished.code, Some(75), "{finished:?}");
    for line in [
        "warning: step 2 was skipped: its loss or its gradients were not finite",
        "warning: the loss jumped from 2.5000 to 9.5000 at step 3",
        "warning: rank 1 is slow: step 4 took it 3.00 s of computing, half of the others 1.00 s or less",
    ] {
        assert_eq!(finished.err.matches(line).count(), 1, "{line}: {finished:?}");
    }
    assert_eq!(finished.err.matches("is slow").count(), 1, "{finished:?}");
    assert!(finished.out.contains("loss           2.5000 → 2.0000\n"), "{finished:?}");
    let row = "skipped        1 step, with a loss or gradients that were not finite\n";
    assert!(finished.out.contains(row), "{finished:?}");
    assert!(bench.run(&["status", "runs/tiny"]).out.contains(row));
    let status = bench.run(&["status", "runs/tiny", "--json"]).json();
    assert_eq!((&status["skipped_steps"], &status["loss"], &status["step"]), (&1.into(), &2.0.into(), &5.into()));
}

#[test]
fn a_run_whose_last_step_has_no_loss_shows_the_one_before() {
    let bench = bench("step 1 2.5\nstep 2 null ',\"skipped\":true'\ncheckpoint 2\nexit 75");
    assert_eq!(bench.run(&["train", "run.toml"]).code, Some(75));
    let status = bench.run(&["status", "runs/tiny", "--json"]).json();
    assert_eq!((&status["loss"], &status["step"]), (&2.5.into(), &2.into()));
}

#[test]
fn training_on_the_validation_file_is_noted() {
    let bench = bench("");
    let finished = bench.run(&["check", "run.toml", "--set", "data.valid=[\"./train.jsonl\"]"]);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert!(finished.err.contains("note: BENCH/train.jsonl is in [data] train and in valid: "), "{finished:?}");
    assert_eq!(bench.run(&["check", "run.toml"]).err, "");
}

/// Starts a command that tokenises for long, stops it once `begun` exists, and returns how it ended.
fn interrupted(bench: &Bench, arguments: &[&str], signal: &str, begun: &dyn Fn() -> bool) -> Finished {
    let mut command = bench.command(arguments);
    command.args(["--set", "data.format=text", "--set", "data.train=[\"text.jsonl\"]", "--set", "data.valid=[]"]);
    let command = command.env("TMPDIR", bench.path("tmp")).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    wait_for("tokenising", begun);
    send(&child, signal);
    let start = Instant::now();
    let finished = Finished::new(&child.wait_with_output().unwrap(), &bench.path(""));
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    finished
}

fn holds_something(directory: &Path) -> bool {
    std::fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_some())
}

#[test]
fn a_stop_while_tokenising_leaves_nothing_behind() {
    let bench = bench("");
    // More than could be tokenised in the time that the test waits.
    bench.write("text.jsonl", &"{\"text\": \"ab ab ab ab ab ab ab ab\"}\n".repeat(2_000_000));
    std::fs::create_dir(bench.path("tmp")).unwrap();
    let tokens = bench.path("runs/tiny/tokens");
    let finished = interrupted(&bench, &["train", "run.toml"], "INT", &|| holds_something(&tokens));
    insta::assert_snapshot!("stopped-while-tokenising", finished.text());
    assert!(!bench.path("runs/tiny").exists());

    let finished = interrupted(&bench, &["check", "run.toml", "--json"], "TERM", &|| holds_something(&bench.path("tmp")));
    assert_eq!(finished.code, Some(75), "{finished:?}");
    assert_eq!(finished.json()["error"]["kind"], "stopped");
    assert!(!holds_something(&bench.path("tmp")));
}

/// Adds to the weights of a model a tensor that nobody asks for, of so many zeros that to read them takes many times as long as
/// the test; they take no room on disk.
fn make_long_to_read(weights: &Path) {
    const BYTES: u64 = 200_000_000_000;
    let file = std::fs::read(weights).unwrap();
    let (header, data) = file[8..].split_at(header_length(&file));
    let mut header: serde_json::Value = serde_json::from_slice(header).unwrap();
    let from = data.len() as u64;
    header["spare"] = serde_json::json!({"dtype": "U8", "shape": [BYTES], "data_offsets": [from, from + BYTES]});
    let header = header.to_string();
    std::fs::write(weights, [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()).unwrap();
    let file = std::fs::File::options().write(true).open(weights).unwrap();
    file.set_len(8 + header.len() as u64 + from + BYTES).unwrap();
}

/// A checkpoint of step 5 as the run in `bench` would have saved it; the digest of its base aside.
fn save_checkpoint(bench: &Bench) {
    let run = sirocco_config::RunFile::read(&bench.path("runs/tiny/run.toml")).unwrap().check(&bench.path("")).unwrap();
    let tokens = sirocco_tokens::TokenCache::open(&bench.path("runs/tiny/tokens/train.tokens")).unwrap();
    let all = Checkpoints::new(&bench.path("runs/tiny"));
    let writer = all.begin(5).unwrap();
    let piece = Piece::whole(&[1]);
    let fragment = Fragment { name: "w".into(), dtype: Dtype::F32, piece, data: &[0; 4] };
    let record = writer.write_shard(0, &[fragment], &Pace::full()).unwrap();
    let state = RunState {
        step: 5,
        cursor: Cursor { seed: 7, epoch: 0, sample: 20 },
        mesh: Mesh { pp: 1, dp: 1, fsdp: 1, tp: 1 },
        config_digest: run.settled_digest(),
        model_digest: String::new(),
        data_digest: tokens.digest().to_owned(),
    };
    all.publish(writer, vec![record], state).unwrap();
}

#[test]
fn a_check_can_be_stopped_while_it_reads_the_base() {
    let bench = bench("step 5 2.5; exit 75");
    assert_eq!(bench.run(&["train", "run.toml"]).code, Some(75));
    save_checkpoint(&bench);
    let finished = bench.run(&["check", "runs/tiny"]);
    assert_eq!(finished.code, Some(4), "{finished:?}");
    assert!(finished.err.contains("made on base weights with SHA-256"), "{finished:?}");

    make_long_to_read(&bench.path("model/model.safetensors"));
    std::fs::create_dir(bench.path("tmp")).unwrap();
    let running = Running::start(bench.command(&["check", "runs/tiny"]).env("TMPDIR", bench.path("tmp")));
    // Headers are read before there is a directory to work in, and all else after.
    let open_files = || std::fs::read_dir(format!("/proc/{}/fd", running.id())).unwrap().flatten();
    let reads = || open_files().any(|file| std::fs::read_link(file.path()).is_ok_and(|path| path.ends_with("model.safetensors")));
    wait_for("the base to be read", || holds_something(&bench.path("tmp")) && reads());
    let start = Instant::now();
    signal("INT", &running.id().to_string());
    let finished = running.wait(Duration::from_secs(30)).expect_code(75);
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert!(finished.stderr.starts_with("stopped on request while the run was checked\n"), "{finished:?}");
    assert!(!holds_something(&bench.path("tmp")));
}
