//! Where the traffic of a Service goes: EndpointSlices, and Endpoints for those who still read them.

mod backends; // the pods behind a Service: pure
mod legacy; // Endpoints
mod slices; // EndpointSlices
mod slices_plan; // the fewest writes that bring slices to what they should be: pure
mod views; // Service, EndpointSlice, Endpoints

use crate::shared::{Context, Shared, watch};
use crate::views::Pod;
use coracle_apimachinery::Selector;
use coracle_client::{Change, Informer, Key, Params, Resource, Store, WorkQueue};
use std::sync::Arc;
use views::Service;

const SERVICES: Resource = Resource::core("services");

/// Starts both controllers over one informer of Services.
pub(crate) async fn start(for_slices: &Context, for_endpoints: &Context, shared: &Shared) {
    let services = watch::<Service>(
        &for_slices.reader,
        &SERVICES,
        Params::all(),
        &for_slices.tracker,
        &for_slices.token,
    );
    services.synced().await;
    slices::start(for_slices, shared, &services).await;
    legacy::start(for_endpoints, shared, &services).await;
}

/// Puts a Service on the queue when it, or a pod it selects, changes.
fn wake_by_services_and_pods(services: &Informer<Service>, shared: &Shared, queue: &Arc<WorkQueue<Key>>) {
    let for_services = Arc::clone(queue);
    services.on_change(move |change| {
        if let Some(service) = change.object() {
            for_services.add(Key::new(&service.metadata.namespace, &service.metadata.name));
        }
    });
    let (for_pods, services) = (Arc::clone(queue), services.store());
    shared.pods.on_change(move |change| pod_changed(change, &services, &for_pods));
}

fn pod_changed(change: &Change<Pod>, services: &Store<Service>, queue: &WorkQueue<Key>) {
    let Some(pod) = change.object() else { return };
    if change.old().is_some_and(|old| backends::same(old, pod)) {
        return;
    }
    for service in services.in_namespace(&pod.metadata.namespace) {
        let Some(selector) = selector_of(&service) else { continue };
        let before = change.old().is_some_and(|old| selector.matches_map(&old.metadata.labels));
        if before || selector.matches_map(&pod.metadata.labels) {
            queue.add(Key::new(&service.metadata.namespace, &service.metadata.name));
        }
    }
}

/// What a Service selects; `None` when others look after its endpoints.
fn selector_of(service: &Service) -> Option<Selector> {
    if service.spec.selector.is_empty() || service.spec.kind == "ExternalName" {
        return None;
    }
    Some(Selector::from_labels(
        service.spec.selector.iter().map(|(key, value)| (key.as_str(), value.as_str())),
    ))
}

/// The pods a Service selects.
fn pods_of(service: &Service, selector: &Selector, pods: &Store<Pod>) -> Vec<Arc<Pod>> {
    let mut selected = pods.in_namespace(&service.metadata.namespace);
    selected.retain(|pod| selector.matches_map(&pod.metadata.labels));
    selected
}

#[cfg(test)]
mod tests;
