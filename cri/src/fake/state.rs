//! What the fake runtime knows.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use super::Refusal;
use super::script::{Run, Script};
use crate::proto as v1;
use crate::proto::{ContainerEventType as Event, ContainerState, PodSandboxState};

/// Events kept for streams that lag.
const EVENTS: usize = 4096;

pub(super) struct State {
    start: (Instant, Duration),
    ids: u64,
    pub sandboxes: BTreeMap<String, Sandbox>,
    pub containers: BTreeMap<String, Container>,
    pub images: BTreeMap<String, v1::Image>,
    pub published: HashSet<String>,
    pub scripts: HashMap<String, Script>,
    pub events: VecDeque<(u64, v1::ContainerEventResponse)>,
    pub next_event: u64,
}

pub(super) struct Sandbox {
    pub config: v1::PodSandboxConfig,
    pub handler: String,
    pub ready: bool,
    pub created_at: i64,
    pub ip: String,
}

pub(super) struct Container {
    pub sandbox: String,
    pub config: v1::ContainerConfig,
    pub log_path: String,
    pub run: Run,
    pub life: Life,
    pub created_at: i64,
    pub started_at: i64,
    pub resources: Option<v1::LinuxContainerResources>,
}

/// Where a container is in its life.
pub(super) enum Life {
    Created,
    /// `end`: when it ends by itself or of TERM, its exit code and reason.
    Running {
        end: Option<(Instant, i32, String)>,
    },
    Exited {
        at: i64,
        exit_code: i32,
        reason: String,
    },
}

impl State {
    pub fn new() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            start: (Instant::now(), wall),
            ids: 0,
            sandboxes: BTreeMap::new(),
            containers: BTreeMap::new(),
            images: BTreeMap::new(),
            published: HashSet::new(),
            scripts: HashMap::new(),
            events: VecDeque::new(),
            next_event: 0,
        }
    }

    /// Nanoseconds since the epoch, moving with tokio's clock.
    pub fn nanos(&self, at: Instant) -> i64 {
        i64::try_from((self.start.1 + at.saturating_duration_since(self.start.0)).as_nanos())
            .unwrap_or(i64::MAX)
    }

    pub fn now(&self) -> i64 {
        self.nanos(Instant::now())
    }

    pub fn new_id(&mut self) -> String {
        self.ids += 1;
        // Looks like a runtime's id, and sorts by age.
        format!("{:016x}{:048x}", self.ids, self.ids.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// Lets containers end whose time has come.
    pub fn settle(&mut self) {
        let now = Instant::now();
        let due: Vec<(String, Instant, i32, String)> = self
            .containers
            .iter()
            .filter_map(|(id, it)| match &it.life {
                Life::Running { end: Some((at, code, reason)) } if *at <= now => {
                    Some((id.clone(), *at, *code, reason.clone()))
                }
                Life::Created | Life::Running { .. } | Life::Exited { .. } => None,
            })
            .collect();
        for (id, at, code, reason) in due {
            self.end_at(&id, at, code, &reason);
        }
    }

    /// When the next container ends.
    pub fn next_exit(&self) -> Option<Instant> {
        let ends = self.containers.values().filter_map(|it| match &it.life {
            Life::Running { end: Some((at, ..)) } => Some(*at),
            Life::Created | Life::Running { end: None } | Life::Exited { .. } => None,
        });
        ends.min()
    }

    pub fn end(&mut self, id: &str, exit_code: i32, reason: &str) {
        self.end_at(id, Instant::now(), exit_code, reason);
    }

    fn end_at(&mut self, id: &str, at: Instant, exit_code: i32, reason: &str) {
        let at = self.nanos(at);
        let Some(container) = self.containers.get_mut(id) else { return };
        if !matches!(container.life, Life::Running { .. }) {
            return;
        }
        let reason = match (reason, exit_code) {
            ("", 0) => "Completed",
            ("", _) => "Error",
            (given, _) => given,
        };
        container.life = Life::Exited { at, exit_code, reason: reason.to_owned() };
        self.emit(Event::ContainerStoppedEvent, id);
    }

    /// Everything running is gone, as after a power cut.
    pub fn power_cycle(&mut self) {
        let ids: Vec<String> = self.containers.keys().cloned().collect();
        for id in ids {
            self.end(&id, 255, "Unknown");
        }
        for sandbox in self.sandboxes.values_mut() {
            sandbox.ready = false;
        }
    }

    pub fn emit(&mut self, kind: Event, id: &str) {
        let sandbox = self.containers.get(id).map_or_else(|| id.to_owned(), |it| it.sandbox.clone());
        let event = v1::ContainerEventResponse {
            container_id: id.to_owned(),
            container_event_type: kind.into(),
            created_at: self.now(),
            pod_sandbox_status: self.sandbox_status(&sandbox).ok(),
            containers_statuses: self.statuses_in(&sandbox),
        };
        if self.events.len() == EVENTS {
            self.events.pop_front();
        }
        self.events.push_back((self.next_event, event));
        self.next_event += 1;
    }

    pub fn sandbox_status(&self, id: &str) -> Result<v1::PodSandboxStatus, Refusal> {
        let it = self.sandboxes.get(id).ok_or_else(|| Refusal::not_found("sandbox", id))?;
        Ok(v1::PodSandboxStatus {
            id: id.to_owned(),
            metadata: it.config.metadata.clone(),
            state: sandbox_state(it.ready).into(),
            created_at: it.created_at,
            network: Some(v1::PodSandboxNetworkStatus { ip: it.ip.clone(), additional_ips: Vec::new() }),
            linux: Some(v1::LinuxPodSandboxStatus {
                namespaces: Some(v1::Namespace { options: namespaces(&it.config) }),
            }),
            labels: it.config.labels.clone(),
            annotations: it.config.annotations.clone(),
            runtime_handler: it.handler.clone(),
        })
    }

    pub fn statuses_in(&self, sandbox: &str) -> Vec<v1::ContainerStatus> {
        let inside = self.containers.iter().filter(|(_, it)| it.sandbox == sandbox);
        inside.map(|(id, it)| container_status(id, it)).collect()
    }

    pub fn container(&mut self, id: &str) -> Result<&mut Container, Refusal> {
        self.containers.get_mut(id).ok_or_else(|| Refusal::not_found("container", id))
    }

    pub fn list_containers(&self, filter: Option<&v1::ContainerFilter>) -> Vec<v1::Container> {
        let matches = |id: &String, it: &Container| {
            filter.is_none_or(|filter| {
                (filter.id.is_empty() || id.starts_with(&filter.id))
                    && (filter.pod_sandbox_id.is_empty() || it.sandbox == filter.pod_sandbox_id)
                    && filter.state.as_ref().is_none_or(|wanted| wanted.state() == it.life.state())
                    && holds(&it.config.labels, &filter.label_selector)
            })
        };
        self.containers
            .iter()
            .filter(|(id, it)| matches(id, it))
            .map(|(id, it)| v1::Container {
                id: id.clone(),
                pod_sandbox_id: it.sandbox.clone(),
                metadata: it.config.metadata.clone(),
                image: it.config.image.clone(),
                image_ref: image_name(&it.config),
                image_id: image_name(&it.config),
                state: it.life.state().into(),
                created_at: it.created_at,
                labels: it.config.labels.clone(),
                annotations: it.config.annotations.clone(),
            })
            .collect()
    }

    pub fn add_image(&mut self, image: &str, size: u64) {
        let id = format!(
            "sha256:{:064x}",
            image.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            })
        );
        let entry = v1::Image {
            id,
            repo_tags: vec![image.to_owned()],
            size,
            spec: Some(v1::ImageSpec { image: image.to_owned(), ..v1::ImageSpec::default() }),
            ..v1::Image::default()
        };
        self.images.insert(image.to_owned(), entry);
    }

    /// The image of that name or id.
    pub fn image(&self, name: &str) -> Option<&v1::Image> {
        self.images.get(name).or_else(|| self.images.values().find(|it| it.id == name))
    }
}

