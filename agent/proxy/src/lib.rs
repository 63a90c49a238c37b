//! The node's service proxy: Services and EndpointSlices become nftables rules. See ARCHITECTURE.md.
//!
//! Start at [`Proxy::run`]. What a service means is decided in [`rules`], a pure function; [`state`] turns the
//! difference between two meanings into the text of one transaction; [`sync`] waits, and gives that text to `nft`.
mod config; // what the proxy must know of its node
mod health; // GET /healthz and /livez
mod rules; // one service, its endpoints -> elements and chains: pure
mod state; // all services -> text of a transaction: pure
mod sync; // informers, nft, connections to forget
mod table; // the table around the elements
mod views; // the fields of Services and EndpointSlices that are read

#[cfg(test)]
mod tests; // rules as text, loaded by nft, and packets through them

pub use config::{ConfigError, PodTraffic, ProxyConfig};
pub use sync::{Proxy, ProxyError, cleanup};
