//! The API server as clients see it: a real store, the whole way of a request, hardly ever a socket.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod access;
mod deletion;
mod harness;
mod joining;
mod kinds;
mod lists;
mod services;
mod sockets;
mod subresources;
mod watches;
mod writes;
