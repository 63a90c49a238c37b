//! Services, endpoints and namespaces by name and by address.
//!
//! The informers' stores are the zone: nothing is kept twice.

use crate::views::{Service, Slice};
use coracle_client::views::MetaOnly;
use coracle_client::{Endpoint, Informer, Params, Resource, Store};
use std::net::IpAddr;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What answers are made of.
pub(crate) trait Source {
    fn has_namespace(&self, name: &str) -> bool;
    fn service(&self, namespace: &str, name: &str) -> Option<Arc<Service>>;
    fn slices(&self, namespace: &str, service: &str) -> Vec<Arc<Slice>>;
    fn service_at(&self, addr: IpAddr) -> Option<Arc<Service>>;
    fn slices_at(&self, addr: IpAddr) -> Vec<Arc<Slice>>;
}

const BY_ADDRESS: &str = "address";
const BY_SERVICE: &str = "service";

/// The cluster, as the API server tells it.
#[derive(Clone)]
pub(crate) struct Cluster {
    services: Informer<Service>,
    slices: Informer<Slice>,
    namespaces: Informer<MetaOnly>,
    stores: Arc<(Store<Service>, Store<Slice>, Store<MetaOnly>)>,
}

impl Cluster {
    /// Starts to follow the API server.
    pub(crate) fn start(client: &kube::Client, tracker: &TaskTracker, token: &CancellationToken) -> Cluster {
        let endpoint = |resource: &Resource| Endpoint::new(client.clone(), resource, "");
        let services = Params::<Service>::all()
            .index(BY_ADDRESS, |service| service.addresses().map(|addr| addr.to_string()).collect())
            .transform(Service::shrink);
        let slices = Params::<Slice>::all()
            .index(BY_SERVICE, |slice| {
                slice.service().map(|name| key(&slice.metadata.namespace, name)).into_iter().collect()
            })
            .index(BY_ADDRESS, |slice| {
                slice.endpoints.iter().filter_map(|it| Some(it.address()?.to_string())).collect()
            })
            .transform(Slice::shrink);
        let namespaces = Params::<MetaOnly>::all().metadata_only();
        let services =
            Informer::start(endpoint(&Resource::core("services")), services, tracker, token.clone());
        let slices_at = endpoint(&Resource::new("discovery.k8s.io", "v1", "endpointslices"));
        let slices = Informer::start(slices_at, slices, tracker, token.clone());
        let namespaces =
            Informer::start(endpoint(&Resource::core("namespaces")), namespaces, tracker, token.clone());
        let stores = Arc::new((services.store(), slices.store(), namespaces.store()));
        Cluster { services, slices, namespaces, stores }
    }

    /// True once everything was listed: before that, "no such name" would be a lie.
    pub(crate) fn is_synced(&self) -> bool {
        self.services.is_synced() && self.slices.is_synced() && self.namespaces.is_synced()
    }
}

impl Source for Cluster {
    fn has_namespace(&self, name: &str) -> bool {
        self.stores.2.find("", name).is_some()
    }

    fn service(&self, namespace: &str, name: &str) -> Option<Arc<Service>> {
        self.stores.0.find(namespace, name)
    }

    fn slices(&self, namespace: &str, service: &str) -> Vec<Arc<Slice>> {
        self.stores.1.by_index(BY_SERVICE, &key(namespace, service))
    }

    fn service_at(&self, addr: IpAddr) -> Option<Arc<Service>> {
        self.stores.0.by_index(BY_ADDRESS, &addr.to_string()).into_iter().next()
    }

    fn slices_at(&self, addr: IpAddr) -> Vec<Arc<Slice>> {
        self.stores.1.by_index(BY_ADDRESS, &addr.to_string())
    }
}

fn key(namespace: &str, name: &str) -> String {
    format!("{namespace}/{name}")
}
