//! The pods' volumes together.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use super::kind::{Request, Work, type_of};
use super::mount_table::MountTable;
use super::{VolumeError, slim, tear_down};
use crate::config::KubeletConfig;
use crate::objects::{ObjectRef, ObjectSource, references};
use crate::translate::NodeAllocatable;

/// How long after a refresh that failed the next is tried, when nothing else calls for it.
const RETRY: Duration = Duration::from_secs(60);

/// What the manager needs of the rest.
#[derive(Clone)]
pub struct VolumeDeps {
    /// The configuration.
    pub config: Arc<KubeletConfig>,
    /// ConfigMaps, Secrets and tokens.
    pub objects: Arc<dyn ObjectSource>,
    /// What the node gives: the size of memory volumes, and of limits that a container does not have.
    pub allocatable: NodeAllocatable,
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
    pods: Mutex<BTreeMap<String, Arc<Entry>>>,
    /// Something new to wait for: a token that ages.
    woken: tokio::sync::Notify,
}

/// A pod's turn: one operation at a time.
struct Entry {
    state: tokio::sync::Mutex<State>,
    /// Read without taking a turn: what to look at when an object changes, and when a token ages.
    watch: Mutex<Watch>,
}

#[derive(Default)]
struct State {
    mounted: Option<PodVolumes>,
    gone: bool,
}

#[derive(Default)]
struct Watch {
    /// As much of the pod as its volumes are made from; none when nothing in them changes.
    pod: Option<Arc<Pod>>,
    refs: Vec<ObjectRef>,
    renew_at: Option<Timestamp>,
}

impl VolumeManager {
    /// A manager; nothing is touched yet.
    pub fn new(deps: VolumeDeps) -> Arc<Self> {
        Arc::new(Self { deps, pods: Mutex::default(), woken: tokio::sync::Notify::new() })
    }

    /// Sets up everything that the pod's containers mount. Idempotent: what stands is left alone, what is missing is
    /// made. Registers the pod's references with the object source. An error is retried by calling again.
    pub async fn mount(&self, pod: &Pod) -> Result<PodVolumes, VolumeError> {
        loop {
            let entry = self.entry(uid(pod));
            let mut state = entry.state.lock().await;
            if state.gone {
                // Taken down while we waited for our turn: what is set up now belongs to a new entry.
                continue;
            }
            if let Some(mounted) = &state.mounted {
                return Ok(mounted.clone());
            }
            self.deps.objects.register(pod);
            let (mounted, renew_at) = self.set_up(pod, |_| true).await?;
            state.mounted = Some(mounted.clone());
            *lock(&entry.watch) = Watch {
                pod: slim::changing(pod).map(Arc::new),
                refs: references(pod).into_iter().collect(),
                renew_at,
            };
            if renew_at.is_some() {
                self.woken.notify_one();
            }
            return Ok(mounted);
        }
    }

    /// Brings configMap, secret, downwardAPI and projected content up to date, each in one swap. To be called when
    /// the pod's own metadata changes; changed objects and ageing tokens are seen to by [`VolumeManager::run`].
    pub async fn refresh(&self, pod: &Pod) -> Result<(), VolumeError> {
        let Some(entry) = lock(&self.pods).get(uid(pod)).cloned() else { return Ok(()) };
        lock(&entry.watch).pod = slim::changing(pod).map(Arc::new);
        self.refresh_entry(&entry).await
    }

    /// Takes down everything of the pod: mounts, folders, then `<root>/pods/<uid>`. A pod that has nothing is no error.
    pub async fn unmount(&self, uid: &str) -> Result<(), VolumeError> {
        let entry = self.entry(uid);
        let mut state = entry.state.lock().await;
        *lock(&entry.watch) = Watch::default();
        state.mounted = None;
        self.deps.objects.unregister(uid);
        let (paths, owned) = (self.deps.config.paths.clone(), uid.to_owned());
        blocking(uid, move || tear_down::tear_down(&paths, &owned)).await?;
        state.gone = true;
        lock(&self.pods).remove(uid);
        Ok(())
    }

