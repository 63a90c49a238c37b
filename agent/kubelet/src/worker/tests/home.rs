//! A home without rooms, an API server in memory, and Events kept for looking at.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use coracle_cri::proto as v1;
use k8s_openapi::api::core::v1::{Container, Pod, PodStatus};
use serde_json::Value;

use crate::events::{Events, Severity};
use crate::pod;
use crate::translate::{ContainerSetup, container_hash, keys};
use crate::worker::home::{HomeError, PodHome, PullSecrets, Wish};
use crate::worker::{ApiError, PodApi};

/// Counts who lives in it.
#[derive(Default)]
pub(crate) struct PlainHome {
    pub mounted: Mutex<Vec<String>>,
    pub fail_mounts: Mutex<u32>,
    pub fail_configs: Mutex<u32>,
    /// The cpu of the pod's cgroup after each change.
    pub resized: Mutex<Vec<i64>>,
    pub removed_logs: Mutex<Vec<String>>,
}

#[async_trait]
impl PodHome for PlainHome {
    async fn mount(&self, pod: &Pod) -> Result<(), HomeError> {
        let mut left = self.fail_mounts.lock().unwrap();
        if *left > 0 {
            *left -= 1;
            return Err(HomeError { reason: "FailedMount", message: "no such thing".into() });
        }
        let mut mounted = self.mounted.lock().unwrap();
        if !mounted.contains(&pod::uid(pod).to_owned()) {
            mounted.push(pod::uid(pod).to_owned());
        }
        Ok(())
    }

    async fn refresh(&self, _: &Pod) {}

    async fn resize(&self, pod: &Pod, from: Option<&Pod>) -> Result<(), HomeError> {
        let cpu = |it: &Pod| crate::resources::pod_requests(it).cpu_milli();
        let both = cpu(pod).max(from.map_or(0, cpu));
        self.resized.lock().unwrap().push(both);
        Ok(())
    }

    fn limits(&self, _: &Pod, container: &Container) -> v1::LinuxContainerResources {
        let (requests, limits) =
            (crate::resources::container_requests(container), crate::resources::container_limits(container));
        v1::LinuxContainerResources {
            cpu_shares: crate::resources::shares(requests.cpu_milli()),
            memory_limit_in_bytes: limits.memory(),
            ..Default::default()
        }
    }

    async fn sandbox(&self, pod: &Pod, attempt: u32) -> Result<(v1::PodSandboxConfig, String), HomeError> {
        let network = if pod::host_network(pod) { v1::NamespaceMode::Node } else { v1::NamespaceMode::Pod };
        let options = v1::NamespaceOption { network: network as i32, ..Default::default() };
        let security =
            v1::LinuxSandboxSecurityContext { namespace_options: Some(options), ..Default::default() };
        let config = v1::PodSandboxConfig {
            metadata: Some(v1::PodSandboxMetadata {
                name: pod::name(pod).into(),
                namespace: pod::namespace(pod).into(),
                uid: pod::uid(pod).into(),
                attempt,
            }),
            labels: labels(pod),
            linux: Some(v1::LinuxPodSandboxConfig { security_context: Some(security), ..Default::default() }),
            ..Default::default()
        };
        Ok((config, String::new()))
    }

    async fn container(&self, pod: &Pod, wish: Wish) -> Result<ContainerSetup, HomeError> {
        {
            let mut left = self.fail_configs.lock().unwrap();
            if *left > 0 {
                *left -= 1;
                let message = "configmap \"x\" not found".into();
                return Err(HomeError { reason: "CreateContainerConfigError", message });
            }
        }
        let mut labels = labels(pod);
        labels.insert(keys::CONTAINER_NAME.into(), wish.container.name.clone());
        let annotations = HashMap::from([
            (keys::RESTART_COUNT.to_owned(), wish.restart_count.to_string()),
            (keys::CONTAINER_HASH.to_owned(), container_hash(&wish.container)),
        ]);
        let config = v1::ContainerConfig {
            metadata: Some(v1::ContainerMetadata {
                name: wish.container.name.clone(),
                attempt: wish.restart_count,
            }),
            image: Some(v1::ImageSpec { image: wish.image.image_ref.clone(), ..Default::default() }),
            command: wish.container.command.clone().unwrap_or_default(),
            args: wish.container.args.clone().unwrap_or_default(),
            labels,
            annotations,
            ..Default::default()
        };
        Ok(ContainerSetup { config, ..ContainerSetup::default() })
    }

