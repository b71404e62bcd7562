//! Bad input to whole programs: the message says what, where, found and expected; the exit code says which kind; nothing is lost.

mod checkpoint;
mod data;
mod mesh;
mod ranks;
mod requests;
mod run_directory;
mod settings;
mod weights;

use std::path::Path;

use sirocco_tests::material::workplace;
use sirocco_tests::program::{Finished, run};
use tempfile::TempDir;

/// A fresh directory with a tiny model, data and a run file.
fn place() -> TempDir {
    let place = TempDir::new().expect("a temporary directory");
    workplace(place.path());
    place
}

/// Replaces text in a file of the workplace; the text must be there.
#[track_caller]
fn edit(place: &TempDir, file: &str, from: &str, to: &str) {
    let path = place.path().join(file);
    let text = std::fs::read_to_string(&path).expect("a file of the workplace");
    assert!(text.contains(from), "{file} does not hold {from:?}");
    std::fs::write(&path, text.replacen(from, to, 1)).expect("a file of the workplace");
}

/// `sirocco train run.toml` with more arguments.
#[track_caller]
fn train(place: &Path, more: &[&str]) -> Finished {
    run("sirocco", &[&["train", "run.toml"], more].concat(), place)
}

/// Every refusal reads `error: …`, and its last word is not a panic.
#[track_caller]
fn refused(finished: Finished, code: i32, words: &[&str]) {
    let finished = finished.expect_code(code).expect_words(&["error: "]).expect_words(words);
    assert!(!finished.stderr.contains("panicked"), "{}", finished.stderr);
}
