//! What this node gives its pods: the worker's door, filled in by the rooms for cgroups, volumes and translation.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use coracle_client::report;
use coracle_cri::proto as v1;
use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::api::node::v1::RuntimeClass;

use crate::cgroup::CgroupManager;
use crate::config::{KubeletConfig, Paths};
use crate::image::of_secret;
use crate::objects::ObjectSource;
use crate::pod;
use crate::translate::{ContainerRequest, ContainerSetup, SandboxSetup, Translator};
use crate::volume::{PodVolumes, VolumeManager};
use crate::worker::home::{HomeError, PodHome, PullSecrets, Wish};

/// The rooms that a pod's home is made of.
#[derive(Clone)]
pub struct Rooms {
    /// The configuration.
    pub config: Arc<KubeletConfig>,
    /// The API server, for RuntimeClasses.
    pub client: Option<kube::Client>,
    /// The kubepods tree.
    pub cgroups: Arc<CgroupManager>,
    /// Mounts.
    pub volumes: Arc<VolumeManager>,
    /// ConfigMaps, Secrets, tokens.
    pub objects: Arc<dyn ObjectSource>,
    /// CRI configs.
    pub translator: Translator,
}

/// The homes of this node's pods.
pub struct House {
    rooms: Rooms,
    homes: Mutex<HashMap<String, Home>>,
}

/// One pod's home.
#[derive(Clone)]
struct Home {
    cgroup_parent: String,
    volumes: Arc<PodVolumes>,
}

impl House {
    /// Nobody lives here yet.
    pub fn new(rooms: Rooms) -> Arc<Self> {
        Arc::new(Self { rooms, homes: Mutex::default() })
    }

    fn home(&self, pod: &Pod) -> Result<Home, HomeError> {
        let homes = self.homes.lock().unwrap_or_else(PoisonError::into_inner);
        homes.get(pod::uid(pod)).cloned().ok_or_else(|| HomeError {
            reason: "CreateContainerConfigError",
            message: "the pod's volumes are not set up yet".into(),
        })
    }

    async fn handler(&self, pod: &Pod) -> Result<String, HomeError> {
        let class =
            pod.spec.as_ref().and_then(|it| it.runtime_class_name.clone()).filter(|it| !it.is_empty());
        let Some(class) = class else { return Ok(String::new()) };
        let missing = |why: String| HomeError {
            reason: "FailedCreatePodSandBox",
            message: format!("failed to get sandbox runtime: no runtime for {class:?} is configured: {why}"),
        };
        let Some(client) = &self.rooms.client else {
            return Err(missing("this kubelet has no API server".into()));
        };
        let found = kube::Api::<RuntimeClass>::all(client.clone()).get(&class).await;
        found.map(|it| it.handler).map_err(|err| missing(report(&err)))
    }
}

#[async_trait]
impl PodHome for House {
    async fn mount(&self, pod: &Pod) -> Result<(), HomeError> {
        let cgroup_parent = self.rooms.cgroups.ensure_pod(pod).await.map_err(|err| HomeError {
            reason: "FailedCreatePodContainer",
            message: format!("unable to ensure pod container exists: {}", report(&err)),
        })?;
        let volumes = self
            .rooms
            .volumes
            .mount(pod)
            .await
            .map_err(|err| HomeError { reason: err.event_reason(), message: report(&err) })?;
        let home = Home { cgroup_parent, volumes: Arc::new(volumes) };
        self.homes.lock().unwrap_or_else(PoisonError::into_inner).insert(pod::uid(pod).to_owned(), home);
        Ok(())
    }

    async fn refresh(&self, pod: &Pod) {
        if let Err(err) = self.rooms.volumes.refresh(pod).await {
            tracing::warn!(pod = %pod::key(pod), error = %report(&err), "volumes are not up to date");
        }
    }

    async fn resize(&self, pod: &Pod, from: Option<&Pod>) -> Result<(), HomeError> {
        let resized = self.rooms.cgroups.resize_pod(pod, from).await;
        resized.map_err(|err| HomeError { reason: "ResizeError", message: report(&err) })
    }

    fn limits(&self, pod: &Pod, container: &Container) -> v1::LinuxContainerResources {
        self.rooms.translator.container_resources(pod, container)
    }

