//! Results: right, the same bits everywhere, in any waiting order.

use std::time::{Duration, Instant};

use rstest::rstest;
use sirocco_comm::{Communicator, Mpi, Options, Pending};

use crate::job::{self, Report};

/// Small enough for the header; one segment; several chunks with an uneven end.
const LENGTHS: [usize; 6] = [0, 1, 5, 512, 100_000, 1_300_003];

/// Numbers whose sum depends on the order of additions.
pub(crate) fn numbers(rank: usize, length: usize) -> Vec<f32> {
    let mut state = rank as u64 * 7919 + length as u64 + 1;
    let draw = move |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 40) as f32 / 8_388_608.0 - 1.0) * 10_f32.powi((state >> 33) as i32 % 9 - 4)
    };
    (0..length).map(draw).collect()
}

/// The promise: rank order, one addition at a time.
fn expected(ranks: usize, length: usize) -> Vec<f32> {
    let mut total = numbers(0, length);
    for rank in 1..ranks {
        total.iter_mut().zip(numbers(rank, length)).for_each(|(sum, value)| *sum += value);
    }
    total
}

pub(crate) fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

pub(crate) fn rank_sums(report: &Report) {
    let mpi = Mpi::start(Options::default()).unwrap();
    let (rank, size) = (mpi.rank(), mpi.size());
    for repeat in 0..3 {
        for length in LENGTHS {
            // Ranks come early and late, in turn.
            std::thread::sleep(Duration::from_millis(((rank + repeat) % size) as u64 * 3));
            let sum = mpi.all_reduce_f32("sum", numbers(rank, length)).wait().unwrap();
            assert_eq!(bits(&sum), bits(&expected(size, length)), "length {length}, repeat {repeat}");
        }
        for length in [1, 300_000] {
            let sum = mpi.all_reduce_f64("sum64", vec![0.1 * (rank + 1) as f64; length]).wait().unwrap();
            let exact = (0..size).map(|rank| 0.1 * (rank + 1) as f64).sum::<f64>();
            assert!(sum.iter().all(|value| value.to_bits() == exact.to_bits()));
        }
    }
    let traffic = mpi.traffic()["sum"];
    assert_eq!(traffic.calls, 3 * LENGTHS.len() as u64);
    assert_eq!(traffic.bytes, 3 * 4 * LENGTHS.iter().sum::<usize>() as u64);
    assert!(traffic.seconds >= traffic.waited && traffic.seconds > 0.0);
    let place = mpi.place();
    assert_eq!((place.local_rank, place.local_size), (rank, size));
    let peers = mpi.peers();
    assert_eq!((peers.len(), peers[rank].pid), (size, std::process::id()));
    assert!(mpi.dead_peers().is_empty());
    drop(mpi);
    report.write(rank, "right");
}

#[rstest]
fn sums_are_right_and_bitwise_equal_on_all_ranks(#[values(1, 2, 3, 4)] ranks: usize) {
    let ended = job::run("sums", ranks).well();
    assert!((0..ranks).all(|rank| ended.report(rank) == "right"), "{}", ended.told());
}

pub(crate) fn rank_order(report: &Report) {
    let mpi = Mpi::start(Options::default()).unwrap();
    let (rank, size) = (mpi.rank(), mpi.size());
    if rank == 0 {
        // The others' handles must come back although this rank enters nothing yet.
        std::thread::sleep(Duration::from_millis(500));
    }
    let started = Instant::now();
    let sums: Vec<Pending<Vec<f32>>> =
        (0..8).map(|i| mpi.all_reduce_f32("bucket", numbers(rank, 1000 * (i * i * i + 1)))).collect();
    let parts = mpi.all_gather_bytes("parts", vec![rank as u8; 3]);
    let mut barrier = mpi.barrier("all here");
    assert!(started.elapsed() < Duration::from_millis(200), "submitting took {:?}", started.elapsed());
    assert!(rank == 0 || !barrier.is_done(), "a barrier ended before rank 0 came");
    barrier.wait().unwrap();
    assert_eq!(parts.wait().unwrap(), (0..size).map(|rank| vec![rank as u8; 3]).collect::<Vec<_>>());
    for (i, sum) in sums.into_iter().enumerate().rev() {
        assert_eq!(bits(&sum.wait().unwrap()), bits(&expected(size, 1000 * (i * i * i + 1))), "bucket {i}");
    }
    // A handle that is dropped gives up its result only.
    drop(mpi.all_reduce_f32("dropped", numbers(rank, 50_000)));
    assert_eq!(mpi.all_reduce_f32("after", vec![1.0]).wait().unwrap(), [size as f32]);
    report.write(rank, "right");
}

#[rstest]
fn handles_return_before_the_work_is_done_and_may_be_waited_for_in_any_order(#[values(2, 3)] ranks: usize) {
    let ended = job::run("order", ranks).well();
    assert!((0..ranks).all(|rank| ended.report(rank) == "right"), "{}", ended.told());
}

/// `length` bytes that differ by rank.
fn bytes(rank: usize, length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 31 + rank * 17 + at / 251) as u8).collect()
}

pub(crate) fn rank_bytes(report: &Report) {
    let mpi = Mpi::start(Options::default()).unwrap();
    let (rank, size) = (mpi.rank(), mpi.size());
    for length in [0, 10, 2048, 2049, 600_000, 3_000_001] {
        for root in 0..size {
            let given = if rank == root { bytes(root, length) } else { vec![1; 4] };
            let told = mpi.broadcast_bytes("tell", root, given).wait().unwrap();
            assert!(told == bytes(root, length), "broadcast of {length} from {root}");
        }
        // Lengths differ by rank; rank 0 gives nothing.
        let parts = mpi.all_gather_bytes("gather", bytes(rank, length * rank / size)).wait().unwrap();
        assert_eq!(parts.len(), size);
        for (peer, part) in parts.iter().enumerate() {
            assert!(*part == bytes(peer, length * peer / size), "gather of {length}, part {peer}");
        }
    }
    assert!(mpi.broadcast_bytes("tell", size, Vec::new()).wait().is_err());
    report.write(rank, "right");
}

#[rstest]
fn gathers_and_broadcasts_carry_any_length_from_any_root(#[values(1, 2, 3, 4)] ranks: usize) {
    let ended = job::run("bytes", ranks).well();
    assert!((0..ranks).all(|rank| ended.report(rank) == "right"), "{}", ended.told());
}
