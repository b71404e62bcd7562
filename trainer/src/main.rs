//! One MPI rank of a run; also evaluation, export and the other jobs that need tensors.

mod args;
mod bench;
mod caught;
mod confined;
mod custody;
mod doctor;
mod eval;
mod export;
mod failure;
mod gpu;
mod logging;
mod logits;
mod median;
mod models;
mod node;
mod random_batch;
mod run;
mod samples;
mod threads;

use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _};

use crate::args::{Args, Job};

// libtorch asks for and returns large buffers at every step; glibc would unmap them and fault them in again each time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let args = parse();
    let json = args.json();
    let outcome = match args.job {
        // A rank tells of its failure itself, before it leaves the others.
        Job::Run(job) => run::run(&job),
        Job::Eval(job) => told(eval::run(&job)),
        Job::Export(job) => told(export::run(&job)),
        Job::Doctor(_) => told(doctor::run()),
        Job::Logits(job) => told(logits::run(&job)),
        Job::Bench(job) => told(bench::run(&job)),
        Job::Node(job) => told(node::run(&job)),
        Job::GpuCheck(job) => told(gpu::check(&job)),
        Job::GpuBench(job) => told(gpu::bench(&job)),
    };
    failure::exit_code(outcome, json)
}

fn told(outcome: Result<(), failure::Failure>) -> Result<(), failure::Failure> {
    outcome.inspect_err(failure::tell)
}

/// The command line. `sirocco eval` and `sirocco export` become this program: their usage shows what was typed.
fn parse() -> Args {
    let passed_on = std::env::args_os().nth(1).is_some_and(|job| job == "eval" || job == "export");
    let matches = Args::command().bin_name(if passed_on { "sirocco" } else { "sirocco-train" }).get_matches();
    Args::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}
