//! Cluster DNS, served on every node.
