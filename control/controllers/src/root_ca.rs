//! The ConfigMap `kube-root-ca.crt` in every namespace: how pods know the API server.

use crate::shared::{Context, Shared, watch};
use crate::views::{ConfigMap, Namespace};
use crate::work::{self, Reconcile, Requeue};
use coracle_client::{CallError, Calls, Change, Key, Params, Resource, Store, WorkQueue};
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use std::sync::Arc;

const CONFIG_MAPS: Resource = Resource::core("configmaps");
const NAME: &str = "kube-root-ca.crt";
const KEY: &str = "ca.crt";

struct Publisher {
    calls: Calls,
    ca: String,
    namespaces: Store<Namespace>,
    maps: Store<ConfigMap>,
}

/// Starts the controller with the CA as PEM text.
pub(crate) async fn start(context: &Context, shared: &Shared, ca: String) {
    let params = Params::<ConfigMap>::all().fields(format!("metadata.name={NAME}"));
    let maps = watch(&context.reader, &CONFIG_MAPS, params, &context.tracker, &context.token);
    maps.synced().await;
    let queue = Arc::new(WorkQueue::new());
    let for_namespaces = Arc::clone(&queue);
    shared.namespaces.on_change(move |change| {
        if let Change::Added(namespace) | Change::Updated { new: namespace, .. } = change {
            for_namespaces.add(Key::new("", &namespace.metadata.name));
        }
    });
    let for_maps = Arc::clone(&queue);
    maps.on_change(move |change| {
        if let Some(map) = change.object() {
            for_maps.add(Key::new("", &map.metadata.namespace));
        }
    });
    let controller = Publisher {
        calls: context.calls.clone(),
        ca,
        namespaces: shared.namespaces.store(),
        maps: maps.store(),
    };
    work::start(controller, &queue, 1, &context.tracker, &context.token);
}

impl Reconcile for Publisher {
    const NAME: &'static str = "root-ca-certificate-publisher";

    async fn reconcile(&self, key: &Key) -> Result<Requeue, CallError> {
        if self.namespaces.get(key).is_none_or(|namespace| namespace.metadata.is_terminating()) {
            return Ok(Requeue::Done);
        }
        let result = match self.maps.find(&key.name, NAME) {
            Some(map) if map.data.get(KEY) == Some(&self.ca) && map.data.len() == 1 => {
                return Ok(Requeue::Done);
            }
            Some(map) => {
                let mut wanted = self.wanted(&key.name);
                wanted["metadata"]["resourceVersion"] = map.metadata.resource_version.as_str().into();
                self.calls.replace::<IgnoredAny>(&CONFIG_MAPS.object(&key.name, NAME), &wanted).await
            }
            None => {
                self.calls
                    .create::<IgnoredAny>(&CONFIG_MAPS.collection(&key.name), &self.wanted(&key.name))
                    .await
            }
        };
        match result {
            Err(err)
                if !(err.is_already_exists() || err.is_namespace_terminating() || err.is_not_found()) =>
            {
                Err(err)
            }
            _ => Ok(Requeue::Done),
        }
    }
}

impl Publisher {
    fn wanted(&self, namespace: &str) -> Value {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {KEY: self.ca}, "metadata": {
            "name": NAME, "namespace": namespace, "annotations": {
                "kubernetes.io/description": "Contains a CA bundle that can be used to verify the kube-apiserver \
                    when using internal endpoints such as the internal service IP or kubernetes.default.svc. \
                    No other usage is guaranteed across distributions of Kubernetes clusters."}}})
    }
}
