//! Messages between two ranks: both directions at once, in a ring, in order, never waiting for the receiver.

use std::time::{Duration, Instant};

use rstest::rstest;
use sirocco_comm::{Communicator, Mpi, Options};

use crate::job::{self, Report};

const LENGTHS: [usize; 7] = [0, 1, 2048, 2049, 1 << 20, (1 << 20) + 1, 30_000_001];

/// `length` bytes that say who sent them.
fn bytes(rank: usize, length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 29 + rank * 13 + at / 253) as u8).collect()
}

pub(crate) fn rank_letters(report: &Report) {
    let mpi = Mpi::start(Options::default()).unwrap();
    let (rank, size) = (mpi.rank(), mpi.size());
    let (before, after) = ((rank + size - 1) % size, (rank + 1) % size);
    // A ring in both directions: everybody sends first, then receives.
    for length in LENGTHS {
        mpi.send_bytes("onwards", after, bytes(rank, length)).wait().unwrap();
        mpi.send_bytes("back", before, bytes(rank + 100, length)).wait().unwrap();
        let onwards = mpi.receive_bytes("onwards", before);
        let back = mpi.receive_bytes("back", after);
        assert!(onwards.wait().unwrap() == bytes(before, length), "{length} bytes onwards");
        assert!(back.wait().unwrap() == bytes(after + 100, length), "{length} bytes back");
    }
    // Many on their way while collectives go by; received much later, in the order sent.
    let started = Instant::now();
    for number in 0..20 {
        mpi.send_bytes("many", after, bytes(number, 500_000)).wait().unwrap();
    }
    assert!(started.elapsed() < Duration::from_secs(5), "sending took {:?}", started.elapsed());
    for _ in 0..3 {
        assert_eq!(mpi.all_reduce_f32("sum", vec![1.0; 300_000]).wait().unwrap(), vec![size as f32; 300_000]);
    }
    for number in 0..20 {
        assert!(mpi.receive_bytes("many", before).wait().unwrap() == bytes(number, 500_000), "message {number}");
    }
    // Between two ranks of a group, by their ranks in it.
    let ends = [0, size - 1];
    if ends.contains(&rank) {
        let group = mpi.group("ends", &ends).unwrap();
        group.send_bytes("hello", 1 - group.rank(), vec![rank as u8; 9]).wait().unwrap();
        assert_eq!(group.receive_bytes("hello", 1 - group.rank()).wait().unwrap(), [(size - 1 - rank) as u8; 9]);
        assert_eq!(mpi.traffic()["ends/hello"].calls, 2);
    }
    assert!(mpi.send_bytes("no", size, Vec::new()).wait().is_err());
    assert!(mpi.receive_bytes("no", size).wait().is_err());
    // What is sent last arrives although its sender leaves.
    if rank + 1 < size {
        mpi.send_bytes("last", size - 1, bytes(rank, 5_000_000)).wait().unwrap();
    } else {
        std::thread::sleep(Duration::from_millis(300));
        for peer in 0..size - 1 {
            assert!(mpi.receive_bytes("last", peer).wait().unwrap() == bytes(peer, 5_000_000));
        }
    }
    let history = mpi.history();
    drop(mpi);
    assert!(history.iter().all(|event| !event.failed));
    report.write(rank, "right");
}

#[rstest]
fn messages_arrive_whole_and_in_order(#[values(2, 3, 4)] ranks: usize) {
    let ended = job::run("letters", ranks).well();
    assert!((0..ranks).all(|rank| ended.report(rank) == "right"), "{}", ended.told());
}
