//! EndpointSlices of Services with a selector.

use super::slices_plan::{Wanted, Write, plan};
use super::views::{Service, Slice};
use super::{backends, pods_of, selector_of, wake_by_services_and_pods};
use crate::claim::controller_ref;
use crate::expectations::Expectations;
use crate::shared::{Context, Shared, watch};
use crate::views::{Node, Pod};
use crate::work::{self, Reconcile, Requeue};
use coracle_client::{CallError, Calls, Change, Deletion, Informer, Key, Params, Resource, Store, WorkQueue};
use serde::de::IgnoredAny;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;

const SLICES: Resource = Resource::new("discovery.k8s.io", "v1", "endpointslices");
const SERVICE_LABEL: &str = "kubernetes.io/service-name";
const MANAGER_LABEL: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGER: &str = "endpointslice-controller.k8s.io";
const HEADLESS_LABEL: &str = "service.kubernetes.io/headless";
const ZONE_LABEL: &str = "topology.kubernetes.io/zone";
/// The index of slices by namespace and Service.
const BY_SERVICE: &str = "service";

struct Slices {
    calls: Calls,
    services: Store<Service>,
    pods: Store<Pod>,
    nodes: Store<Node>,
    slices: Store<Slice>,
    expectations: Arc<Expectations>,
}

/// Starts the controller.
pub(super) async fn start(context: &Context, shared: &Shared, services: &Informer<Service>) {
    let params = Params::<Slice>::all()
        .labels(format!("{MANAGER_LABEL}={MANAGER}"))
        .index(BY_SERVICE, |slice| service_key(slice).map(|key| key.to_string()).into_iter().collect());
    let slices = watch(&context.reader, &SLICES, params, &context.tracker, &context.token);
    slices.synced().await;
    let queue = Arc::new(WorkQueue::new());
    let expectations = Arc::new(Expectations::default());
    wake_by_services_and_pods(services, shared, &queue);
    let (for_slices, expected) = (Arc::clone(&queue), Arc::clone(&expectations));
    slices.on_change(move |change| {
        let Some(key) = change.object().and_then(|slice| service_key(slice)) else { return };
        if matches!(change, Change::Added(_)) {
            expected.created(&key);
        }
        for_slices.add(key);
    });
    let controller = Slices {
        calls: context.calls.clone(),
        services: services.store(),
        pods: shared.pods.store(),
        nodes: shared.nodes.store(),
        slices: slices.store(),
        expectations,
    };
    work::start(controller, &queue, 5, &context.tracker, &context.token);
}

fn service_key(slice: &Slice) -> Option<Key> {
    let name = slice.metadata.label(SERVICE_LABEL)?;
    Some(Key::new(&slice.metadata.namespace, name))
}

impl Reconcile for Slices {
    const NAME: &'static str = "endpointslice";

    async fn reconcile(&self, key: &Key) -> Result<Requeue, CallError> {
        let Some(service) = self.services.get(key) else {
            // Its slices name it as their owner and go with it.
            self.expectations.forget(key);
            return Ok(Requeue::Done);
        };
        let Some(selector) = selector_of(&service).filter(|_| !service.metadata.is_terminating()) else {
            return Ok(Requeue::Done);
        };
        if !self.expectations.are_met(key) {
            // A slice of ours is not in the cache yet; it brings the Service back when it is.
            return Ok(Requeue::Done);
        }
        let existing = self.slices.by_index(BY_SERVICE, &key.to_string());
        let owned = |slice: &Slice| {
            slice.metadata.controller().is_some_and(|owner| owner.uid == service.metadata.uid)
                && !slice.metadata.is_terminating()
        };
        let existing = existing.iter().filter(|slice| owned(slice)).map(|slice| slice.as_ref().clone());
        let pods = pods_of(&service, &selector, &self.pods);
        let families = backends::families(&service);
        let writes = plan(existing.collect(), self.wanted(&service, &pods), &families, &labels(&service));
        let creates = writes.iter().filter(|write| matches!(write, Write::Create(_))).count();
        if creates > 0 {
            self.expectations.expect_creates(key, creates);
        }
        let mut failed = None;
        for write in writes {
            let is_create = matches!(write, Write::Create(_));
            if let Err(err) = self.write(&service, write).await {
                if is_create {
                    self.expectations.created(key);
                }
                if !err.is_namespace_terminating() {
                    failed = Some(err);
                }
            }
        }
        failed.map_or(Ok(Requeue::Done), Err)
    }
}

impl Slices {
    fn wanted(&self, service: &Service, pods: &[Arc<Pod>]) -> Wanted {
        let mut wanted = Wanted::new();
        for family in backends::families(service) {
            for pod in pods.iter().filter(|pod| backends::listens(pod)) {
                let Some(address) = backends::address(pod, &family) else { continue };
                let node = self.nodes.find("", &pod.spec.node_name);
                let zone = node.and_then(|node| node.metadata.label(ZONE_LABEL).map(str::to_owned));
                let ports = backends::ports(service, pod);
                let endpoint = backends::endpoint(service, pod, address, zone);
                wanted.entry((family.clone(), ports)).or_default().push(endpoint);
            }
        }
        wanted
    }

    async fn write(&self, service: &Service, write: Write) -> Result<(), CallError> {
        let namespace = &service.metadata.namespace;
        match write {
            Write::Create(mut slice) => {
                slice.metadata.owner_references = vec![controller_ref("v1", "Service", &service.metadata)];
                let mut body = json!(slice);
                body["apiVersion"] = SLICES.api_version().into();
                body["kind"] = "EndpointSlice".into();
                body["metadata"]["generateName"] = format!("{}-", service.metadata.name).into();
                if let Some(metadata) = body["metadata"].as_object_mut() {
                    metadata.remove("name");
                }
                self.calls.create::<IgnoredAny>(&SLICES.collection(namespace), &body).await.map(drop)
            }
            Write::Update(slice) => {
                let mut body = json!(slice);
                body["apiVersion"] = SLICES.api_version().into();
                body["kind"] = "EndpointSlice".into();
                let path = SLICES.object(namespace, &slice.metadata.name);
                match self.calls.replace::<IgnoredAny>(&path, &body).await {
                    // Gone meanwhile: its event brings the Service back.
                    Err(err) if err.is_not_found() => Ok(()),
                    result => result.map(drop),
                }
            }
            Write::Delete(meta) => {
                let path = SLICES.object(namespace, &meta.name);
                match self.calls.delete(&path, &Deletion::of_uid(&meta.uid)).await {
                    Err(err) if err.is_not_found() || err.is_conflict() => Ok(()),
                    result => result,
                }
            }
        }
    }
}

/// The Service's labels and ours.
fn labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone();
    labels.insert(SERVICE_LABEL.into(), service.metadata.name.clone());
    labels.insert(MANAGER_LABEL.into(), MANAGER.into());
    if service.is_headless() {
        labels.insert(HEADLESS_LABEL.into(), String::new());
    } else {
        labels.remove(HEADLESS_LABEL);
    }
    labels
}
