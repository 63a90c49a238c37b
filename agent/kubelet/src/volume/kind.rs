//! What a volume type is, and which one a volume asks for.

use std::path::PathBuf;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Pod, Volume};

use super::mount_table::MountTable;
use super::ownership::Group;
use super::{MountedVolume, VolumeDeps, VolumeError};
use super::{content, empty_dir, host_path};

/// Work on this machine, done together with that of the pod's other volumes on a blocking thread.
pub(super) type Work = Box<dyn FnOnce(&MountTable) -> Result<MountedVolume, VolumeError> + Send>;

/// A volume of which everything from elsewhere is at hand.
pub(super) struct Prepared {
    pub(super) work: Work,
    /// When its content is too old.
    pub(super) renew_at: Option<jiff::Timestamp>,
}

/// A volume to be set up.
pub(super) struct Request<'a> {
    pub(super) deps: &'a VolumeDeps,
    pub(super) pod: &'a Pod,
    pub(super) volume: &'a Volume,
}

impl Request<'_> {
    /// The volume's folder for this plugin.
    pub(super) fn dir(&self, plugin: &str) -> PathBuf {
        let uid = self.pod.metadata.uid.as_deref().unwrap_or_default();
        self.deps.config.paths.volume(uid, plugin, &self.volume.name)
    }

    /// `fsGroup`, as it applies to a volume that can be written or not.
    pub(super) fn group(&self, read_only: bool) -> Option<Group> {
        let context = self.pod.spec.as_ref()?.security_context.as_ref()?;
        let gid = u32::try_from(context.fs_group?).ok()?;
        let only_on_root_mismatch =
            !read_only && context.fs_group_change_policy.as_deref() == Some("OnRootMismatch");
        Some(Group { gid, read_only, only_on_root_mismatch })
    }

    /// An error of this volume, with a sentence for the user.
    pub(super) fn refused(&self, reason: impl Into<String>) -> VolumeError {
        VolumeError::SetUp { volume: self.volume.name.clone(), reason: reason.into() }
    }
}

/// A type of volume. Taking down is the same for all: unmount what is below its folder, remove the folder.
#[async_trait]
pub(super) trait VolumeType: Send + Sync {
    /// Fetches what is needed from elsewhere; what is left is work on this machine, which must be idempotent.
    async fn prepare(&self, request: &Request<'_>) -> Result<Prepared, VolumeError>;
}

/// The type that a volume asks for.
pub(super) fn type_of(volume: &Volume) -> Result<Box<dyn VolumeType>, VolumeError> {
    if let Some(source) = &volume.empty_dir {
        return Ok(Box::new(empty_dir::EmptyDir(source.clone())));
    }
    if let Some(source) = &volume.host_path {
        return Ok(Box::new(host_path::HostPath(source.clone())));
    }
    if let Some(content) = content::Content::of(volume) {
        return Ok(Box::new(content));
    }
    Err(VolumeError::Unsupported { volume: volume.name.clone(), kind: other(volume) })
}

/// The name of the field that is set, of those that are not done here.
fn other(volume: &Volume) -> &'static str {
    let fields = [
        ("persistentVolumeClaim", volume.persistent_volume_claim.is_some()),
        ("csi", volume.csi.is_some()),
        ("ephemeral", volume.ephemeral.is_some()),
        ("nfs", volume.nfs.is_some()),
        ("iscsi", volume.iscsi.is_some()),
        ("fc", volume.fc.is_some()),
        ("flexVolume", volume.flex_volume.is_some()),
        ("gitRepo", volume.git_repo.is_some()),
    ];
    fields.iter().find(|it| it.1).map_or("this volume type", |it| it.0)
}
