//! The real `sirocco`: its help, its refusals, and training with a trainer of shell beside it.
#![expect(clippy::unwrap_used, reason = "a failure here is the test's failure")]

mod bench;
mod help;
mod json;
mod machine;
mod mesh;
mod plan;
mod resuming;
mod run_files;
mod site;
mod training;
mod watching;
