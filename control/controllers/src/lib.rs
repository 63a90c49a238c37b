//! The controllers, one file each.
//!
//! Start at [`run`]. Every controller is a `reconcile(key)` over shared informers with slim views; what it decides is
//! a pure function with tables beside it, what it writes are creates and patches. Nothing polls: timers exist only
//! where time itself is the cause (a lease that runs out, a deadline, a toleration).

mod claim; // which objects an owner adopts, keeps and releases
mod deployment; // Deployments to ReplicaSets
mod expectations; // creates and deletes the cache has not shown yet
mod pods; // readiness and availability of pods, and which go first
mod replicaset; // ReplicaSets to Pods
mod root_ca; // the cluster's CA in every namespace
mod run; // starts all of it
mod service_account; // the default account in every namespace
mod shared; // informers and what every controller needs
mod template; // pod templates: compared, hashed, made into pods
mod views; // the fields that are read
mod work; // queue and workers around a reconcile function

pub use run::{ControllersConfig, run};
