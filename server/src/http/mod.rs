//! OpenAI's API over HTTP: from a request's fields to a plan for the engine, and from events to an answer.

mod admission;
mod chat;
mod completions;
mod error;
mod fields;
mod format;
mod models;
mod options;
mod router;
mod service;
mod stream;
#[cfg(test)]
mod tests;

pub(crate) use router::router;
pub(crate) use service::{Service, now};
