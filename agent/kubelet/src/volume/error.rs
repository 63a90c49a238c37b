//! What can go wrong with a volume.

use std::path::PathBuf;

use crate::objects::ObjectError;

/// Why a pod's volumes are not there (yet).
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// One volume could not be set up: the text of the `FailedMount` event.
    #[error("MountVolume.SetUp failed for volume {volume:?} : {reason}")]
    SetUp {
        /// The volume's name in the pod.
        volume: String,
        /// Why, as one line.
        reason: String,
    },
    /// A volume type that this kubelet does not do.
    #[error("volume {volume:?}: no volume plugin matched: {kind} is not supported")]
    Unsupported {
        /// The volume's name in the pod.
        volume: String,
        /// The field of the volume source.
        kind: &'static str,
    },
    /// An object that the volume is made of.
    #[error("MountVolume.SetUp failed for volume {volume:?} : {}", crate::report(.cause))]
    Object {
        /// The volume's name in the pod.
        volume: String,
        /// Which object, and why: part of the sentence, so it is no further link of the chain.
        cause: ObjectError,
    },
    /// A file or mount could not be made or removed.
    #[error("{action} {path}", path = path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: std::io::Error,
    },
    /// Several volumes of one pod could not be taken down.
    #[error("take down volumes of pod {uid}: {}", .failures.join("; "))]
    TearDown {
        /// The pod.
        uid: String,
        /// Each failure.
        failures: Vec<String>,
    },
    /// The thread that did the work is gone.
    #[error("volume work for pod {uid} was cut off")]
    Interrupted {
        /// The pod.
        uid: String,
    },
}

impl VolumeError {
    /// The reason of the Event that tells the user: `FailedMount`.
    pub fn event_reason(&self) -> &'static str {
        "FailedMount"
    }

    /// An error of the file system, with what was tried on what.
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}
