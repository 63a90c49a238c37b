//! The plugins, and the entry of the binary that holds them all.
pub mod bridge; // a bridge on the host, a link pair per container
mod entry; // from the process to a plugin and back
pub mod host_local; // addresses from ranges, leased in files
mod ipam; // the plugin that gives addresses to another plugin
pub mod loopback; // the container's own lo
mod masquerade; // outgoing packets take the host's address
pub mod portmap; // ports of the host that lead to containers
mod rules; // what plugins share in nftables: one table, owned elements

pub use entry::{Call, Kind, Plugin, call, main};
pub use rules::{TABLE, purge};
