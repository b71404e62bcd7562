//! What `sirocco plan` says that a rank holds is what the trainer holds, to the byte, on meshes of every axis.

use std::process::Command;

use serde_json::Value;
use sirocco_tests::program::{self, LIMIT, Running};
use sirocco_tests::workplace::Workplace;

/// Bytes between steps by the plan: in fp32 no copies beside the master copies.
fn planned(place: &Workplace, sets: &[String]) -> u64 {
    let mut words = vec!["plan", "run.toml", "--json", "--set", "model.dtype=fp32"];
    sets.iter().for_each(|set| words.extend(["--set", set]));
    let finished = program::run("sirocco", &words, place.path()).expect_code(0);
    let plan: Value = serde_json::from_str(&finished.stdout).expect("JSON");
    let memory = &plan["as_typed"]["memory"];
    ["weights", "master", "gradients", "moments"].map(|part| memory[part].as_u64().expect("bytes")).iter().sum()
}

/// The same of each rank, by the trainer's own count of its tensors.
fn held(place: &Workplace, axes: [u64; 4], full: bool) -> Vec<u64> {
    let ranks = axes.iter().product::<u64>().to_string();
    let mut command = Command::new("mpirun");
    command.args(["--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-n", ranks.as_str()]);
    command.arg(program::path("sirocco-train"));
    command.args(["bench", "--model", "model", "--comm", "mpi", "--threads", "1", "--steps", "1", "--dtype", "fp32"]);
    command.args(["--sequences", "2", "--micro-batches", "2", "--length", "16", "--rank", "4"]);
    for (axis, size) in ["--pp", "--dp", "--fsdp", "--tp"].iter().zip(axes) {
        command.args([axis, size.to_string().as_str()]);
    }
    if full {
        command.arg("--full");
    }
    let finished = Running::start(command.current_dir(place.path()).env("OMP_NUM_THREADS", "1")).wait(LIMIT).expect_code(0);
    let report: Value = serde_json::from_str(finished.stdout.lines().last().expect("a line")).expect("JSON");
    let ranks = report["ranks"].as_array().expect("ranks").iter();
    ranks.map(|rank| rank["held_bytes"].as_u64().expect("bytes")).collect()
}

fn compare(place: &Workplace) {
    for axes in [[1, 1, 2, 1], [2, 1, 1, 1], [1, 1, 1, 2], [2, 1, 1, 2], [3, 1, 1, 1], [1, 2, 2, 1]] {
        for full in [true, false] {
            let mut sets: Vec<String> =
                ["pp", "dp", "fsdp", "tp"].iter().zip(axes).map(|(axis, size)| format!("parallel.{axis}={size}")).collect();
            sets.push(if full { "method.kind=full".to_owned() } else { "method.rank=4".to_owned() });
            // The plan is of the rank that needs most in all, which need not be the one that holds most between steps.
            let (planned, held) = (planned(place, &sets), held(place, axes, full));
            assert!(held.contains(&planned), "pp, dp, fsdp, tp = {axes:?}, full: {full}: {planned} is not among {held:?}");
        }
    }
}

#[test]
fn a_rank_holds_what_the_plan_says() {
    compare(&Workplace::new());
}

#[test]
fn so_it_does_where_the_head_is_the_embedding() {
    compare(&Workplace::tied());
}
