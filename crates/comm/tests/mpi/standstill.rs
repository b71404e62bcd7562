//! Nobody moves: a rank hangs, others wait for it, and others for those. All must hear who hangs, where, and for how long.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use rstest::rstest;
use sirocco_comm::{CommError, Communicator, Mpi, Options};

use crate::{
    failures::{NO_HELP, finish, reported},
    job::{Report, run_with},
};

pub(crate) fn rank_program(case: &str, report: &Report) {
    let mpi = Arc::new(Mpi::start(Options { timeout: Duration::from_secs(2) }).unwrap());
    let (rank, last) = (mpi.rank(), mpi.rank() + 1 == mpi.size());
    mpi.barrier("ready").wait().unwrap();
    let started = Instant::now();
    let error = match case {
        _ if last && case != "ring" => hang(&mpi),
        "chain" => mpi.receive_bytes("activations", rank + 1).wait().unwrap_err(),
        // Later ranks come later: the first ones time out while the others have not waited for long.
        "late-chain" => {
            thread::sleep(Duration::from_millis(400 * rank as u64));
            mpi.receive_bytes("activations", rank + 1).wait().unwrap_err()
        }
        "groups" => mpi.group("pair", &[rank, rank + 1]).unwrap().all_reduce_f32("sum", vec![1.0]).wait().unwrap_err(),
        "traced" => traced(&mpi),
        "ring" => mpi.receive_bytes("activations", (rank + 1) % mpi.size()).wait().unwrap_err(),
        other => panic!("no case {other}"),
    };
    finish(mpi, report, started, &error);
}

/// Computes for too long and comes when the others have given up.
fn hang(mpi: &Mpi) -> CommError {
    thread::sleep(Duration::from_millis(4500));
    mpi.barrier("next").wait().unwrap_err()
}

/// As in "chain", looking at the record meanwhile.
fn traced(mpi: &Mpi) -> CommError {
    let pending = mpi.receive_bytes("activations", mpi.rank() + 1);
    let behind = mpi.barrier("behind");
    thread::sleep(Duration::from_millis(1200));
    let lines: Vec<String> = mpi.history().iter().rev().take(2).map(ToString::to_string).collect();
    assert!(lines[0].starts_with("`behind` (collective 2), barrier, 0 bytes: submitted 1."), "{lines:?}");
    let (from, to) = (mpi.rank() + 1, mpi.rank());
    let start = format!("`activations` (message 0 from rank {from} to rank {to}), receive_bytes, 0 bytes: entered 1.");
    assert!(lines[1].starts_with(&start), "{lines:?}");
    assert!(lines[0].ends_with(" s ago, not entered"), "{lines:?}");
    assert!(lines[1].ends_with(&format!("not done; waits for rank {from}")), "{lines:?}");
    let error = pending.wait().unwrap_err();
    assert_eq!(behind.wait().unwrap_err(), error);
    let failed = mpi.history().iter().filter(|event| event.failed).count();
    assert_eq!(failed, 2);
    error
}

#[rstest]
#[case("chain", 3, "`activations` (message 0 from rank 2 to rank 1)")]
#[case("chain", 4, "`activations` (message 0 from rank 3 to rank 2)")]
#[case("late-chain", 4, "`activations` (message 0 from rank 3 to rank 2)")]
#[case("groups", 4, "`sum` of pair (collective 0)")]
#[case("traced", 3, "`activations` (message 0 from rank 2 to rank 1)")]
fn a_chain_of_waiting_ranks_names_the_one_that_hangs(#[case] case: &str, #[case] ranks: usize, #[case] collective: &str) {
    let ended = run_with(&format!("standstill/{case}"), ranks, &NO_HELP);
    let (waits, hangs) = (ranks - 2, ranks - 1);
    for rank in 0..ranks {
        let (seconds, text) = reported(&ended, rank);
        assert!(text.starts_with(&format!("no progress in {collective} ")), "{}", ended.told());
        assert!(text.contains(&format!(" s after rank {waits} entered it, waiting for rank {hangs}: ")), "{}", ended.told());
        let idle = format!("rank {hangs} has entered nothing since `ready` (collective 1) ended ");
        assert!(text.contains(&idle), "{}", ended.told());
        assert!(seconds < if rank == hangs { 8.0 } else { 4.4 }, "{}", ended.told());
    }
}

#[test]
fn ranks_that_wait_for_each_other_are_told_so() {
    let ended = run_with("standstill/ring", 3, &NO_HELP);
    for rank in 0..3 {
        let (seconds, text) = reported(&ended, rank);
        assert!(text.starts_with("no progress in `activations` (message 0 from rank "), "{}", ended.told());
        assert!(
            text.contains(" is in `activations` (message 0 from rank ") && text.contains("), waiting for rank "),
            "{}",
            ended.told()
        );
        assert!(seconds < 6.0, "{}", ended.told());
    }
}
