//! Every plugin, as a runtime calls it: our binary, a real kernel, network namespaces of their own.
//!
//! What the plugins made is looked at with `ip`, `nft` and sockets, never with our own reader.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod bandwidth; // rates
mod bridge; // links, addresses, routes, masquerade
mod chain; // whole lists through our own runtime library
mod crash; // kill -9 at any moment
mod firewall; // rules of the host's firewall
mod fixed; // `static`
mod flannel; // configuration from the overlay
mod host_local; // leases
mod interop; // with the reference plugins of the distribution
mod portmap; // ports of the host
mod ptp; // routed pairs
mod sbr; // routing by source
mod single; // links that are only in the container
mod tables; // what nft shows of our tables
mod tuning; // settings
mod versions; // every version of the specification
mod world; // a host, containers, a folder with the plugins
