//! What the server asks about pods.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodStatus};

use crate::pod;
use crate::timeline::Entry;
use crate::worker::{Published, Roster};

/// A pod and its status as it should be.
#[derive(Debug, Clone)]
pub struct PodView {
    /// The pod as its source has it.
    pub pod: Arc<Pod>,
    /// Its status.
    pub status: Arc<PodStatus>,
}

/// The pods of this node.
pub trait Node: Send + Sync {
    /// All of them.
    fn pods(&self) -> Vec<PodView>;
    /// The pod of that name.
    fn pod(&self, namespace: &str, name: &str) -> Option<PodView>;
    /// What happened to the pod.
    fn timeline(&self, uid: &str) -> Option<Vec<Entry>>;
    /// The kubelet's figures in the exposition format, those about pods as of now.
    fn exposition(&self) -> String;
    /// The results of probes, in the same format.
    fn probes(&self) -> String;
}

impl Node for Roster {
    fn pods(&self) -> Vec<PodView> {
        self.entries().iter().map(|it| PodView::of(it.published())).collect()
    }

    fn pod(&self, namespace: &str, name: &str) -> Option<PodView> {
        self.by_name(namespace, name).map(|it| PodView::of(it.published()))
    }

    fn timeline(&self, uid: &str) -> Option<Vec<Entry>> {
        self.by_uid(uid).map(|it| it.timeline.entries())
    }

    fn exposition(&self) -> String {
        Self::exposition(self)
    }

    fn probes(&self) -> String {
        self.metrics().encode_probes()
    }
}

/// Why there is no such container; upstream's words.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoContainer {
    /// The pod has none of that name: 404.
    Unknown(String),
    /// It is there, but has not run: 400.
    NotYet(String),
}

impl PodView {
    fn of(published: Published) -> Self {
        Self { pod: published.pod, status: published.status }
    }

    /// The pod with its status.
    pub fn whole(&self) -> Pod {
        Pod { status: Some((*self.status).clone()), ..(*self.pod).clone() }
    }

    fn statuses(&self) -> impl Iterator<Item = &ContainerStatus> {
        let status = &self.status;
        [&status.container_statuses, &status.init_container_statuses, &status.ephemeral_container_statuses]
            .into_iter()
            .flatten()
            .flatten()
    }

    fn status_of(&self, container: &str) -> Result<&ContainerStatus, NoContainer> {
        let pod = pod::name(&self.pod);
        if pod::any_container(&self.pod, container).is_none() {
            return Err(NoContainer::Unknown(format!("container {container:?} not found in pod {pod:?}")));
        }
        self.statuses().find(|it| it.name == container).ok_or_else(|| {
            NoContainer::NotYet(format!("container {container:?} in pod {pod:?} is not available"))
        })
    }

    /// The id of the container that runs now.
    pub(super) fn running(&self, container: &str) -> Result<String, NoContainer> {
        let status = self.status_of(container)?;
        let runs = status.state.as_ref().is_some_and(|it| it.running.is_some());
        match status.container_id.as_deref().and_then(bare_id).filter(|_| runs) {
            Some(id) => Ok(id),
            None => Err(NoContainer::Unknown(format!("container not found ({container:?})"))),
        }
    }

    /// The id of the container whose log is wanted: what runs or ran last, or the one before.
    pub(super) fn logged(&self, container: &str, previous: bool) -> Result<String, NoContainer> {
        let status = self.status_of(container)?;
        let pod = pod::name(&self.pod);
        let last = status.last_state.as_ref().and_then(|it| it.terminated.as_ref());
        let last_id = || last.and_then(|it| it.container_id.as_deref()).and_then(bare_id);
        if previous {
            let text = || format!("previous terminated container {container:?} in pod {pod:?} not found");
            return last_id().ok_or_else(|| NoContainer::NotYet(text()));
        }
        let state = status.state.clone().unwrap_or_default();
        if let Some(waiting) = &state.waiting {
            let reason = waiting.reason.clone().unwrap_or_default();
            // What waits for its next life has its last one's log.
            return last_id().ok_or_else(|| {
                NoContainer::NotYet(match reason.as_str() {
                    "ErrImagePull" | "ImagePullBackOff" => {
                        format!("container {container:?} in pod {pod:?} is waiting to start: trying and failing to pull image")
                    }
                    _ => format!("container {container:?} in pod {pod:?} is waiting to start: {reason}"),
                })
            });
        }
        let id = status.container_id.as_deref().and_then(bare_id);
        id.ok_or_else(|| {
            NoContainer::NotYet(format!("container {container:?} in pod {pod:?} is not available"))
        })
    }
}

/// `containerd://id` without its runtime.
fn bare_id(text: &str) -> Option<String> {
    text.split_once("://").map(|(_, id)| id.to_owned()).filter(|id| !id.is_empty())
}
