//! The controllers, one file each.
//!
//! Start at [`run`]. Every controller is a `reconcile(key)` over shared informers with slim views; what it decides is
//! a pure function with tables beside it, what it writes are creates and patches. Nothing polls: timers exist only
//! where time itself is the cause (a lease that runs out, a deadline, a toleration).

mod bootstrap; // tokens of machines that join
mod certificates; // what nodes and users ask to have signed
mod claim; // which objects an owner adopts, keeps and releases
mod deployment; // Deployments to ReplicaSets
mod discovery; // which resources the server has
mod endpoints; // where the traffic of Services goes
mod expectations; // creates and deletes the cache has not shown yet
mod garbage; // objects whose owners are gone
mod namespace; // namespaces that end
mod node_ipam; // a pod network for every node
mod node_lifecycle; // nodes that fall silent
mod pod_gc; // pods nobody else will remove
mod pods; // readiness and availability of pods, and which go first
mod replicaset; // ReplicaSets to Pods
mod root_ca; // the cluster's CA in every namespace
mod run; // starts all of it
mod service_account; // the default account in every namespace
mod shared; // informers and what every controller needs
mod status_conditions; // conditions without an update time
mod taint_eviction; // pods leave nodes that drive them out
mod template; // pod templates: compared, hashed, made into pods
mod views; // the fields that are read
mod work; // queue and workers around a reconcile function

pub use certificates::{CertificateAuthority, Order};
pub use node_ipam::{CidrError, NodeMasks};
pub use run::{ControllersConfig, run};

#[cfg(test)]
mod node_tests;
#[cfg(test)]
mod testing;
