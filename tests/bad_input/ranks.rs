//! Ranks that are not of one mind, started by hand as a job script would: refused by all of them before the first step.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::{edit, place, refused, train};
use sirocco_tests::program::{Finished, LIMIT, Running, own_keys, path, signal, wait_for};
use tempfile::TempDir;

/// A workplace with a run of two ranks that has done one step.
fn begun() -> TempDir {
    let place = place();
    train(place.path(), &["--dir", "run", "--set", "parallel.dp=2", "--until", "1"]).expect_code(75);
    place
}

/// `mpirun -n COUNT PROGRAM run --dir RUN … : …`
fn under_mpirun(place: &Path, parts: &[(usize, &Path, &str)]) -> Finished {
    let mut command = Command::new(std::env::var_os("SIROCCO_MPIRUN").unwrap_or_else(|| OsString::from("mpirun")));
    command.args(["--oversubscribe", "--bind-to", "none"]);
    for (number, (count, program, run)) in parts.iter().enumerate() {
        if number > 0 {
            command.arg(":");
        }
        command.args(["-n", &count.to_string()]).arg(program);
        command.args(["run", "--comm", "mpi", "--threads", "1", "--dir"]).arg(place.join(run));
    }
    command.current_dir(place).env_remove("RUST_BACKTRACE").env("OMP_NUM_THREADS", "1");
    own_keys(&mut command, place);
    command.envs([("OMPI_ALLOW_RUN_AS_ROOT", "1"), ("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")]);
    Running::start(&mut command).wait(LIMIT)
}

/// Nothing was done to the run that was there.
#[track_caller]
fn untouched(place: &TempDir, run: &str) {
    let metrics = fs::read_to_string(place.path().join(run).join("metrics.jsonl")).expect("metrics");
    assert_eq!(metrics.lines().filter(|line| line.contains("target_tokens")).count(), 1, "{metrics}");
}

#[test]
fn ranks_of_one_program_and_one_run_file_go_on() {
    let place = begun();
    let trainer = path("sirocco-train");
    under_mpirun(place.path(), &[(1, &trainer, "run"), (1, &trainer, "run")]).expect_code(0);
}

#[test]
fn more_ranks_than_the_mesh_has() {
    let place = begun();
    let finished = under_mpirun(place.path(), &[(3, &path("sirocco-train"), "run")]);
    refused(finished, 2, &["pp × dp × fsdp × tp = 1 × 2 × 1 × 1 = 2 ranks", "found 3 ranks started"]);
    untouched(&place, "run");
}

#[test]
fn a_rank_with_another_run_file() {
    let place = begun();
    train(place.path(), &["--dir", "other", "--set", "parallel.dp=2", "--set", "train.steps=11", "--until", "1"]).expect_code(75);
    let trainer = path("sirocco-train");
    let finished = under_mpirun(place.path(), &[(1, &trainer, "run"), (1, &trainer, "other")]);
    refused(finished, 2, &["rank 1 on ", "another run.toml than rank 0", "found SHA-256", "help: "]);
    untouched(&place, "run");
    untouched(&place, "other");
}

#[test]
fn a_rank_with_another_program() {
    let place = begun();
    let (trainer, other) = (path("sirocco-train"), place.path().join("sirocco-train"));
    // The copy does the same, but is not the same.
    fs::copy(&trainer, &other).expect("a copy");
    fs::write(&other, [fs::read(&other).expect("a copy"), vec![0]].concat()).expect("a copy");
    let finished = under_mpirun(place.path(), &[(1, &trainer, "run"), (1, &other, "run")]);
    refused(finished, 2, &["rank 1 on ", "runs another sirocco-train than rank 0", "found version", "help: "]);
    untouched(&place, "run");
}

#[test]
fn two_runs_in_one_directory_at_once() {
    let place = place();
    let settings = ["--dir", "run", "--set", "parallel.dp=2", "--set", "train.steps=1000000"];
    let first = [&["train", "run.toml"], &settings[..]].concat();
    let running = Running::start(&mut sirocco_tests::program::command("sirocco", &first, place.path()));
    let metrics = place.path().join("run/metrics.jsonl");
    let steps = || fs::read_to_string(&metrics).unwrap_or_default().matches("target_tokens").count();
    wait_for("first step", LIMIT, || (steps() > 0).then_some(()));
    refused(
        sirocco_tests::program::run("sirocco", &["train", "run"], place.path()),
        2,
        &["another sirocco train is at work", "help: "],
    );
    let who = format!("process {} on ", running.id());
    refused(train(place.path(), &settings), 2, &["already holds the run", "which is in progress", &who, "sirocco status run"]);
    // The first one has not noticed anything.
    let before = steps();
    wait_for("further steps", LIMIT, || (steps() > before + 2).then_some(()));
    signal("TERM", &running.id().to_string());
    running.wait(LIMIT).expect_code(75);
}

#[test]
fn two_runs_begun_in_one_directory_at_once() {
    let place = place();
    let arguments = ["train", "run.toml", "--dir", "run", "--until", "3"];
    let both = [0, 1].map(|_| Running::start(&mut sirocco_tests::program::command("sirocco", &arguments, place.path())));
    let mut codes = both.map(|running| running.wait(LIMIT).code);
    codes.sort_unstable();
    assert_eq!(codes, [Some(2), Some(75)], "one is refused, the other runs");
    let steps = fs::read_to_string(place.path().join("run/metrics.jsonl")).expect("metrics").matches("target_tokens").count();
    assert_eq!(steps, 3);
    edit(&place, "run.toml", "steps = 10", "steps = 11");
    refused(train(place.path(), &["--dir", "run"]), 2, &["already holds the run"]);
}
