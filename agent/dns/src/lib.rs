//! Cluster DNS, served on every node at the cluster's DNS address. See ARCHITECTURE.md.
//!
//! Start at [`Dns::run`]. What a name in the cluster's zone means is decided in [`answer`], a pure function over
//! what the informers hold; other names go to the node's own resolvers through [`forward`].
mod answer; // question, services -> answer: pure
mod cache; // what other servers said, for a short time
mod config; // address, zone, where the node's resolvers are listed
mod forward; // other names: ask the node's resolvers
mod loopback; // the cluster's DNS address on lo
mod message; // requests to responses: flags, EDNS, size
mod resolv; // resolv.conf
mod run; // informers and servers, started and stopped as one
mod serve; // UDP and TCP
mod source; // services, endpoints and namespaces by name and address
mod views; // the fields of Services and EndpointSlices that are read

#[cfg(test)]
mod tests; // over sockets, in a namespace

pub use config::DnsConfig;
pub use run::{Dns, DnsError, cleanup};
