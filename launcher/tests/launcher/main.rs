//! The real `sirocco`: its help, its refusals, and training with a trainer of shell beside it.
#![expect(clippy::unwrap_used, reason = "a failure here is the test's failure")]

mod bench;
mod bundle;
mod evidence;
mod help;
mod json;
mod live;
mod machine;
mod mesh;
mod plan;
mod policy;
mod policy_trust;
mod report;
mod resuming;
mod run_files;
mod screen;
mod site;
mod submit;
mod sweeps;
mod training;
mod watching;
