//! What is mounted into pods: each volume set up on disk, kept fresh, taken down, found again after a restart.
//!
//! Guarantees: [`VolumeManager::mount`] and [`VolumeManager::unmount`] are idempotent and may be repeated after a
//! crash at any line; content is swapped in one rename, so that a reader sees the old or the new, never a mixture.
//! Nothing is remembered that cannot be found on disk and in the mount table.

mod atomic; // files that change all at once
mod content; // configMap, secret, downwardAPI, projected
mod content_payload; // objects to files
mod empty_dir; // emptyDir
mod error; // what can go wrong, in upstream's words
mod host_path; // hostPath
mod kind; // what a volume type is
mod manager; // the pods' volumes together
mod mount_table; // what is mounted where
mod ownership; // fsGroup
mod slim; // as much of a pod as changing volumes need
mod subpath; // sub-paths, safe against links
mod tear_down; // taking a pod's folder down
#[cfg(test)]
pub(crate) mod testing; // mounts that nobody else sees

pub use error::VolumeError;
pub use manager::{MountedVolume, PodVolumes, VolumeDeps, VolumeManager};
pub use subpath::bind_subpath;