    async fn sandbox(&self, pod: &Pod, attempt: u32) -> Result<(v1::PodSandboxConfig, String), HomeError> {
        let parent = self.home(pod)?.cgroup_parent;
        let SandboxSetup { config, warnings } =
            self.rooms
                .translator
                .sandbox_config(pod, attempt, &parent)
                .map_err(|err| HomeError { reason: err.reason(), message: report(&err) })?;
        for (reason, message) in warnings {
            tracing::warn!(pod = %pod::key(pod), reason, message, "sandbox is not quite as asked");
        }
        // The runtime makes the files, not their folder.
        let folder = config.log_directory.clone();
        if !folder.is_empty()
            && let Err(err) = tokio::fs::create_dir_all(&folder).await
        {
            let message = format!("make pod log directory {folder}: {err}");
            return Err(HomeError { reason: "FailedCreatePodSandBox", message });
        }
        Ok((config, self.handler(pod).await?))
    }

    async fn container(&self, pod: &Pod, wish: Wish) -> Result<ContainerSetup, HomeError> {
        let volumes = self.home(pod)?.volumes;
        let request = ContainerRequest {
            container: &wish.container,
            role: wish.role.clone(),
            image: wish.image.clone(),
            restart_count: wish.restart_count,
            volumes: &volumes,
            pod_ips: &wish.pod_ips,
        };
        let setup = self
            .rooms
            .translator
            .container_config(pod, request)
            .await
            .map_err(|err| HomeError { reason: err.reason(), message: report(&err) })?;
        let paths = &self.rooms.config.paths;
        let logs =
            paths.pod_log_dir(pod::namespace(pod), pod::name(pod), pod::uid(pod)).join(&wish.container.name);
        if let Err(err) = tokio::fs::create_dir_all(&logs).await {
            let message = format!("create container log directory {}: {err}", logs.display());
            return Err(HomeError { reason: "CreateContainerConfigError", message });
        }
        Ok(setup)
    }

    async fn pull_secrets(&self, pod: &Pod) -> PullSecrets {
        let secrets = pod.spec.iter().flat_map(|it| it.image_pull_secrets.iter().flatten());
        let mut found = PullSecrets::default();
        for secret in secrets.filter(|it| !it.name.is_empty()) {
            match self.rooms.objects.secret(pod::namespace(pod), &secret.name).await {
                Ok(secret) => found.known.extend(of_secret(&secret)),
                Err(err) => {
                    let pod = pod::key(pod);
                    tracing::info!(pod, secret = secret.name, error = %report(&err), "pull secret not used");
                    found.missing.push(secret.name.clone());
                }
            }
        }
        found
    }

    async fn clean_up(&self, pod: &Pod) -> Result<(), HomeError> {
        let uid = pod::uid(pod);
        let failed = |reason, message| HomeError { reason, message };
        let volumes = self.rooms.volumes.unmount(uid).await;
        let cgroup = self.rooms.cgroups.remove_pod(uid).await;
        volumes.map_err(|err| failed("FailedKillPod", report(&err)))?;
        cgroup.map_err(|err| failed("FailedKillPod", report(&err)))?;
        self.homes.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
        Ok(())
    }

    async fn remove_logs(&self, pod: &Pod, container: &str, restart_count: u32) {
        if pod::name(pod).is_empty() {
            return; // an orphan: its folder goes as a whole
        }
        let paths = &self.rooms.config.paths;
        let folder = paths.pod_log_dir(pod::namespace(pod), pod::name(pod), pod::uid(pod));
        let path = folder.join(Paths::container_log(container, restart_count));
        let owned = path.clone();
        match tokio::task::spawn_blocking(move || crate::log::remove_all(&owned)).await {
            Ok(Ok(())) => {}
            Ok(Err(err)) => tracing::warn!(log = %path.display(), error = %err, "logs left behind"),
            Err(_) => tracing::warn!(log = %path.display(), "logs left behind"),
        }
    }

    async fn forget(&self, pod: &Pod) {
        let uid = pod::uid(pod).to_owned();
        let named = (!pod::name(pod).is_empty())
            .then(|| self.rooms.config.paths.pod_log_dir(pod::namespace(pod), pod::name(pod), &uid));
        let logs = self.rooms.config.paths.pod_logs.clone();
        let removal = tokio::task::spawn_blocking(move || match named {
            Some(folder) => remove(&folder),
            None => {
                let of_pod = crate::gc::log_folders(&logs).into_iter().filter(|(of, _)| *of == uid);
                of_pod.for_each(|(_, it)| remove(&it));
                // An orphan has no names to find its links by.
                crate::log::remove_dead_links(&logs);
            }
        });
        // A panic in there leaves a folder of logs: the next start finds it.
        let _ = removal.await;
    }
}

fn remove(folder: &std::path::Path) {
    match std::fs::remove_dir_all(folder) {
        Ok(()) => {}
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => {}
        Err(err) => tracing::warn!(folder = %folder.display(), error = %err, "logs left behind"),
    }
}
