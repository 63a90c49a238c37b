//! The scheduler: filter and score plugins, binding.
//!
//! Start at [`run`]. [`schedule`] is pure: a pod and a [`Snapshot`] in, a [`Decision`] out. The snapshot follows the
//! cluster change by change; a decision is assumed in it at once and bound to the API in a task of its own, so that
//! pods are not held up by each other's bindings. Plugins keep upstream's names, order, weights and sentences.

mod bind; // what follows from a decision: binding, event, condition
mod diagnosis; // why a pod fits nowhere, in one sentence
mod framework; // extension points
mod plugins; // what decides
mod pod; // a pod as the scheduler sees it
mod queue; // which pod is next
mod resources; // amounts: requested, allocatable
mod run; // events in, decisions out
mod schedule; // one pod: filter, score, choose
mod snapshot; // nodes with the pods on them

pub use diagnosis::Diagnosis;
pub use pod::Pod;
pub use run::{SchedulerConfig, run};
pub use schedule::{Decision, schedule};
pub use snapshot::{Node, Snapshot};
