//! Latency and bandwidth, printed: `cargo test --release -p sirocco-comm --test mpi -- --ignored --nocapture speed`.

use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};

use half::bf16;
use sirocco_comm::{Communicator, Mpi, Options};

use crate::job::{self, Report};

const SMALL_CALLS: usize = 2000;
const LARGE_CALLS: usize = 10;
const LARGE: usize = 16 << 20;

pub(crate) fn rank_speed(report: &Report) {
    let mpi = Mpi::start(Options::default()).unwrap();
    mpi.barrier("ready").wait().unwrap();
    let mut small = Vec::with_capacity(SMALL_CALLS);
    for _ in 0..SMALL_CALLS {
        let started = Instant::now();
        mpi.all_reduce_f64("small", vec![1.0]).wait().unwrap();
        small.push(started.elapsed());
    }
    small.sort_unstable();
    let (rank, size) = (mpi.rank(), mpi.size());
    let length = LARGE / size * size;
    let lengths = vec![length / size; size];
    let copy = best(&mpi, || {
        let from = std::hint::black_box(vec![1.0_f32; LARGE]);
        move || drop(std::hint::black_box(from.clone()))
    });
    let reduce = best(&mpi, || {
        let data = vec![1.0_f32; length];
        || drop(mpi.all_reduce_f32("large", data).wait().unwrap())
    });
    let scatter = best(&mpi, || {
        let data = vec![1.0_f32; length];
        || drop(mpi.reduce_scatter_f32("large", data, &lengths).wait().unwrap())
    });
    let scatter_half = best(&mpi, || {
        let data = vec![bf16::ONE; length];
        || drop(mpi.reduce_scatter_bf16("large", data, &lengths).wait().unwrap())
    });
    let gather = best(&mpi, || {
        let data = vec![1_u8; length / size * size_of::<f32>()];
        || drop(mpi.all_gather_bytes("large", data).wait().unwrap())
    });
    let ring = best(&mpi, || {
        let data = vec![1_u8; length * size_of::<f32>()];
        || {
            mpi.send_bytes("large", (rank + 1) % size, data).wait().unwrap();
            drop(mpi.receive_bytes("large", (rank + size - 1) % size).wait().unwrap());
        }
    });
    let started = Instant::now();
    compute();
    let alone = started.elapsed();
    let started = Instant::now();
    let pending = mpi.all_reduce_f32("large", vec![1.0; length]);
    compute();
    pending.wait().unwrap();
    let both = started.elapsed();
    let mut text = format!("8 bytes: median {:?}, 95 % {:?}\n", small[SMALL_CALLS / 2], small[SMALL_CALLS * 95 / 100]);
    let rows = [
        ("copy, all ranks at once", copy, 1.0),
        ("all_reduce_f32", reduce, 1.0),
        ("reduce_scatter_f32", scatter, 1.0),
        ("reduce_scatter_bf16", scatter_half, 0.5),
        ("all_gather_bytes", gather, 1.0),
        ("send and receive, ring", ring, 1.0),
    ];
    for (name, took, share) in rows {
        let gigabytes = share * (length * size_of::<f32>()) as f64 / 1e9;
        let _ = writeln!(
            text,
            "{name:24} {:6.0} MiB {took:9.1?} {:6.2} GB/s",
            gigabytes * 1e9 / 1048576.0,
            gigabytes / took.as_secs_f64()
        );
    }
    let _ = writeln!(text, "computing {alone:?}, computing while reducing {both:?}");
    report.write(rank, &text);
}

/// The best of several rounds, all ranks starting together; `prepare` is not counted.
fn best<W: FnOnce()>(mpi: &Mpi, prepare: impl Fn() -> W) -> Duration {
    let round = |_| {
        let work = prepare();
        mpi.barrier("ready").wait().unwrap();
        let started = Instant::now();
        work();
        started.elapsed()
    };
    (0..LARGE_CALLS).map(round).min().unwrap()
}

/// Some work that keeps one core busy.
fn compute() {
    let mut state = 1_u64;
    for _ in 0..400_000_000 {
        state = std::hint::black_box(state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
    }
}

#[test]
#[ignore = "a measurement, not a test"]
fn speed() {
    for ranks in [2, 4] {
        println!("{ranks} ranks; rank 0: {}", job::run("speed", ranks).well().report(0));
    }
}
