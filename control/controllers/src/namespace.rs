//! Namespaces that end: everything in them is deleted, pods first, then the namespace may go.

use crate::discovery::{Discovered, Found, discover};
use crate::shared::{Context, NAMESPACES, Shared};
use crate::status_conditions::set;
use crate::views::{Condition, Namespace, Pod};
use crate::work::{self, Reconcile, Requeue};
use coracle_client::views::MetaOnly;
use coracle_client::{CallError, Calls, Change, Deletion, Key, Store, WorkQueue};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

const FINALIZER: &str = "kubernetes";
/// How soon to look again when what is left should go by itself.
const SOON: Duration = Duration::from_millis(500);
/// The longest wait for what does not go: somebody else's finalizer may hold it for ever.
const LATE: Duration = Duration::from_secs(15);

struct Namespaces {
    calls: Calls,
    namespaces: Store<Namespace>,
    pods: Store<Pod>,
    waits: Waits,
}

/// How long each namespace was waited for last, and how much was left in it then.
#[derive(Default)]
struct Waits {
    last: Mutex<HashMap<String, (usize, Duration)>>,
}

impl Waits {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, (usize, Duration)>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long to wait now: longer each time, short again as soon as anything went.
    fn next(&self, namespace: &str, left: usize) -> Duration {
        let mut last = self.lock();
        let wait = match last.get(namespace) {
            Some((before, wait)) if *before == left => (*wait * 2).min(LATE),
            _ => SOON,
        };
        last.insert(namespace.to_owned(), (left, wait));
        wait
    }

    fn forget(&self, namespace: &str) {
        self.lock().remove(namespace);
    }
}

/// Starts the controller.
pub(crate) fn start(context: &Context, shared: &Shared) {
    let queue = Arc::new(WorkQueue::new());
    let for_namespaces = Arc::clone(&queue);
    shared.namespaces.on_change(move |change| {
        if let Some(namespace) = change.object().filter(|it| it.metadata.is_terminating()) {
            for_namespaces.add(Key::new("", &namespace.metadata.name));
        }
    });
    let (for_pods, namespaces) = (Arc::clone(&queue), shared.namespaces.store());
    shared.pods.on_change(move |change| {
        let Change::Deleted(pod) = change else { return };
        let namespace = &pod.metadata.namespace;
        if namespaces.find("", namespace).is_some_and(|it| it.metadata.is_terminating()) {
            for_pods.add(Key::new("", namespace));
        }
    });
    let controller = Namespaces {
        calls: context.calls.clone(),
        namespaces: shared.namespaces.store(),
        pods: shared.pods.store(),
        waits: Waits::default(),
    };
    work::start(controller, &queue, 5, &context.tracker, &context.token);
}

/// What was found in a namespace after everything was asked to go.
#[derive(Debug, Default)]
struct Left {
    /// Objects per resource.
    counts: BTreeMap<String, usize>,
    /// Objects per finalizer.
    finalizers: BTreeMap<String, usize>,
    /// What could not be deleted or counted.
    failures: Vec<String>,
    discovery_failures: Vec<String>,
    /// The longest time a pod was given.
    grace: i64,
}

impl Left {
    fn is_nothing(&self) -> bool {
        self.counts.is_empty() && self.failures.is_empty() && self.discovery_failures.is_empty()
    }

