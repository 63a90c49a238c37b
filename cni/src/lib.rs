//! Pod networking of one node: the CNI plugins, and the library that runs any plugin. See ARCHITECTURE.md.
//!
//! Start at [`plugins::main`], what the `coracle-cni` binary calls under each plugin's name, and at
//! [`invoke::Runtime`], what a container runtime calls. Nothing here knows a pod or the API server, and
//! nothing here is asynchronous: a plugin is one short process.
pub mod address; // an address with its prefix length
pub mod conflist; // network configuration files: read, check, render
pub mod install; // put the plugins into a folder under their names
pub mod invoke; // run plugins and chains of them, keep results
pub mod iptables; // rules of iptables, read and changed in one transaction
pub mod netlink; // the only module that opens a netlink socket
pub mod netns; // the only module that changes namespace
pub mod nft; // text for the `nft` tool, in one transaction
pub mod plugins; // the plugins, one file or folder each
pub mod process; // run a program with input, output and a deadline
pub mod spec; // types of the CNI specification, every version
pub mod sysctl; // kernel settings under /proc/sys

pub use address::Cidr;
pub use install::install;
