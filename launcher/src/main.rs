//! The command that a person types. Small, links no tensor code.
fn main() {}