    /// The conditions of upstream, with its sentences.
    fn conditions(&self) -> Vec<(&'static str, bool, &'static str, String)> {
        let list = |all: &BTreeMap<String, usize>, noun: &str| {
            let mut text = String::new();
            for (index, (name, count)) in all.iter().enumerate() {
                let _ = write!(text, "{}{name} has {count} {noun}", if index > 0 { ", " } else { "" });
            }
            text
        };
        let finalizers =
            self.finalizers.iter().map(|(name, count)| format!("{name} in {count} resource instances"));
        let discovery = !self.discovery_failures.is_empty();
        let (failed, remains, held) =
            (!self.failures.is_empty(), !self.counts.is_empty(), !self.finalizers.is_empty());
        let or = |bad: bool, text: String, good: &str| if bad { text } else { good.to_owned() };
        vec![
            (
                "NamespaceDeletionDiscoveryFailure",
                discovery,
                if discovery { "DiscoveryFailed" } else { "ResourcesDiscovered" },
                or(
                    discovery,
                    format!(
                        "Discovery failed for some groups, {} failing: {}",
                        self.discovery_failures.len(),
                        self.discovery_failures.join(", ")
                    ),
                    "All resources successfully discovered",
                ),
            ),
            (
                "NamespaceDeletionGroupVersionParsingFailure",
                false,
                "ParsedGroupVersions",
                "All legacy kube types successfully parsed".to_owned(),
            ),
            (
                "NamespaceDeletionContentFailure",
                failed,
                if failed { "ContentDeletionFailed" } else { "ContentDeleted" },
                or(
                    failed,
                    format!(
                        "Failed to delete all resource types, {} remaining: {}",
                        self.failures.len(),
                        self.failures.join(", ")
                    ),
                    "All content successfully deleted, may be waiting on finalization",
                ),
            ),
            (
                "NamespaceContentRemaining",
                remains,
                if remains { "SomeResourcesRemain" } else { "ContentRemoved" },
                or(
                    remains,
                    format!("Some resources are remaining: {}", list(&self.counts, "resource instances")),
                    "All content successfully removed",
                ),
            ),
            (
                "NamespaceFinalizersRemaining",
                held,
                if held { "SomeFinalizersRemain" } else { "ContentHasNoFinalizers" },
                or(
                    held,
                    format!(
                        "Some content in the namespace has finalizers remaining: {}",
                        finalizers.collect::<Vec<_>>().join(", ")
                    ),
                    "All content-preserving finalizers finished",
                ),
            ),
        ]
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Page {
    items: Vec<MetaOnly>,
}

impl Reconcile for Namespaces {
    const NAME: &'static str = "namespace";

    async fn reconcile(&self, key: &Key) -> Result<Requeue, CallError> {
        let Some(namespace) = self.namespaces.get(key).filter(|it| it.metadata.is_terminating()) else {
            self.waits.forget(&key.name);
            return Ok(Requeue::Done);
        };
        if !namespace.spec.finalizers.iter().any(|it| it == FINALIZER) {
            self.waits.forget(&key.name);
            return Ok(Requeue::Done);
        }
        let left = self.empty(&key.name).await?;
        if left.is_nothing() {
            self.finalize(&namespace).await?;
            self.waits.forget(&key.name);
            return Ok(Requeue::Done);
        }
        self.tell(&namespace, &left).await?;
        let wait = self.waits.next(&key.name, left.counts.values().sum());
        if left.grace > 0 {
            // The end of each pod is an event; this is for those whose node is away.
            let grace = Duration::from_secs(u64::try_from(left.grace / 2 + 1).unwrap_or(1));
            return Ok(Requeue::After(grace.max(wait)));
        }
        Ok(Requeue::After(wait))
    }
}

impl Namespaces {
    /// Asks everything in the namespace to go and counts what is left.
    async fn empty(&self, namespace: &str) -> Result<Left, CallError> {
        let Discovered { resources, failed } = discover(&self.calls).await?;
        let mut left = Left { discovery_failures: failed, ..Left::default() };
        let mut inside: Vec<_> =
            resources.into_iter().filter(|it| it.namespaced && it.can(&["delete", "list"])).collect();
        // Pods first: what runs must not see its configuration, accounts and policies vanish.
        inside.sort_by_key(|it| it.resource.plural != "pods");
        for found in &inside {
            if let Err(err) = self.empty_of(found, namespace, &mut left).await {
                left.failures.push(format!("{}: {}", found.resource.plural, err.message()));
            }
            let pods_left = found.resource.plural == "pods" && !left.counts.is_empty();
            if pods_left {
                let pods = self.pods.in_namespace(namespace);
                let grace = pods.iter().filter_map(|pod| pod.metadata.deletion_grace_period_seconds).max();
                left.grace = grace.unwrap_or(0).max(1);
                break;
            }
        }
        Ok(left)
    }

    async fn empty_of(&self, found: &Found, namespace: &str, left: &mut Left) -> Result<(), CallError> {
        let path = found.resource.collection(namespace);
        let mut page: Page = self.calls.get(&path).await?;
        if page.items.is_empty() {
            return Ok(());
        }
        if found.can(&["deletecollection"]) {
            self.calls.delete(&path, &Deletion::default()).await?;
        } else {
            for object in &page.items {
                let path = found.resource.object(namespace, &object.metadata.name);
                match self.calls.delete(&path, &Deletion::of_uid(&object.metadata.uid)).await {
                    Err(err) if !(err.is_not_found() || err.is_conflict()) => return Err(err),
                    _ => {}
                }
            }
        }
        page = self.calls.get(&path).await?;
        if !page.items.is_empty() {
            let name = if found.resource.group.is_empty() {
                format!("{}.", found.resource.plural)
            } else {
                format!("{}.{}", found.resource.plural, found.resource.group)
            };
            left.counts.insert(name, page.items.len());
        }
        for finalizer in page.items.into_iter().flat_map(|it| it.metadata.finalizers) {
            *left.finalizers.entry(finalizer).or_default() += 1;
        }
        Ok(())
    }

    async fn tell(&self, namespace: &Namespace, left: &Left) -> Result<(), CallError> {
        let mut conditions: Vec<Condition> = namespace.status.conditions.clone();
        for (kind, bad, reason, message) in left.conditions() {
            set(
                &mut conditions,
                kind,
                if bad { "True" } else { "False" },
                reason,
                message,
                crate::run::now(),
            );
        }
        if conditions == namespace.status.conditions {
            return Ok(());
        }
        let name = &namespace.metadata.name;
        let (path, put_path) = (NAMESPACES.object("", name), NAMESPACES.subresource("", name, "status"));
        let change = |object: &mut Value| object["status"]["conditions"] = json!(conditions);
        match self.calls.modify(&path, &put_path, change).await {
            Err(err) if err.is_not_found() || err.is_conflict() => Ok(()),
            result => result,
        }
    }

    /// Takes our finalizer away; the server then removes the namespace.
    async fn finalize(&self, namespace: &Namespace) -> Result<(), CallError> {
        let name = &namespace.metadata.name;
        let (path, put_path) = (NAMESPACES.object("", name), NAMESPACES.subresource("", name, "finalize"));
        let change = |object: &mut Value| {
            if object["metadata"]["uid"] == namespace.metadata.uid.as_str()
                && let Some(finalizers) = object["spec"]["finalizers"].as_array_mut()
            {
                finalizers.retain(|it| it != FINALIZER);
            }
        };
        match self.calls.modify(&path, &put_path, change).await {
            Err(err) if err.is_not_found() => Ok(()),
            result => result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_go_is_asked_for_less_and_less() {
        let waits = Waits::default();
        let millis: Vec<u128> = (0..7).map(|_| waits.next("a", 2).as_millis()).collect();
        assert_eq!(millis, [500, 1000, 2000, 4000, 8000, 15000, 15000]);
        assert_eq!(waits.next("a", 1), SOON, "something went");
        assert_eq!(waits.next("a", 1), SOON * 2);
        waits.forget("a");
        assert_eq!(waits.next("a", 1), SOON);
    }
}
