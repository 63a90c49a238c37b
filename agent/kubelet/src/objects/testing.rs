//! Objects in memory, for tests of this crate.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use tokio::sync::broadcast;

use super::{ObjectError, ObjectKind, ObjectRef, ObjectSource, ServiceView, Token, TokenSpec, references};

/// What is there is what was put.
pub(crate) struct Memory {
    state: Mutex<State>,
    changes: broadcast::Sender<ObjectRef>,
}

#[derive(Default)]
struct State {
    config_maps: BTreeMap<(String, String), Arc<ConfigMap>>,
    secrets: BTreeMap<(String, String), Arc<Secret>>,
    services: Vec<ServiceView>,
    tokens: u32,
    registered: BTreeMap<String, usize>,
}

impl Default for Memory {
    fn default() -> Self {
        Self { state: Mutex::default(), changes: broadcast::Sender::new(16) }
    }
}

impl Memory {
    /// Adds or replaces a ConfigMap.
    pub(crate) fn put_config_map(&self, text: &str) {
        let object: ConfigMap = serde_json::from_str(text).unwrap();
        let key = key(object.metadata.namespace.as_ref(), object.metadata.name.as_ref());
        let changed = ObjectRef::new(ObjectKind::ConfigMap, &key.0, &key.1);
        self.state.lock().unwrap().config_maps.insert(key, Arc::new(object));
        let _ = self.changes.send(changed);
    }

    /// Adds or replaces a Secret.
    pub(crate) fn put_secret(&self, text: &str) {
        let object: Secret = serde_json::from_str(text).unwrap();
        let key = key(object.metadata.namespace.as_ref(), object.metadata.name.as_ref());
        let changed = ObjectRef::new(ObjectKind::Secret, &key.0, &key.1);
        self.state.lock().unwrap().secrets.insert(key, Arc::new(object));
        let _ = self.changes.send(changed);
    }

    /// Adds a Service.
    pub(crate) fn put_service(&self, service: ServiceView) {
        self.state.lock().unwrap().services.push(service);
    }

    /// The uids of registered pods.
    pub(crate) fn registered(&self) -> Vec<String> {
        self.state.lock().unwrap().registered.keys().cloned().collect()
    }
}

fn key(namespace: Option<&String>, name: Option<&String>) -> (String, String) {
    (namespace.cloned().unwrap_or_default(), name.cloned().unwrap_or_default())
}

#[async_trait]
impl ObjectSource for Memory {
    fn register(&self, pod: &Pod) {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        self.state.lock().unwrap().registered.insert(uid, references(pod).len());
    }

    fn unregister(&self, uid: &str) {
        self.state.lock().unwrap().registered.remove(uid);
    }

    async fn config_map(&self, namespace: &str, name: &str) -> Result<Arc<ConfigMap>, ObjectError> {
        let found = self.state.lock().unwrap().config_maps.get(&(namespace.into(), name.into())).cloned();
        found.ok_or_else(|| ObjectError::NotFound(ObjectRef::new(ObjectKind::ConfigMap, namespace, name)))
    }

    async fn secret(&self, namespace: &str, name: &str) -> Result<Arc<Secret>, ObjectError> {
        let found = self.state.lock().unwrap().secrets.get(&(namespace.into(), name.into())).cloned();
        found.ok_or_else(|| ObjectError::NotFound(ObjectRef::new(ObjectKind::Secret, namespace, name)))
    }

    async fn service_account_token(&self, spec: &TokenSpec) -> Result<Token, ObjectError> {
        let mut state = self.state.lock().unwrap();
        state.tokens += 1;
        let token = format!("{}/{}/{}#{}", spec.service_account, spec.pod_uid, spec.audience, state.tokens);
        let renew_at =
            jiff::Timestamp::now() + jiff::SignedDuration::from_secs(spec.expiration_seconds * 8 / 10);
        Ok(Token { token, renew_at })
    }

    async fn services(&self, namespaces: &[&str]) -> Result<Vec<ServiceView>, ObjectError> {
        let state = self.state.lock().unwrap();
        Ok(state.services.iter().filter(|it| namespaces.contains(&it.namespace.as_str())).cloned().collect())
    }

    fn changes(&self) -> broadcast::Receiver<ObjectRef> {
        self.changes.subscribe()
    }
}
