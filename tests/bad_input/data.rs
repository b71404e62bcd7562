//! Data that cannot be trained on: exit code 4 with file and line, or counted and skipped where the run file says so.

use std::fs;

use crate::{place, refused, train};
use sirocco_tests::material::{conversation, sums};
use tempfile::TempDir;

/// A workplace whose third line of training data is `line`.
fn with_line_3(line: &str) -> TempDir {
    let place = place();
    let sums = sums();
    let mut lines: Vec<_> = sums.lines().collect();
    lines.insert(2, line);
    fs::write(place.path().join("train.jsonl"), lines.join("\n") + "\n").expect("the data");
    place
}

#[test]
fn a_line_that_is_not_json() {
    let place = with_line_3("{\"messages\": [");
    refused(train(place.path(), &[]), 4, &["train.jsonl:3:", "invalid JSON"]);
    assert!(!place.path().join("runs/tiny/checkpoints").exists());
}

#[test]
fn a_bad_line_is_counted_and_the_rest_unharmed_under_skip() {
    let place = with_line_3("{\"messages\": [");
    let finished = train(place.path(), &["--set", "data.on_bad=skip", "--until", "1"]).expect_code(75);
    assert!(finished.stderr.contains("train.jsonl:3") && finished.stderr.contains("invalid JSON"), "{}", finished.stderr);
    let clean = crate::place();
    train(clean.path(), &["--until", "1"]).expect_code(75);
    let metrics = |place: &TempDir| {
        let text = fs::read_to_string(place.path().join("runs/tiny/metrics.jsonl")).expect("metrics");
        let first: serde_json::Value = serde_json::from_str(text.lines().next().expect("a line")).expect("JSON");
        (first["step"].clone(), first["loss"].clone(), first["target_tokens"].clone())
    };
    assert_eq!(metrics(&place), metrics(&clean), "the same step as without the bad line");
}

#[test]
fn a_conversation_that_ends_with_the_user() {
    let place = with_line_3(r#"{"messages":[{"role":"user","content":"1 plus 1"}]}"#);
    refused(train(place.path(), &[]), 4, &["train.jsonl:3:", "ends with a user message"]);
}

#[test]
fn a_conversation_with_an_empty_answer() {
    let place = with_line_3(&conversation("1 plus 1", ""));
    refused(train(place.path(), &[]), 4, &["train.jsonl:3:", "messages[1]", "empty answer"]);
}

#[test]
fn a_conversation_that_is_longer_than_the_context() {
    let place = with_line_3(&conversation("1 plus 1", &"two ".repeat(200)));
    refused(train(place.path(), &[]), 4, &["train.jsonl:3:", "tokens; expected at most 64"]);
}

#[test]
fn a_file_with_no_target_tokens() {
    let place = place();
    fs::write(place.path().join("train.jsonl"), "").expect("the data");
    refused(train(place.path(), &[]), 4, &["train.jsonl", "found no target tokens"]);
}

#[test]
fn a_file_in_which_every_line_is_skipped() {
    let place = place();
    fs::write(place.path().join("train.jsonl"), "no\nJSON\n").expect("the data");
    refused(
        train(place.path(), &["--set", "data.on_bad=skip"]),
        4,
        &["train.jsonl", "found no target tokens (2 records, 2 of them bad)"],
    );
}

#[test]
fn a_file_that_is_not_there() {
    let place = place();
    fs::remove_file(place.path().join("valid.jsonl")).expect("the data");
    refused(train(place.path(), &[]), 4, &["valid.jsonl"]);
}
