//! One MPI rank of a run; also evaluation, export and the other jobs that need tensors.

mod args;
mod bench;
mod doctor;
mod eval;
mod export;
mod failure;
mod logging;
mod logits;
mod models;
mod run;
mod samples;
mod threads;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Args, Job};

// libtorch asks for and returns large buffers at every step; glibc would unmap them and fault them in again each time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let args = Args::parse();
    let json = args.json();
    let outcome = match args.job {
        Job::Run(job) => run::run(&job),
        Job::Eval(job) => eval::run(&job),
        Job::Export(job) => export::run(&job),
        Job::Doctor(_) => doctor::run(),
        Job::Logits(job) => logits::run(&job),
        Job::Bench(job) => bench::run(&job),
    };
    failure::exit_code(outcome, json)
}
