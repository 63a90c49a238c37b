//! Endpoints: one object per Service, of one address family.

use super::views::{Address, Endpoints, LegacyPort, Port, Service, Subset};
use super::{backends, pods_of, selector_of, wake_by_services_and_pods};
use crate::pods::is_ready;
use crate::shared::{Context, Shared, watch};
use crate::views::Pod;
use crate::work::{self, Reconcile, Requeue};
use coracle_client::{CallError, Calls, Deletion, Informer, Key, Params, Resource, Store, WorkQueue};
use serde::de::IgnoredAny;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;

const ENDPOINTS: Resource = Resource::core("endpoints");
const HEADLESS_LABEL: &str = "service.kubernetes.io/headless";
const MANAGER_LABEL: &str = "endpoints.kubernetes.io/managed-by";
const MANAGER: &str = "endpoint-controller";
const CAPACITY_ANNOTATION: &str = "endpoints.kubernetes.io/over-capacity";
/// Addresses in one object.
const MOST: usize = 1000;

struct Legacy {
    calls: Calls,
    services: Store<Service>,
    pods: Store<Pod>,
    endpoints: Store<Endpoints>,
}

/// Starts the controller.
pub(super) async fn start(context: &Context, shared: &Shared, services: &Informer<Service>) {
    let endpoints: Informer<Endpoints> =
        watch(&context.reader, &ENDPOINTS, Params::all(), &context.tracker, &context.token);
    endpoints.synced().await;
    let queue = Arc::new(WorkQueue::new());
    wake_by_services_and_pods(services, shared, &queue);
    let for_endpoints = Arc::clone(&queue);
    endpoints.on_change(move |change| {
        if let Some(it) = change.object() {
            for_endpoints.add(Key::new(&it.metadata.namespace, &it.metadata.name));
        }
    });
    let controller = Legacy {
        calls: context.calls.clone(),
        services: services.store(),
        pods: shared.pods.store(),
        endpoints: endpoints.store(),
    };
    work::start(controller, &queue, 5, &context.tracker, &context.token);
}

impl Reconcile for Legacy {
    const NAME: &'static str = "endpoint";

    async fn reconcile(&self, key: &Key) -> Result<Requeue, CallError> {
        let path = ENDPOINTS.object(&key.namespace, &key.name);
        let there = self.endpoints.get(key);
        let Some(service) = self.services.get(key) else {
            // Endpoints have no owner. Those that others made without a Service are not ours to remove.
            let ours = there.filter(|it| it.metadata.label(MANAGER_LABEL) == Some(MANAGER));
            let Some(ours) = ours else { return Ok(Requeue::Done) };
            return match self.calls.delete(&path, &Deletion::of_uid(&ours.metadata.uid)).await {
                Err(err) if !(err.is_not_found() || err.is_conflict()) => Err(err),
                _ => Ok(Requeue::Done),
            };
        };
        let Some(selector) = selector_of(&service) else { return Ok(Requeue::Done) };
        let (subsets, over) = subsets(&service, &pods_of(&service, &selector, &self.pods));
        let labels = labels(&service);
        let mut annotations = there.as_ref().map(|it| it.metadata.annotations.clone()).unwrap_or_default();
        if over {
            annotations.insert(CAPACITY_ANNOTATION.into(), "truncated".into());
        } else {
            annotations.remove(CAPACITY_ANNOTATION);
        }
        let mut body = json!({"apiVersion": "v1", "kind": "Endpoints", "subsets": subsets,
            "metadata": {"name": key.name, "namespace": key.namespace, "labels": labels,
                "annotations": annotations}});
        let result = match there {
            Some(it) => {
                let same = it.subsets == subsets
                    && it.metadata.labels == labels
                    && it.metadata.annotations == annotations;
                if same {
                    return Ok(Requeue::Done);
                }
                body["metadata"]["resourceVersion"] = it.metadata.resource_version.as_str().into();
                self.calls.replace::<IgnoredAny>(&path, &body).await
            }
            None => self.calls.create::<IgnoredAny>(&ENDPOINTS.collection(&key.namespace), &body).await,
        };
        match result {
            // There already or gone already: the event that says so comes.
            Err(err)
                if !(err.is_already_exists() || err.is_not_found() || err.is_namespace_terminating()) =>
            {
                Err(err)
            }
            _ => Ok(Requeue::Done),
        }
    }
}

fn labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone();
    labels.insert(MANAGER_LABEL.into(), MANAGER.into());
    if service.is_headless() {
        labels.insert(HEADLESS_LABEL.into(), String::new());
    } else {
        labels.remove(HEADLESS_LABEL);
    }
    labels
}

/// Pods grouped by the ports they serve, and whether some had to be left out.
fn subsets(service: &Service, pods: &[Arc<Pod>]) -> (Vec<Subset>, bool) {
    let family = backends::families(service).into_iter().next().unwrap_or_default();
    let unready_too = service.spec.publish_not_ready_addresses;
    let mut groups: BTreeMap<Vec<Port>, (Vec<Address>, Vec<Address>)> = BTreeMap::new();
    for pod in pods.iter().filter(|pod| backends::listens(pod)) {
        if pod.metadata.is_terminating() && !unready_too {
            continue;
        }
        let Some(ip) = backends::address(pod, &family) else { continue };
        let ports = backends::ports(service, pod);
        if ports.is_empty() && !service.is_headless() {
            continue;
        }
        let address = Address {
            ip: ip.to_owned(),
            hostname: backends::hostname(service, pod),
            node_name: (!pod.spec.node_name.is_empty()).then(|| pod.spec.node_name.clone()),
            target_ref: Some(backends::target_ref(pod)),
        };
        let (ready, unready) = groups.entry(ports).or_default();
        if is_ready(pod) || unready_too { ready.push(address) } else { unready.push(address) }
    }
    let (mut left, mut over) = (MOST, false);
    let mut subsets = Vec::new();
    for (ports, (mut ready, mut unready)) in groups {
        for list in [&mut ready, &mut unready] {
            list.sort_by(|a, b| a.ip.cmp(&b.ip));
            over |= list.len() > left;
            list.truncate(left);
            left -= list.len();
        }
        let port = |it: Port| LegacyPort {
            name: it.name,
            protocol: it.protocol,
            port: it.port,
            app_protocol: it.app_protocol,
        };
        if !(ready.is_empty() && unready.is_empty()) {
            let ports = ports.into_iter().map(port).collect();
            subsets.push(Subset { addresses: ready, not_ready_addresses: unready, ports });
        }
    }
    (subsets, over)
}
