//! Settings and options that do not exist or make no sense: exit code 2, and no run directory.

use crate::{edit, place, refused, train};
use sirocco_tests::program::run;

#[test]
fn a_misspelt_setting_is_named_with_its_neighbour() {
    let place = place();
    edit(&place, "run.toml", "global_batch", "globl_batch");
    refused(train(place.path(), &[]), 2, &["run.toml:18", "[train] globl_batch", "did you mean global_batch"]);
    assert!(!place.path().join("runs").exists());
}

#[test]
fn a_misspelt_section_is_named_with_its_neighbour() {
    let place = place();
    edit(&place, "run.toml", "[parallel]", "[paralel]");
    refused(train(place.path(), &[]), 2, &["run.toml:23", "[paralel]", "[parallel]"]);
}

#[test]
fn a_misspelt_setting_on_the_command_line_is_named_too() {
    let place = place();
    refused(train(place.path(), &["--set", "train.step=3"]), 2, &["train.step", "steps"]);
}

#[test]
fn a_value_of_the_wrong_type_is_shown_with_what_was_expected() {
    let place = place();
    edit(&place, "run.toml", "rank = 4", "rank = \"four\"");
    refused(train(place.path(), &[]), 2, &["run.toml:14", "[method] rank", "four", "expected"]);
}

#[test]
fn a_batch_that_does_not_divide_is_refused_with_the_product() {
    let place = place();
    refused(train(place.path(), &["--ranks", "3"]), 2, &["global_batch", "3 × 1"]);
}

#[test]
fn an_unknown_option_is_a_usage_error() {
    let place = place();
    let finished = run("sirocco", &["train", "run.toml", "--rank", "2"], place.path()).expect_code(2);
    assert!(finished.stderr.contains("--ranks"), "{}", finished.stderr);
}

#[test]
fn a_gpu_that_is_not_there_is_what_the_machine_lacks() {
    if std::path::Path::new("/proc/driver/nvidia").exists() {
        return;
    }
    let place = place();
    for command in ["check", "train"] {
        let finished = run("sirocco", &[command, "run.toml", "--set", "model.device=cuda"], place.path());
        refused(finished, 5, &["--set model.device", "cuda", "sirocco doctor", "model.device = \"cpu\""]);
    }
    assert!(!place.path().join("runs").exists(), "a refusal leaves nothing in the way of the next attempt");
}

#[test]
fn a_gpu_by_another_name() {
    let place = place();
    refused(train(place.path(), &["--set", "model.device=gpu"]), 2, &["device = \"gpu\"", "did you mean \"cuda\"?"]);
}

#[test]
fn errors_are_json_too() {
    let place = place();
    edit(&place, "run.toml", "global_batch", "globl_batch");
    let finished = train(place.path(), &["--json"]).expect_code(2);
    let error: serde_json::Value = serde_json::from_str(finished.stdout.trim()).expect("one JSON object on standard output");
    assert_eq!(error["error"]["exit_code"], 2, "{error}");
    assert!(error["error"]["message"].as_str().is_some_and(|text| text.contains("globl_batch")), "{error}");
}
