//! How the world wakes a worker. The newest wins; nothing queues up.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use tokio::sync::Notify;

use super::facts::Failed;
use super::resize::Pending;

/// One worker's letter box.
#[derive(Debug, Default)]
pub struct Inbox {
    mail: Mutex<Mail>,
    wake: Arc<Notify>,
}

/// What came since the last look.
#[derive(Debug, Default)]
pub(super) struct Mail {
    /// The pod as its source has it now.
    pub pod: Option<Arc<Pod>>,
    /// The mirror of a static pod; `Some(None)`: there is none any more.
    pub mirror: Option<Option<Arc<Pod>>>,
    /// No source has the pod any more; the grace that it gets.
    pub gone: Option<Duration>,
    /// Whether other resources are wanted that are not granted (yet).
    pub pending: Option<Option<Pending>>,
    /// The pod is over.
    pub failed: Option<Failed>,
    /// Containers and sandboxes whose process ended.
    pub exited: BTreeSet<String>,
    /// The table is not to be trusted.
    pub look: bool,
}

impl Inbox {
    /// A newer version of the pod.
    pub fn update(&self, pod: Arc<Pod>) {
        self.put(|mail| mail.pod = Some(pod));
    }

    /// Other resources are wanted that are not granted; none: what the pod shows is what it wants.
    pub fn pending(&self, pending: Option<Pending>) {
        self.put(|mail| mail.pending = Some(pending));
    }

    /// The mirror pod changed, or went.
    pub fn mirror(&self, mirror: Option<Arc<Pod>>) {
        self.put(|mail| mail.mirror = Some(mirror));
    }

    /// No source has the pod any more.
    pub fn gone(&self, grace: Duration) {
        self.put(|mail| mail.gone = Some(mail.gone.map_or(grace, |it| it.min(grace))));
    }

    /// The pod is over: evicted, refused.
    pub fn fail(&self, reason: &str, message: &str) {
        let failed = Failed { reason: reason.to_owned(), message: message.to_owned(), grace: None };
        self.put(|mail| mail.failed = Some(failed));
    }

    /// The pod is over, and its containers have this long.
    pub fn fail_within(&self, reason: &str, message: &str, grace: Duration) {
        let failed = Failed { reason: reason.to_owned(), message: message.to_owned(), grace: Some(grace) };
        self.put(|mail| mail.failed = Some(failed));
    }

    /// A process ended.
    pub fn exited(&self, id: &str) {
        self.put(|mail| {
            mail.exited.insert(id.to_owned());
        });
    }

    /// Look at the runtime anew.
    pub fn look_again(&self) {
        self.put(|mail| mail.look = true);
    }

    /// What wakes the worker.
    pub(super) fn wake(&self) -> Arc<Notify> {
        self.wake.clone()
    }

    pub(super) fn take(&self) -> Mail {
        std::mem::take(&mut self.mail.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn put(&self, change: impl FnOnce(&mut Mail)) {
        change(&mut self.mail.lock().unwrap_or_else(PoisonError::into_inner));
        self.wake.notify_one();
    }
}
