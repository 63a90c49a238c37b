//! Talk to the kernel about links, addresses, routes and connections. Thin, typed, synchronous.
//!
//! A [`Netlink`] is bound to the network namespace of the thread that opened it, and may be used from any
//! other thread afterwards. Every call is one request and its answer.
mod addr; // addresses of a link
pub mod conntrack; // tracked connections
mod link; // links: find, make, change, remove
mod message; // attributes, written and read
pub mod nft; // tables, rules and sets of nf_tables
mod route; // routes
mod socket; // requests and answers

pub use addr::Address;
pub use link::{Link, LinkChange, Mac, Veth};
pub use route::RouteSpec;
pub use socket::{Netlink, NetlinkError};
