//! Services to nftables: the node's service proxy.
