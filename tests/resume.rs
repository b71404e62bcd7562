//! A run that was stopped and resumed gives bit for bit the adapter of one that ran through.

use std::path::Path;

use sirocco_tests::material::workplace;
use sirocco_tests::program::run;
use tempfile::TempDir;

fn exported(place: &Path, run_directory: &str) -> Vec<u8> {
    let to = format!("{run_directory}-adapter");
    run("sirocco", &["export", run_directory, "--to", &to, "--adapter"], place).expect_code(0);
    std::fs::read(place.join(to).join("adapter_model.safetensors")).expect("the adapter")
}

fn losses(place: &Path, run_directory: &str) -> Vec<(u64, f64)> {
    let text = std::fs::read_to_string(place.join(run_directory).join("metrics.jsonl")).expect("metrics");
    let rows = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
    rows.filter_map(|row| Some((row["step"].as_u64()?, row["loss"].as_f64()?))).collect()
}

/// Runs ten steps at once and in three parts, on as many ranks as asked.
fn stopped_and_resumed_equals_through(ranks: &str) {
    let place = TempDir::new().expect("a temporary directory");
    workplace(place.path());
    let start = |directory: &str, more: &[&str]| {
        run("sirocco", &[&["train", "run.toml", "--ranks", ranks, "--dir", directory], more].concat(), place.path())
    };
    start("through", &[]).expect_code(0);
    start("parts", &["--until", "3"]).expect_code(75);
    run("sirocco", &["train", "parts", "--until", "7"], place.path()).expect_code(75);
    run("sirocco", &["train", "parts"], place.path()).expect_code(0);
    assert_eq!(losses(place.path(), "through"), losses(place.path(), "parts"));
    assert!(exported(place.path(), "through") == exported(place.path(), "parts"), "the adapters differ");
}

#[test]
fn one_rank_stopped_and_resumed_gives_the_same_adapter() {
    stopped_and_resumed_equals_through("1");
}

#[test]
fn two_ranks_stopped_and_resumed_give_the_same_adapter() {
    stopped_and_resumed_equals_through("2");
}

#[test]
fn a_run_that_is_complete_says_so_and_changes_nothing() {
    let place = TempDir::new().expect("a temporary directory");
    workplace(place.path());
    run("sirocco", &["train", "run.toml"], place.path()).expect_code(0);
    let before = losses(place.path(), "runs/tiny");
    run("sirocco", &["train", "runs/tiny"], place.path()).expect_code(0);
    assert_eq!(losses(place.path(), "runs/tiny"), before);
}
