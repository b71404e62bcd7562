//! Latency and bandwidth, printed: `cargo test --release -p sirocco-comm --test mpi -- --ignored --nocapture speed`.

use std::time::{Duration, Instant};

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
    let mut data = vec![1.0_f32; LARGE];
    let mut large = Duration::MAX;
    for _ in 0..LARGE_CALLS {
        let started = Instant::now();
        data = mpi.all_reduce_f32("large", data).wait().unwrap();
        large = large.min(started.elapsed());
    }
    let started = Instant::now();
    compute();
    let alone = started.elapsed();
    let started = Instant::now();
    let pending = mpi.all_reduce_f32("large", data);
    compute();
    pending.wait().unwrap();
    let both = started.elapsed();
    let gigabytes = (LARGE * size_of::<f32>()) as f64 / 1e9;
    let text = format!(
        "8 bytes: median {:?}, 95 % {:?}; 64 MiB of f32: best {:?}, {:.2} GB/s; \
         computing {alone:?}, computing while reducing 64 MiB {both:?}",
        small[SMALL_CALLS / 2],
        small[SMALL_CALLS * 95 / 100],
        large,
        gigabytes / large.as_secs_f64()
    );
    report.write(mpi.rank(), &text);
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
        println!("{ranks} ranks, rank 0: {}", job::run("speed", ranks).well().report(0));
    }
}