    /// The uids that have a folder under `<root>/pods`, whether known or not.
    pub fn leftovers(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.deps.config.paths.pods()) else { return Vec::new() };
        entries.flatten().filter_map(|it| it.file_name().into_string().ok()).collect()
    }

    /// Keeps content fresh until `token` is cancelled: changed ConfigMaps and Secrets, tokens past 80 % of their life.
    pub async fn run(&self, token: CancellationToken) {
        let mut changes = self.deps.objects.changes();
        loop {
            let due = self.next_renewal();
            // Every arm only waits: what it was about is looked up afterwards, so that dropping it loses nothing.
            let stale = tokio::select! {
                () = token.cancelled() => return,
                () = self.woken.notified() => continue,
                () = until(due) => self.aged(Timestamp::now()),
                change = changes.recv() => match change {
                    Ok(object) => self.using(&object),
                    Err(RecvError::Lagged(_)) => self.everything(),
                    Err(RecvError::Closed) => return,
                },
            };
            for entry in stale {
                if let Err(err) = self.refresh_entry(&entry).await {
                    tracing::debug!(error = %crate::report(&err), "volume content stays as it is");
                }
            }
        }
    }

    async fn refresh_entry(&self, entry: &Entry) -> Result<(), VolumeError> {
        let mut state = entry.state.lock().await;
        if state.mounted.is_none() {
            return Ok(());
        }
        let Some(pod) = lock(&entry.watch).pod.clone() else { return Ok(()) };
        let outcome = self.set_up(&pod, slim::is_changing).await;
        let retry = Timestamp::now() + SignedDuration::try_from(RETRY).unwrap_or_default();
        let mut watch = lock(&entry.watch);
        match outcome {
            Ok((fresh, renew_at)) => {
                if let Some(mounted) = &mut state.mounted {
                    mounted.by_name.extend(fresh.by_name);
                }
                watch.renew_at = renew_at;
                Ok(())
            }
            Err(err) => {
                // Only a pod with tokens has an hour to keep; the others wait for the object's next change.
                watch.renew_at = watch.renew_at.map(|_| retry);
                Err(err)
            }
        }
    }

    /// Fetches for all volumes at once, then does all work on this machine in one go.
    async fn set_up(
        &self,
        pod: &Pod,
        which: impl Fn(&k8s_openapi::api::core::v1::Volume) -> bool,
    ) -> Result<(PodVolumes, Option<Timestamp>), VolumeError> {
        // Images are mounted by the runtime.
        let volumes = pod.spec.iter().flat_map(|it| it.volumes.iter().flatten());
        let volumes = volumes.filter(|it| it.image.is_none() && which(it));
        let preparing = volumes.map(|volume| async move {
            let request = Request { deps: &self.deps, pod, volume };
            let prepared = type_of(volume)?.prepare(&request).await?;
            Ok::<_, VolumeError>((volume.name.clone(), prepared))
        });
        let prepared = futures::future::try_join_all(preparing).await?;
        // A server whose clock is far from ours must not make us ask without end.
        let soonest = Timestamp::now() + SignedDuration::from_secs(30);
        let renew_at = prepared.iter().filter_map(|(_, it)| it.renew_at).min().map(|it| it.max(soonest));
        let work: Vec<(String, Work)> = prepared.into_iter().map(|(name, it)| (name, it.work)).collect();
        let folder = self.deps.config.paths.pod(uid(pod));
        let by_name = blocking(uid(pod), move || {
            make_private(&folder)?;
            let mounts = MountTable::read()?;
            let done = work.into_iter().map(|(name, work)| {
                let volume = work(&mounts).map_err(|err| named(&name, err))?;
                Ok((name, volume))
            });
            done.collect::<Result<BTreeMap<_, _>, VolumeError>>()
        })
        .await?;
        Ok((PodVolumes { by_name }, renew_at))
    }

    fn entry(&self, uid: &str) -> Arc<Entry> {
        let mut pods = lock(&self.pods);
        let new = || Arc::new(Entry { state: tokio::sync::Mutex::default(), watch: Mutex::default() });
        Arc::clone(pods.entry(uid.to_owned()).or_insert_with(new))
    }

    fn everything(&self) -> Vec<Arc<Entry>> {
        lock(&self.pods).values().cloned().collect()
    }

    fn using(&self, object: &ObjectRef) -> Vec<Arc<Entry>> {
        self.filtered(|watch| watch.refs.contains(object))
    }

    fn aged(&self, now: Timestamp) -> Vec<Arc<Entry>> {
        self.filtered(|watch| watch.renew_at.is_some_and(|it| it <= now))
    }

    fn filtered(&self, keep: impl Fn(&Watch) -> bool) -> Vec<Arc<Entry>> {
        lock(&self.pods).values().filter(|it| keep(&lock(&it.watch))).cloned().collect()
    }

    fn next_renewal(&self) -> Option<Timestamp> {
        lock(&self.pods).values().filter_map(|it| lock(&it.watch).renew_at).min()
    }
}

/// Only the kubelet and root look into a pod's folder.
fn make_private(folder: &Path) -> Result<(), VolumeError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o750)
        .create(folder)
        .map_err(VolumeError::io("create", folder))
}

fn named(volume: &str, err: VolumeError) -> VolumeError {
    match err {
        VolumeError::Io { .. } => {
            VolumeError::SetUp { volume: volume.to_owned(), reason: crate::report(&err) }
        }
        other => other,
    }
}

async fn blocking<T: Send + 'static>(
    uid: &str,
    work: impl FnOnce() -> Result<T, VolumeError> + Send + 'static,
) -> Result<T, VolumeError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| VolumeError::Interrupted { uid: uid.to_owned() })?
}

async fn until(due: Option<Timestamp>) {
    match due {
        Some(due) => tokio::time::sleep(Duration::try_from(due - Timestamp::now()).unwrap_or_default()).await,
        None => std::future::pending().await,
    }
}

fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
