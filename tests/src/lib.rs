//! Helpers of the tests that cross crates: the repository's files, programs with a time limit, a tiny model to run them on.

pub mod http;
pub mod material;
pub mod processes;
pub mod program;
pub mod repository;
pub mod safetensors;
pub mod slurm;
pub mod steps;
pub mod workplace;
