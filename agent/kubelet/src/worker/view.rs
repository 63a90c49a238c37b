//! The roster as the server shows it.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;

use super::roster::{Entry, Roster};
use crate::observe::{ContainerSeen, State};
use crate::pod;
use crate::timeline;

impl Entry {
    /// The pod with its status as of now.
    pub fn pod(&self) -> Pod {
        let published = self.published();
        let mut pod = (*published.pod).clone();
        pod.status = Some((*published.status).clone());
        pod
    }

    /// The newest instance of a container, or the one before it.
    pub fn container(&self, name: &str, previous: bool) -> Option<ContainerSeen> {
        let published = self.published();
        let mut instances = published.seen.instances(name).filter(|it| it.state != State::Created);
        instances.nth(usize::from(previous)).cloned()
    }

    fn is_a_pod(&self) -> bool {
        !pod::name(&self.published().pod).is_empty()
    }
}

impl Roster {
    /// All pods with their statuses as of now; what the runtime has without an object is not among them.
    pub fn pods(&self) -> Vec<Pod> {
        self.entries().iter().filter(|it| it.is_a_pod()).map(|it| it.pod()).collect()
    }

    /// A pod's timeline.
    pub fn timeline(&self, uid: &str) -> Option<Vec<timeline::Entry>> {
        self.by_uid(uid).map(|it| it.timeline.entries())
    }

    /// The pods that have something running.
    pub fn running(&self) -> Vec<Arc<Entry>> {
        let alive = |it: &Arc<Entry>| {
            let seen = it.published().seen;
            seen.sandbox().is_some_and(|it| it.ready) || seen.containers.iter().any(ContainerSeen::is_alive)
        };
        self.entries().into_iter().filter(alive).collect()
    }

    /// The kubelet's figures as text, those about the roster as of now.
    pub fn exposition(&self) -> String {
        let entries = self.entries();
        let (mut pods, mut created, mut running, mut exited) = (0, 0, 0, 0);
        for entry in &entries {
            let seen = entry.published().seen;
            pods += usize::from(seen.sandbox().is_some_and(|it| it.ready));
            for container in &seen.containers {
                match container.state {
                    State::Created => created += 1,
                    State::Running | State::Unknown => running += 1,
                    State::Exited(_) => exited += 1,
                }
            }
        }
        let metrics = self.metrics();
        let containers = [("created", created), ("running", running), ("exited", exited)];
        metrics.running(entries.iter().filter(|it| it.is_a_pod()).count(), pods, containers);
        metrics.encode()
    }
}
