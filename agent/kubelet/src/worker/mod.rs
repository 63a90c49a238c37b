//! One task per pod: observe, plan, act.
//!
//! The plan is pure. What it plans runs side by side, one thing per [`facts::Subject`]; whatever ends, changes or is due
//! wakes the task, which looks at the facts and plans again. Events never carry the change.

mod act; // carries actions out: holds no choice
pub mod action; // what a plan is made of
mod api; // the API server as a worker sees it
mod ending; // the way out
pub mod facts; // what a plan is made from
pub mod home; // what the node gives a pod
mod hooks; // postStart and preStop
mod inbox; // how the world wakes a worker
pub mod plan; // the pure heart
mod reason; // why a step was chosen, for the timeline
mod report; // what actions found out
pub mod resize; // resources that change while a pod runs
mod restart; // policy, back-off, counts
mod roster; // all workers of this node
mod run; // the task
mod statuses; // the worker's side of the status
mod view; // the roster as the server shows it

pub use act::Tools;
pub use api::{Api, ApiError, NoApi, PodApi};
#[cfg(test)]
pub(crate) use ending::ending_of;

pub use inbox::Inbox;
pub use resize::Pending;
pub use restart::is_wanted as restart_is_wanted;
pub use restart::{anew_since, counts, is_beginning_anew};
pub use roster::{Common, Entry, Published, Roster};

#[cfg(test)]
pub(crate) mod tests;
