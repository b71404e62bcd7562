//! The server as its users meet it: the real program with a tiny random model, over a socket.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop where it is")]

mod answers;
mod confined;
mod custody;
mod lifecycle;
mod ministry;
mod server;
