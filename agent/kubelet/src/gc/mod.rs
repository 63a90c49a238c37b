//! What nobody needs any more: images, and what earlier lives of this kubelet left on disk.
//!
//! Dead containers and sandboxes of a pod are its worker's to remove: of each container the last dead one stays.

mod images; // which images may go: pure
mod leftovers; // volumes, cgroups and logs of pods that are no more
mod sweeper; // removes images in time

pub use leftovers::{leftovers, log_folders};
pub use sweeper::{Sweeper, SweeperDeps};
