//! The container runtime side of a node: CRI v1 types, what a node asks of a runtime, and who answers.
//!
//! Nothing here knows a Pod: the words are CRI's own (sandbox, container, image).
#![warn(clippy::wildcard_enum_match_arm)]

pub mod error; // how calls fail
pub mod fake; // a runtime in memory, for tests and hollow nodes
pub mod proto; // CRI v1, generated
pub mod remote; // a runtime behind a socket
pub mod runtime; // the traits
pub mod streaming; // exec, attach and port-forward, byte by byte

pub use error::CriError;
pub use fake::FakeRuntime;
pub use remote::{Remote, RemoteConfig};
pub use runtime::{Containers, Images, Runtime, RuntimeHandle, Sandboxes, Streams};
pub use tonic::Code;
