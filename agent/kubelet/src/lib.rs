//! The kubelet: pods from source to status.

pub mod cgroup; // the kubepods tree: made, filled in, removed, read
pub mod config; // KubeletConfiguration and flags, resolved into small structs
pub mod dns; // a pod's resolver configuration
pub mod env; // a container's environment and its expansions
pub mod node; // registration, Lease, status of the Node
pub mod objects; // ConfigMaps, Secrets, tokens and Services that pods refer to
pub mod resources; // requests and limits as numbers: QoS, shares, OOM score
pub mod stats; // /stats/summary and /metrics/resource, on demand
pub mod translate; // Pod to CRI configs: pure but for what env and mounts need
pub mod volume; // what is mounted into pods
