//! The pod network across hosts: each node's pods are reached through a VXLAN, or by plain routes to the node.
//!
//! Nodes speak flannel's language (annotations, VNI, port, hardware addresses, `subnet.env`), so a node of flannel's
//! and one of ours are one network. Start at [`Overlay::run`]; [`plan`] says what is to be done, and is pure.

mod config; // what it is told
mod kernel; // look at the kernel, carry a plan out
mod masquerade; // pods outside the cluster: with the host's address
pub mod node; // a Node's annotations, read and written
pub mod plan; // nodes and what the kernel has -> what is to be done
mod run; // the loop
mod subnet_env; // what the flannel plugin reads

#[cfg(test)]
mod tests;

pub use config::{Backend, OverlayConfig};
pub use kernel::{KernelError, cleanup};
pub use run::{Overlay, Prepared};
