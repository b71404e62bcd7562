//! Long programs of random calls on overlapping groups, the same on all ranks, each checked against what it must give.

use std::{sync::Arc, thread, time::Duration};

use rstest::rstest;
use sirocco_comm::{CommError, Communicator, Mpi, Options, Pending};

use crate::{
    failures::{NO_HELP, kill_self},
    job::{self, Report, run_with},
};

const CALLS: usize = 400;

/// A small generator: the same numbers on every rank.
struct Draw(u64);

impl Draw {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % limit
    }

    /// Mostly small, sometimes several segments.
    fn length(&mut self) -> usize {
        let most = [4, 600, 3000, 200_000, 700_000][self.below(5)];
        self.below(most)
    }
}

/// The element of rank `rank` in call `call`: small whole numbers, whose sums are exact in any order.
fn value(rank: usize, call: usize) -> f32 {
    (rank * 7 + call % 11) as f32
}

/// A result that is still to come, and what it must be.
enum Expected {
    Numbers(Pending<Vec<f32>>, f32, usize),
    Parts(Pending<Vec<Vec<u8>>>, Vec<Vec<u8>>),
    Bytes(Pending<Vec<u8>>, Vec<u8>),
    Nothing(Pending<()>),
}

impl Expected {
    fn check(self, call: usize) -> Result<(), CommError> {
        match self {
            Expected::Numbers(sum, each, length) => {
                let sum = sum.wait()?;
                assert!(sum.len() == length && sum.iter().all(|&value| value == each), "call {call}");
            }
            Expected::Parts(parts, expected) => assert!(parts.wait()? == expected, "call {call}"),
            Expected::Bytes(bytes, expected) => assert!(bytes.wait()? == expected, "call {call}"),
            Expected::Nothing(pending) => pending.wait()?,
        }
        Ok(())
    }
}

/// One call that all ranks draw alike; only the members of the drawn group take part in it.
fn step(groups: &[Vec<Arc<dyn Communicator>>], rank: usize, call: usize, draw: &mut Draw) -> Option<Expected> {
    let (kind, which, length) = (draw.below(6), draw.below(groups.len()), draw.length());
    let (one, other, shift) = (draw.below(64), draw.below(64), draw.below(64));
    let group = groups[which].iter().find(|group| group.members().contains(&rank))?;
    let (own, size, members) = (group.rank(), group.size(), group.members());
    let sum: f32 = members.iter().map(|&rank| value(rank, call)).sum();
    let bytes = |rank: usize| vec![(rank * 31 + call) as u8; length];
    Some(match kind {
        0 => Expected::Numbers(group.all_reduce_f32("sum", vec![value(rank, call); length]), sum, length),
        1 => {
            let lengths: Vec<usize> = (0..size).map(|rank| length / (1 + (rank + shift) % 3)).collect();
            let data = vec![value(rank, call); lengths.iter().sum()];
            Expected::Numbers(group.reduce_scatter_f32("part", data, &lengths), sum, lengths[own])
        }
        2 => Expected::Parts(group.all_gather_bytes("gather", bytes(rank)), members.iter().map(|&rank| bytes(rank)).collect()),
        3 => Expected::Bytes(group.broadcast_bytes("tell", one % size, bytes(rank)), bytes(members[one % size])),
        4 => Expected::Nothing(group.barrier("here")),
        _ => {
            // A message from one member to another, perhaps the same.
            let (from, to) = (one % size, other % size);
            if own == from {
                // After an error this is one, too; what is waited for next says so.
                let _ = group.send_bytes("message", to, bytes(rank)).wait();
            }
            if own != to {
                return None;
            }
            Expected::Bytes(group.receive_bytes("message", from), bytes(members[from]))
        }
    })
}

pub(crate) fn rank_stress(seed: u64, report: &Report) {
    let mpi = Mpi::start(Options { timeout: Duration::from_secs(60) }).unwrap();
    program(&mpi, seed, CALLS).unwrap();
    report.write(mpi.rank(), "right");
}

/// The last rank kills itself somewhere in a program without an end.
pub(crate) fn rank_killed(seed: u64, report: &Report) {
    let mpi = Mpi::start(Options { timeout: Duration::from_secs(60) }).unwrap();
    mpi.barrier("ready").wait().unwrap();
    if mpi.rank() + 1 == mpi.size() {
        thread::spawn(move || {
            thread::sleep(Duration::from_millis(Draw(seed).below(400) as u64));
            kill_self();
        });
    }
    let error = program(&mpi, seed, usize::MAX).unwrap_err();
    report.write(mpi.rank(), &error.to_string());
    // The others end by themselves.
    thread::sleep(Duration::from_secs(2));
    std::process::exit(1);
}

/// `calls` random calls.
fn program(mpi: &Mpi, seed: u64, calls: usize) -> Result<(), CommError> {
    let (rank, size) = (mpi.rank(), mpi.size());
    // Every rank is in one group of each kind: all, pairs, every other rank, the inner ranks, itself.
    let kinds: [(&'static str, &dyn Fn(usize) -> usize); 5] = [
        ("all", &|_| 0),
        ("pairs", &|rank| rank / 2),
        ("strides", &|rank| rank % 2),
        ("inner", &|rank| usize::from(rank > 0 && rank + 1 < size)),
        ("alone", &|rank| rank),
    ];
    let groups: Vec<Vec<Arc<dyn Communicator>>> = kinds
        .iter()
        .map(|(name, color)| {
            let members: Vec<usize> = (0..size).filter(|&other| color(other) == color(rank)).collect();
            vec![mpi.group(name, &members).unwrap()]
        })
        .collect();
    let (mut draw, mut own) = (Draw(seed), Draw(seed * 1000 + rank as u64));
    let mut open: Vec<(usize, Expected)> = Vec::new();
    for call in 0..calls {
        if let Some(expected) = step(&groups, rank, call, &mut draw) {
            open.push((call, expected));
        }
        if own.below(20) == 0 {
            thread::sleep(Duration::from_millis(own.below(8) as u64));
        }
        // Some are waited for soon, some late, in any order.
        while open.len() > own.below(30) {
            let (call, expected) = open.swap_remove(own.below(open.len()));
            expected.check(call)?;
        }
    }
    open.into_iter().try_for_each(|(call, expected)| expected.check(call))
}

#[rstest]
fn random_programs_on_overlapping_groups_come_out_right(#[values(1, 2, 3)] seed: u64, #[values(4, 6)] ranks: usize) {
    let ended = job::run(&format!("stress/{seed}"), ranks).well();
    assert!((0..ranks).all(|rank| ended.report(rank) == "right"), "{}", ended.told());
}

#[rstest]
fn a_rank_killed_at_any_moment_is_named_by_all_others(#[values(1, 2, 3, 4, 5, 6)] seed: u64) {
    let ended = run_with(&format!("stress-killed/{seed}"), 4, &NO_HELP);
    for rank in 0..3 {
        assert!(ended.report(rank).starts_with("rank 3 (process "), "{}", ended.told());
    }
    assert!(ended.took < Duration::from_secs(15), "{}", ended.told());
}
