//! The MPI group under a real mpirun: this program starts mpirun on itself, and `rank_program` is what each rank then runs.
#![expect(clippy::unwrap_used, reason = "what ranks run stands outside the test functions")]

mod failures;
mod groups;
mod job;
mod letters;
mod speed;
mod standstill;
mod stress;
mod sums;
mod undelivered;

use std::env;

use job::{CASE, Report};

/// Not a test of its own: what a rank does when mpirun started this program.
#[test]
fn rank_program() {
    let Ok(case) = env::var(CASE) else { return };
    let report = Report::open();
    match case.as_str() {
        "sums" => sums::rank_sums(&report),
        "order" => sums::rank_order(&report),
        "bytes" => sums::rank_bytes(&report),
        "mesh" => groups::rank_mesh(&report),
        "parts" => groups::rank_parts(&report),
        "letters" => letters::rank_letters(&report),
        "undelivered" => undelivered::rank_undelivered(&case, &report),
        "too-long" => undelivered::rank_long(&report),
        "speed" => speed::rank_speed(&report),
        other => match other.split_once('/') {
            Some(("standstill", case)) => standstill::rank_program(case, &report),
            Some(("stress", seed)) => stress::rank_stress(seed.parse().unwrap(), &report),
            Some(("stress-killed", seed)) => stress::rank_killed(seed.parse().unwrap(), &report),
            _ => failures::rank_program(other, &report),
        },
    }
}
