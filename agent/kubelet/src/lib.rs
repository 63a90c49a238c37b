//! The kubelet: pods from source to status.
//!
//! Start at [`Kubelet`]; the way of a pod is [`source`] → [`worker`] (plan → act) → [`status`].

pub mod certificate; // the node's certificates: asked for, kept, renewed
pub mod cgroup; // the kubepods tree: made, filled in, removed, read
mod clock; // what time it is
pub mod config; // KubeletConfiguration and flags, resolved into small structs
pub mod dbus; // calls to systemd and logind
pub mod dns; // a pod's resolver configuration
pub mod env; // a container's environment and its expansions
pub mod events; // what happened to a pod, told to users
pub mod gc; // what earlier lives left on disk
pub mod house; // what this node gives its pods: cgroups, volumes, configs together
pub mod image; // names, policies, pulls
mod kubelet; // the rooms put together
pub mod log; // container logs: rotated, removed
pub mod metrics; // figures under upstream's names
pub mod node; // registration, Lease, status of the Node
pub mod objects; // ConfigMaps, Secrets, tokens and Services that pods refer to
pub mod observe; // what the runtime has, and signals that it changed
pub mod pod; // short answers about a Pod
pub mod probe; // liveness, readiness, startup
pub mod resources; // requests and limits as numbers: QoS, shares, OOM score
pub mod server; // the HTTPS server on 10250, health on 10248
pub mod shutdown; // the machine goes down: pods end first
pub mod source; // where pods come from, and whether this node takes them
pub mod stats; // /stats/summary and /metrics/resource, on demand
pub mod status; // a pod's status, computed and written when it differs
pub mod timeline; // what happened to a pod and why
pub mod translate; // Pod to CRI configs: pure but for what env and mounts need
pub mod volume; // what is mounted into pods
pub mod worker; // one task per pod: observe, plan, act

pub(crate) use coracle_client::report;
pub use kubelet::{Kubelet, KubeletDeps, KubeletError, explain};
