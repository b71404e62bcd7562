//! Questions to the record of a run: what became of each of its jobs ([`jobs`]), and what has happened to the chain since a person last submitted
//! it ([`Past`]). Nobody else goes through the events to find that out, but for the report, which lays out all of them.

mod jobs;
mod past;

#[cfg(test)]
pub(crate) use jobs::tests;
pub(crate) use jobs::{Job, JobState, current, jobs};
pub(crate) use past::Past;
