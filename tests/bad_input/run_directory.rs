//! A run directory that is taken, and a disk that fills: what was there stays and can be used.

use std::fs;
use std::process::Command;

use crate::{edit, place, refused, train};
use sirocco_tests::program::{LIMIT, Running, own_keys, path, run};

#[test]
fn a_directory_that_holds_another_run() {
    let place = place();
    train(place.path(), &["--until", "5"]).expect_code(75);
    let before = fs::read(place.path().join("runs/tiny/metrics.jsonl")).expect("metrics");
    edit(&place, "run.toml", "learning_rate = 1e-2", "learning_rate = 5e-3");
    refused(train(place.path(), &[]), 2, &["runs/tiny", "help: "]);
    assert_eq!(
        fs::read(place.path().join("runs/tiny/metrics.jsonl")).expect("metrics"),
        before,
        "the run that was there is untouched"
    );
}

#[test]
fn a_disk_that_fills_during_a_checkpoint() {
    let place = place();
    train(place.path(), &["--until", "5"]).expect_code(75);
    // A limit on the size of a file stands in for a full disk: the write fails part of the way through a shard.
    let resumed = "trap '' XFSZ; ulimit -f 32; exec \"$0\" train runs/tiny";
    let mut command = Command::new("bash");
    command.args(["-c", resumed]).arg(path("sirocco")).current_dir(place.path()).env("OMP_NUM_THREADS", "1");
    own_keys(&mut command, place.path());
    refused(Running::start(&mut command).wait(LIMIT), 1, &["no space left", "step-00000010"]);
    let checkpoints = place.path().join("runs/tiny/checkpoints");
    assert_eq!(fs::read_to_string(checkpoints.join("LATEST")).expect("LATEST").trim(), "step-00000005");
    run("sirocco", &["train", "runs/tiny"], place.path()).expect_code(0);
    assert_eq!(fs::read_to_string(checkpoints.join("LATEST")).expect("LATEST").trim(), "step-00000010");
}