impl Life {
    pub fn state(&self) -> ContainerState {
        match self {
            Self::Created => ContainerState::ContainerCreated,
            Self::Running { .. } => ContainerState::ContainerRunning,
            Self::Exited { .. } => ContainerState::ContainerExited,
        }
    }
}

pub(super) fn sandbox_state(ready: bool) -> PodSandboxState {
    if ready { PodSandboxState::SandboxReady } else { PodSandboxState::SandboxNotready }
}

pub(super) fn holds(labels: &HashMap<String, String>, selector: &HashMap<String, String>) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

pub(super) fn namespaces(config: &v1::PodSandboxConfig) -> Option<v1::NamespaceOption> {
    config.linux.as_ref()?.security_context.as_ref()?.namespace_options.clone()
}

fn image_name(config: &v1::ContainerConfig) -> String {
    config.image.as_ref().map(|it| it.image.clone()).unwrap_or_default()
}

pub(super) fn container_status(id: &str, it: &Container) -> v1::ContainerStatus {
    let (finished_at, exit_code, reason) = match &it.life {
        Life::Exited { at, exit_code, reason } => (*at, *exit_code, reason.clone()),
        Life::Created | Life::Running { .. } => (0, 0, String::new()),
    };
    v1::ContainerStatus {
        id: id.to_owned(),
        metadata: it.config.metadata.clone(),
        state: it.life.state().into(),
        created_at: it.created_at,
        started_at: it.started_at,
        finished_at,
        exit_code,
        image: it.config.image.clone(),
        image_ref: image_name(&it.config),
        image_id: image_name(&it.config),
        reason,
        labels: it.config.labels.clone(),
        annotations: it.config.annotations.clone(),
        mounts: it.config.mounts.clone(),
        log_path: it.log_path.clone(),
        resources: it
            .resources
            .clone()
            .map(|linux| v1::ContainerResources { linux: Some(linux), windows: None }),
        ..v1::ContainerStatus::default()
    }
}