    async fn pull_secrets(&self, _: &Pod) -> PullSecrets {
        PullSecrets::default()
    }

    async fn clean_up(&self, pod: &Pod) -> Result<(), HomeError> {
        self.mounted.lock().unwrap().retain(|it| it != pod::uid(pod));
        Ok(())
    }

    async fn remove_logs(&self, _: &Pod, container: &str, restart_count: u32) {
        self.removed_logs.lock().unwrap().push(format!("{container}/{restart_count}.log"));
    }

    async fn forget(&self, _: &Pod) {}
}

fn labels(pod: &Pod) -> HashMap<String, String> {
    HashMap::from([
        (keys::POD_NAME.to_owned(), pod::name(pod).to_owned()),
        (keys::POD_NAMESPACE.to_owned(), pod::namespace(pod).to_owned()),
        (keys::POD_UID.to_owned(), pod::uid(pod).to_owned()),
    ])
}

/// An API server for statuses: top-level fields merge, which is all that our patches need.
#[derive(Default)]
pub(crate) struct MemoryApi {
    pub pods: Mutex<HashMap<String, Pod>>,
    pub patches: Mutex<u32>,
    /// The status of every patch, in order.
    pub sent: Mutex<Vec<Value>>,
    pub changed: tokio::sync::Notify,
}

#[async_trait]
impl PodApi for MemoryApi {
    async fn patch_status(&self, pod: &Pod, patch: Value) -> Result<Pod, ApiError> {
        *self.patches.lock().unwrap() += 1;
        self.sent.lock().unwrap().push(patch["status"].clone());
        let mut pods = self.pods.lock().unwrap();
        let known = pods.get_mut(pod::uid(pod)).ok_or_else(|| ApiError::Gone(pod::key(pod)))?;
        let mut status = serde_json::to_value(known.status.clone().unwrap_or_default()).unwrap();
        for (key, value) in patch["status"].as_object().unwrap() {
            if key == "conditions" {
                let merged = merge(status["conditions"].as_array(), value.as_array().unwrap());
                status["conditions"] = merged;
            } else {
                let mut value = value.clone();
                if let Some(list) = value.as_array_mut() {
                    list.retain(|it| it.get("$patch").is_none());
                }
                status[key] = value;
            }
        }
        known.status = Some(serde_json::from_value::<PodStatus>(status).unwrap());
        let version: u64 = known.metadata.resource_version.as_deref().unwrap_or("1").parse().unwrap();
        known.metadata.resource_version = Some((version + 1).to_string());
        let answer = known.clone();
        drop(pods);
        self.changed.notify_waiters();
        Ok(answer)
    }

    async fn delete(&self, pod: &Pod) -> Result<(), ApiError> {
        self.pods.lock().unwrap().remove(pod::uid(pod));
        self.changed.notify_waiters();
        Ok(())
    }
}

fn merge(old: Option<&Vec<Value>>, new: &[Value]) -> Value {
    let mut all = old.cloned().unwrap_or_default();
    for it in new {
        all.retain(|old| old["type"] != it["type"]);
        if it["$patch"] != "delete" {
            all.push(it.clone());
        }
    }
    Value::Array(all)
}

/// Keeps what it is told.
#[derive(Default)]
pub(crate) struct Heard(pub Mutex<Vec<String>>);

