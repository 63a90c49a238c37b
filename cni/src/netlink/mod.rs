//! Talk to the kernel about links, addresses, routes and connections. Thin, typed, synchronous.
//!
//! A [`Netlink`] is bound to the network namespace of the thread that opened it, and may be used from any
//! other thread afterwards. Every call is one request and its answer.
mod addr; // addresses of a link
pub mod conntrack; // tracked connections
mod event; // what changed, told by the kernel
mod kind; // links of many kinds, made; VLANs of a bridge
mod link; // links: find, change, remove; pairs
mod message; // attributes, written and read
mod neighbour; // which hardware address an IP address has, and which host a hardware address
pub mod nft; // tables, rules and sets of nf_tables
mod route; // routes
mod rule; // which routing table for which packets
mod socket; // requests and answers
pub mod traffic; // queues that hold packets back
mod vxlan; // how a link wraps frames for other hosts

pub use addr::{Address, AddressOptions};
pub use event::{Event, Events};
pub use kind::{LinkKind, NewLink, PortVlans};
pub use link::{Link, LinkChange, Mac, Veth};
pub use neighbour::{FdbEntry, Neighbour};
pub use route::RouteSpec;
pub use rule::RuleSpec;
pub use socket::{Netlink, NetlinkError};
pub use vxlan::Vxlan;
