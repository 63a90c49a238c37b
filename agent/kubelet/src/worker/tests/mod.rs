//! The worker's tests: plans by tables, the task over the fake runtime.

pub(crate) mod dsl; // pods and worlds in a few words
mod faults; // every call to the runtime, every fault
pub(crate) mod home; // surroundings of a roster
mod node; // a kubelet's workers over a fake runtime
mod plans; // what is planned, case by case
mod tasks; // the task over the fake runtime
