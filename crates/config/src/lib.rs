//! Text to a checked plan: the run file, `--set`, and every refusal that needs no other file.
//!
//! Two stages, each one fallible step:
//! 1. [`RunFile`] is what was typed: settings with the place where each one stands, every name known.
//! 2. [`Run`] is what will happen: every value checked, every default filled in, every path absolute.
//!
//! [`Run::to_toml`] writes the second stage so that the first reads it back equal; that text is `RUN/run.toml`.
//! What the programs say alike about a run is here, too: what its checkpoints were made of ([`Origin`]), commands to type, and what one says
//! of a node for another to read ([`NodeReport`]).
//! This crate opens one file, the run file, and reads no environment variable; it only lists them ([`environment`]).

mod advice;
mod check;
pub mod environment;
mod error;
mod node;
mod origin;
mod parallel;
mod place;
pub mod places;
mod reader;
mod run;
mod run_file;
mod settings;
mod site;
mod time;

pub use advice::{other_checkpoint, shell_word};
pub use error::ConfigError;
pub use node::{
    DeviceMemory, DeviceReport, LinkLine, LinkReport, LinkSummary, NODES_DIRECTORY, NodeReport, Opened, Product, STAMP, Space,
};
pub use origin::{Origin, OtherOrigin};
pub use parallel::{ModelSizes, Parallel, Recompute};
pub use place::{Place, line_of};
pub use run::{
    CheckpointPlan, Data, Device, Dtype, EvalPlan, Format, Length, Method, Model, OnBad, Policy, Projection, Run, Schedule,
    Targets, Train,
};
pub use run_file::{Ignored, RunFile, free_on_resume, show};
pub use settings::{SECTIONS, Section, nearest};
pub use site::{LOCAL_SITE, Site};
pub use time::WallTime;

/// The policy set that every program knows: it allows everything.
pub const OPEN_POLICY: &str = "configs/policies/open";
