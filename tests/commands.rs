//! What one command writes the next one reads: train, eval, export and eval again agree; every command explains itself.

use serde_json::Value;
use sirocco_tests::material::workplace;
use sirocco_tests::program::run;
use tempfile::TempDir;

/// `sirocco eval … --data valid.jsonl --dtype fp32 --json`, as JSON.
#[track_caller]
fn evaluate(place: &TempDir, model: &[&str]) -> Value {
    let arguments = [&["eval"], model, &["--data", "valid.jsonl", "--dtype", "fp32", "--json"]].concat();
    let finished = run("sirocco", &arguments, place.path()).expect_code(0);
    serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {}", finished.stdout))
}

#[track_caller]
fn near(what: &str, a: f64, b: f64, tolerance: f64) {
    assert!((a - b).abs() <= tolerance * b.abs(), "{what}: {a} against {b}");
}

#[test]
fn training_evaluation_and_both_exports_agree_on_the_held_out_loss() {
    let place = TempDir::new().expect("a temporary directory");
    workplace(place.path());
    run("sirocco", &["train", "run.toml"], place.path()).expect_code(0);
    let metrics = std::fs::read_to_string(place.path().join("runs/tiny/metrics.jsonl")).expect("metrics");
    let rows = metrics.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let held_out: Vec<_> = rows.filter_map(|row| row["valid_loss"].as_f64()).collect();
    let (first, last) = (held_out[0], held_out[held_out.len() - 1]);
    assert!(last < 0.9 * first, "ten steps should teach something: {first} to {last}");

    run("sirocco", &["export", "runs/tiny", "--to", "adapter", "--adapter"], place.path()).expect_code(0);
    run("sirocco", &["export", "runs/tiny", "--to", "merged", "--merge", "--dtype", "fp32"], place.path()).expect_code(0);
    let loss = |model: &[&str]| evaluate(&place, model)["total"]["loss"].as_f64().expect("a loss");
    near("base", loss(&["model"]), first, 1e-6);
    near("base with adapter", loss(&["model", "--adapter", "adapter"]), last, 1e-6);
    near("merged", loss(&["merged"]), last, 1e-5);
}

#[test]
fn evaluation_counts_what_it_read() {
    let place = TempDir::new().expect("a temporary directory");
    workplace(place.path());
    let report = evaluate(&place, &["model", "--samples", "2"]);
    let total = &report["total"];
    assert_eq!(total["documents"], 16, "{total}");
    // Sixteen answers, "makes 0" to "makes 8", one token a byte, and their ends of turn.
    assert_eq!(total["target_tokens"], 16 * 8, "{total}");
    let samples = report["samples"].as_array().expect("samples");
    assert_eq!((samples.len(), &samples[0]["prompt"], &samples[0]["reference"]), (2, &"0 plus 0".into(), &"makes 0".into()));
}

#[test]
fn an_export_never_overwrites() {
    let place = TempDir::new().expect("a temporary directory");
    workplace(place.path());
    run("sirocco", &["train", "run.toml", "--until", "1"], place.path()).expect_code(75);
    let export = || run("sirocco", &["export", "runs/tiny", "--to", "adapter", "--adapter"], place.path());
    export().expect_code(0);
    let again = export();
    assert!(again.code == Some(2) && again.stderr.starts_with("error: adapter"), "{again:?}");
}

#[test]
fn ranks_leave_their_host_and_process_for_status_to_tell() {
    let place = TempDir::new().expect("a temporary directory");
    workplace(place.path());
    run("sirocco", &["train", "run.toml", "--until", "1", "--set", "parallel.dp=2"], place.path()).expect_code(75);
    let finished = run("sirocco", &["status", "runs/tiny", "--json"], place.path()).expect_code(0);
    let status: Value = serde_json::from_str(&finished.stdout).expect("JSON");
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").expect("the host's name");
    let ranks = status["ranks"].as_array().expect("ranks");
    assert_eq!(ranks.len(), 2, "{status}");
    for rank in ranks {
        assert_eq!((rank["host"].as_str(), &rank["alive"]), (Some(host.trim()), &Value::Bool(false)), "{rank}");
        assert!(rank["process"].as_u64() > Some(1) && rank["last_line"].as_f64() > Some(1.7e9), "{rank}");
    }
    assert_ne!(ranks[0]["process"], ranks[1]["process"]);
}

#[test]
fn every_command_explains_itself_with_an_example() {
    let place = TempDir::new().expect("a temporary directory");
    let commands: [&[&str]; 16] = [
        &["init"],
        &["model", "inspect"],
        &["model", "convert"],
        &["model", "verify"],
        &["tokenize"],
        &["data", "check"],
        &["data", "prepare"],
        &["check"],
        &["train"],
        &["status"],
        &["watch"],
        &["logs"],
        &["eval"],
        &["export"],
        &["serve"],
        &["doctor"],
    ];
    for command in commands {
        let finished = run("sirocco", &[command, &["--help"]].concat(), place.path()).expect_code(0);
        let name = format!("sirocco {}", command.join(" "));
        assert!(finished.stdout.contains(&format!("Usage: {name}")), "{name} --help:\n{}", finished.stdout);
        assert!(finished.stdout.contains("Example"), "{name} --help has no example:\n{}", finished.stdout);
    }
}
