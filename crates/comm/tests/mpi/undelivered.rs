//! What MPI does not deliver, and what is too long to be told: the sender's `wait` and the other ranks hear of it.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use rstest::rstest;
use sirocco_comm::{Communicator, Mpi, Options};

use crate::{
    failures::{NO_HELP, finish, reported},
    job::{Report, run_with},
};

/// Rank 0 sends what does not arrive at rank 1, which waits for it.
pub(crate) fn rank_undelivered(case: &str, report: &Report) {
    let mpi = Arc::new(Mpi::start(Options { timeout: Duration::from_secs(60) }).unwrap());
    mpi.barrier("ready").wait().unwrap();
    let started = Instant::now();
    let error = match mpi.rank() {
        0 => {
            let sent = mpi.send_bytes("activations", 1, vec![1; 10]);
            // The wire has nothing to do meanwhile but to look after the message, and it looks more than once.
            thread::sleep(Duration::from_millis(500));
            let error = sent.wait().unwrap_err();
            let event = mpi.history().into_iter().find(|event| event.name == "activations").unwrap();
            assert!(event.failed && !mpi.traffic().contains_key("activations"), "{case}: {event}");
            error
        }
        _ => mpi.receive_bytes("gradients", 0).wait().unwrap_err(),
    };
    finish(mpi, report, started, &error);
}

/// Ranks 0 and 2 disagree about something with a long name; rank 1 waits for something else.
pub(crate) fn rank_long(report: &Report) {
    let mpi = Arc::new(Mpi::start(Options { timeout: Duration::from_secs(60) }).unwrap());
    mpi.barrier("ready").wait().unwrap();
    let started = Instant::now();
    let error = match mpi.rank() {
        0 => {
            let name: &'static str = "gradients of everything ".repeat(400).leak();
            mpi.group("dp", &[0, 2]).unwrap().all_reduce_f32(name, vec![1.0]).wait().unwrap_err()
        }
        1 => mpi.receive_bytes("activations", 0).wait().unwrap_err(),
        _ => mpi.group("dp", &[0, 2]).unwrap().all_reduce_f32("loss", vec![1.0]).wait().unwrap_err(),
    };
    finish(mpi, report, started, &error);
}

/// The library that stands before MPI; nothing where there is no compiler for it.
fn failing_mpi(directory: &Path) -> Option<PathBuf> {
    let library = directory.join("libfail.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mpi/fakes/fail.c");
    let compiled = Command::new("mpicc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).output().ok()?;
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    Some(library)
}

#[rstest]
#[case("send", "MPI_Isend failed in `activations` (message 0 from rank 0 to rank 1): ")]
#[case("test", "MPI_Test failed in `activations` (message 0 from rank 0 to rank 1): ")]
fn a_message_that_fails_is_not_delivered_and_all_hear_of_it(#[case] how: &str, #[case] expected: &str) {
    let directory = tempfile::tempdir().unwrap();
    let Some(library) = failing_mpi(directory.path()) else { return };
    let (preload, fail) = (format!("LD_PRELOAD={}", library.display()), format!("SIROCCO_FAIL={how}"));
    let ended = run_with("undelivered", 2, &[NO_HELP[0], "-x", &preload, "-x", &fail]);
    for rank in 0..2 {
        let (seconds, text) = reported(&ended, rank);
        assert!(text.starts_with(expected), "{}", ended.told());
        assert!(seconds < 5.0, "{}", ended.told());
    }
}

#[test]
fn an_error_that_is_too_long_to_be_told_is_cut_and_says_so() {
    let ended = run_with("too-long", 3, &NO_HELP);
    for rank in 0..3 {
        let (seconds, text) = reported(&ended, rank);
        assert!(text.contains("rank 2 entered all_reduce_f32 `loss` of dp (collective 0)"), "{}", ended.told());
        assert!(seconds < 5.0, "{}", ended.told());
    }
    assert!(reported(&ended, 1).1.contains("… (cut)` of dp"), "{}", ended.told());
}
