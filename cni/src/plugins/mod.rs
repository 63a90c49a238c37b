//! The plugins, and the entry of the binary that holds them all.
pub mod bandwidth; // traffic held to a rate
pub mod bridge; // a bridge on the host, a link pair per container
pub mod dummy; // a link that leads nowhere
mod entry; // from the process to a plugin and back
pub mod firewall; // packets of containers past the host's firewall
pub mod fixed; // `static`: addresses as they are written in the configuration
pub mod flannel; // another plugin, configured by what flannel found out
pub mod host_device; // a device of the host, moved into the container
pub mod host_local; // addresses from ranges, leased in files
mod inside; // the container's side of every plugin that gives it an interface
mod ipam; // the plugin that gives addresses to another plugin
pub mod ipvlan; // a link on a device of the host, told apart by address
pub mod loopback; // the container's own lo
pub mod macvlan; // a link on a device of the host, told apart by hardware address
mod masquerade; // outgoing packets take the host's address
mod pair; // a link pair between host and container
pub mod portmap; // ports of the host that lead to containers
pub mod ptp; // a link pair, routed
mod rules; // what plugins share in nftables: one table, owned elements
pub mod sbr; // routing by source address
mod single; // a plugin whose link is only in the container
pub mod tuning; // settings of an interface
pub mod vlan; // the packets with one VLAN tag of a device of the host

pub use entry::{Call, Kind, Plugin, call, main};
pub use rules::{TABLE, purge};