impl Events for Heard {
    fn pod(&self, _: &Pod, _: Option<&str>, _: Severity, reason: &str, message: String) {
        self.0.lock().unwrap().push(format!("{reason}: {message}"));
    }

    fn node(&self, _: Severity, reason: &str, message: String) {
        self.0.lock().unwrap().push(format!("node {reason}: {message}"));
    }
}

/// Everything that a roster needs, around one runtime.
pub(crate) struct Bench {
    pub home: Arc<PlainHome>,
    pub api: Arc<MemoryApi>,
    pub heard: Arc<Heard>,
    /// How long is waited for what must come.
    pub patience: Duration,
}

impl Bench {
    /// A roster over this runtime, its sources synced.
    pub fn roster(runtime: coracle_cri::RuntimeHandle) -> (Self, Arc<crate::worker::Roster>) {
        let bench = Self {
            home: Arc::default(),
            api: Arc::default(),
            heard: Arc::default(),
            patience: Duration::from_secs(20),
        };
        let roster = bench.again(runtime, std::collections::BTreeMap::new());
        (bench, roster)
    }

    /// A new roster in the same surroundings: what a restart of the kubelet is.
    pub fn again(
        &self,
        runtime: coracle_cri::RuntimeHandle,
        found: std::collections::BTreeMap<String, crate::observe::Observed>,
    ) -> Arc<crate::worker::Roster> {
        self.with_api(runtime, found, self.api.clone())
    }

    /// The same over another API server.
    pub fn with_api(
        &self,
        runtime: coracle_cri::RuntimeHandle,
        found: std::collections::BTreeMap<String, crate::observe::Observed>,
        api: Arc<dyn PodApi>,
    ) -> Arc<crate::worker::Roster> {
        let metrics = Arc::new(crate::metrics::Metrics::new());
        let puller = crate::image::Puller::new(crate::image::PullerDeps {
            runtime: runtime.clone(),
            events: self.heard.clone(),
            metrics: metrics.clone(),
            settings: crate::config::ImageSettings::default(),
            node: Arc::default(),
            verification: crate::image::Verification::new(
                &crate::config::ImageSettings::default(),
                crate::image::Records::new(std::path::Path::new("/nonexistent")),
            ),
        });
        let tools = crate::worker::Tools {
            runtime,
            home: self.home.clone(),
            puller,
            api,
            events: self.heard.clone(),
            metrics,
        };
        let common = crate::worker::Common {
            tools,
            node_ips: vec!["192.0.2.1".into()],
            runtime_name: "fake".into(),
            max_backoff: Duration::from_secs(300),
        };
        crate::worker::Roster::new(common, found, tokio_util::sync::CancellationToken::new())
    }

    /// A pod that the API server has.
    pub fn create(&self, pod: &Pod) -> Arc<Pod> {
        let mut pod = pod.clone();
        pod.metadata.resource_version = Some("1".into());
        self.api.pods.lock().unwrap().insert(pod::uid(&pod).to_owned(), pod.clone());
        Arc::new(pod)
    }

    /// The pod as the API server has it.
    pub fn get(&self, uid: &str) -> Option<Pod> {
        self.api.pods.lock().unwrap().get(uid).cloned()
    }

    /// Waits for the API server's picture of the pod to be as wanted.
    pub async fn until(&self, uid: &str, what: &str, is: impl Fn(Option<&Pod>) -> bool) {
        let waiting = async {
            loop {
                let changed = self.api.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if is(self.get(uid).as_ref()) {
                    return;
                }
                changed.await;
            }
        };
        if tokio::time::timeout(self.patience, waiting).await.is_err() {
            panic!(
                "{what}: not within {:?}; pod {:?}; events {:?}",
                self.patience,
                self.get(uid),
                self.heard.0.lock().unwrap()
            );
        }
    }

    /// Waits for this phase.
    pub async fn phase(&self, uid: &str, phase: &str) {
        self.until(uid, phase, |it| it.is_some_and(|it| pod::phase(it) == phase)).await;
    }
}
