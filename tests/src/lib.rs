//! The harness of the end-to-end tests: whole hosts and clusters on one machine, as a user would run them.
//!
//! Start at [`Cluster`]: it makes a [`Host`] and brings a cluster up in it by `hack/up`, so that what is tested is what
//! the README says. Everything a test leaves behind dies with its host.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a harness fails its test by panicking")]

mod cluster; // a cluster in a host of its own
mod eventually; // waiting for a value, with a deadline
mod host; // namespaces that make a host
mod kubectl; // the real client

pub use cluster::{Cluster, Options};
pub use eventually::{eventually, eventually_within};
pub use host::Host;
pub use kubectl::{Kubectl, Output};
