//! `kill -9` of one rank: the others stop within ten seconds and say which one is gone.

use std::fs;
use std::time::{Duration, Instant};

use sirocco_tests::material::workplace;
use sirocco_tests::processes::rank_process;
use sirocco_tests::program::{LIMIT, Running, command, signal, wait_for};
use tempfile::TempDir;

#[test]
fn the_others_stop_and_name_the_rank() {
    let place = TempDir::new().expect("a temporary directory");
    workplace(place.path());
    let directory = place.path().join("run");
    let arguments = ["train", "run.toml", "--ranks", "2", "--dir", &directory.to_string_lossy(), "--set", "train.steps=1000000"];
    let running = Running::start(&mut command("sirocco", &arguments, place.path()));
    let metrics = directory.join("metrics.jsonl");
    wait_for("third step", LIMIT, || fs::read_to_string(&metrics).ok().filter(|text| text.lines().count() >= 3));
    let rank = rank_process(&directory, 1).expect("the process of rank 1");
    signal("KILL", &rank);
    let killed = Instant::now();
    let finished = running.wait(LIMIT);
    let took = killed.elapsed();
    assert!(took < Duration::from_secs(10), "stopped after {took:?}\n{}", finished.stderr);
    let finished = finished.expect_code(1);
    assert!(finished.stderr.contains("rank 1"), "{}", finished.stderr);
    assert!(rank_process(&directory, 0).is_none(), "rank 0 still runs");
}
