//! The server as its users meet it: the real program with a tiny random model, over a socket.

mod answers;
mod lifecycle;
mod server;
