//! The inference server: an OpenAI-compatible HTTP endpoint.
fn main() {}
