//! `sirocco-train node`: what it says of this machine as a node, of a run that is not there, and of the links between two ranks.

use std::ffi::OsString;
use std::fs;
use std::process::Command;

use serde_json::Value;
use sirocco_tests::program::{LIMIT, Running, path, run};
use sirocco_tests::workplace::Workplace;

fn node(place: &Workplace, directory: &str, stamp: &str) -> Value {
    let finished = run("sirocco-train", &["node", "--dir", directory, "--stamp", stamp], place.path()).expect_code(0);
    assert_eq!(finished.stdout.lines().count(), 1, "{}", finished.stdout);
    serde_json::from_str(&finished.stdout).expect("JSON")
}

/// A workplace with a run directory, in which a launcher has left its stamp.
fn stamped(stamp: &str) -> Workplace {
    let place = Workplace::new();
    place.prepare("run", "parallel.dp=2 checkpoint.staging=staged/here");
    fs::create_dir(place.file("run", ".nodes")).expect("a directory");
    fs::write(place.file("run", ".nodes/stamp"), stamp).expect("a stamp");
    place
}

#[test]
fn a_sound_node_says_all_there_is_to_say() {
    let place = stamped("job 7");
    let found = node(&place, "run", "job 7");
    assert_eq!(found["stamp"], true, "{found}");
    assert_eq!(found["reasons"], serde_json::json!({}), "{found}");
    let numbers = ["boot", "clock", "seconds", "cores", "memory_bytes", "memory_available_bytes", "write_s"];
    for name in numbers {
        assert!(found[name].as_f64().is_some_and(|number| number > 0.0), "{name}: {found}");
    }
    for version in ["sirocco", "libtorch", "libc", "kernel"] {
        assert!(found["versions"][version].as_str().is_some_and(|version| !version.is_empty()), "{version}: {found}");
    }
    let device = &found["devices"][0];
    assert_eq!(device["name"], "cpu", "{found}");
    for (number, dtype) in ["fp32", "bf16"].into_iter().enumerate() {
        let product = &device["products"][number];
        assert_eq!((product["dtype"].as_str(), product["wrong_rows"].as_u64()), (Some(dtype), Some(0)), "{found}");
        assert!(product["gflops"].as_f64().is_some_and(|speed| speed > 0.1) && product["rows"].as_u64() >= Some(512), "{found}");
    }
    for directory in ["run", "staging", "tmp"] {
        assert!(found["space"][directory]["free_bytes"].as_u64().is_some_and(|free| free > 0), "{directory}: {found}");
    }
    let files = found["files"].as_array().expect("files");
    assert!(files.len() == 3 && files.iter().all(|file| file["error"].is_null()), "{found}");
    let left: Vec<_> = fs::read_dir(place.file("run", ".nodes")).expect("a directory").collect();
    assert_eq!(left.len(), 1, "the test leaves nothing beside the stamp");
    assert!(!place.path().join("staged").exists(), "it makes no directory");
}

#[test]
fn what_a_node_cannot_find_is_null_with_a_reason() {
    let place = stamped("job 7");
    let found = node(&place, "run", "job 8");
    assert_eq!(found["stamp"], false, "{found}");
    assert!(found["reasons"]["stamp"].as_str().is_some_and(|reason| reason.contains("something else")), "{found}");

    fs::remove_file(place.path().join("model/model.safetensors")).expect("the weights");
    fs::remove_file(place.file("run", "tokens/train.tokens")).expect("the tokens");
    let found = node(&place, "run", "job 7");
    let errors: Vec<bool> = found["files"].as_array().expect("files").iter().map(|file| file["error"].is_string()).collect();
    assert_eq!(errors, [true, true, false], "model, train.tokens, valid.tokens: {found}");

    let found = node(&place, "nowhere", "job 7");
    assert_eq!((&found["stamp"], &found["write_s"], &found["devices"]), (&Value::from(false), &Value::Null, &Value::Null));
    for field in ["stamp", "write_s", "devices", "space.run"] {
        assert!(found["reasons"][field].as_str().is_some_and(|reason| reason.contains("nowhere")), "{field}: {found}");
    }
    assert!(!place.path().join("nowhere").exists(), "it makes no run directory");
}

#[test]
fn a_run_on_gpus_is_tested_on_gpus() {
    let place = stamped("job 7");
    let file = place.file("run", "run.toml");
    let text = fs::read_to_string(&file).expect("run.toml");
    fs::write(&file, text.replace("device = \"cpu\"", "device = \"cuda\"")).expect("run.toml");
    let found = node(&place, "run", "job 7");
    // What a machine without GPUs lacks, or each of those that it has.
    match found["devices"].as_array() {
        None => assert!(found["reasons"]["devices"].is_string(), "{found}"),
        Some(gpus) => {
            assert!(gpus.iter().all(|gpu| gpu["name"].as_str().is_some_and(|name| name.starts_with("cuda:"))), "{found}");
        }
    }
    for version in ["driver", "cuda", "nccl"] {
        let reason = &found["reasons"][format!("versions.{version}")];
        assert!(found["versions"][version].is_string() != reason.is_string(), "{version}: {found}");
    }
}

#[test]
fn two_ranks_measure_the_link_between_them() {
    let place = Workplace::new();
    let mut command = Command::new(std::env::var_os("SIROCCO_MPIRUN").unwrap_or_else(|| OsString::from("mpirun")));
    command.args(["--oversubscribe", "--bind-to", "none", "-n", "2"]).arg(path("sirocco-train"));
    command.args(["node", "--link", "--dir", "run"]).current_dir(place.path()).env("OMP_NUM_THREADS", "1");
    command.envs([("OMPI_ALLOW_RUN_AS_ROOT", "1"), ("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")]);
    let finished = Running::start(&mut command).wait(LIMIT).expect_code(0);
    let lines: Vec<Value> = finished.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len(), 2, "a line for each pair, and the summary: {}", finished.stdout);
    let (pair, summary) = (&lines[0], &lines[1]);
    assert!(pair["line"] == "pair" && pair["nodes"][0] == summary["nodes"][0] && pair["nodes"][1] == summary["nodes"][1]);
    assert!(pair["latency_s"].as_f64().is_some_and(|seconds| seconds > 0.0 && seconds < 1.0), "{pair}");
    assert!(pair["bytes_per_s"].as_f64().is_some_and(|speed| speed > 1e5), "{pair}");
    assert_eq!((&summary["pairs"], &summary["measured"], &summary["error"]), (&1.into(), &1.into(), &Value::Null));
}
