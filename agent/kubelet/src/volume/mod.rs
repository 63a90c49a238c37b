//! What is mounted into pods: each volume set up on disk, kept fresh, taken down, found again after a restart.
//!
//! Guarantees: [`VolumeManager::mount`] and [`VolumeManager::unmount`] are idempotent and may be repeated after a
//! crash at any line; content is swapped in one rename, so that a reader sees the old or the new, never a mixture.

mod error; // what can go wrong, in upstream's words
mod manager; // the pods' volumes together

pub use error::VolumeError;
pub use manager::{MountedVolume, PodVolumes, VolumeDeps, VolumeManager};
