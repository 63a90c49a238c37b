//! Objects of the API server: each ConfigMap and Secret watched by its name while pods refer to it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use coracle_client::{CallError, Calls, Endpoint, Informer, Object, Params, Resource, slim_view, views};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use serde::Deserialize;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{
    ObjectError, ObjectKind, ObjectRef, ObjectSource, ServicePortView, ServiceView, Token, TokenSpec,
    references,
};

/// How long a pod waits for the first list of what it refers to.
const FIRST_LIST: Duration = Duration::from_secs(10);
/// Changes that a slow listener may be behind before it must look at everything.
const CHANGES: usize = 256;
/// No token is kept longer than this, however long it lives.
const TOKEN_DAY: SignedDuration = SignedDuration::from_hours(24);

/// The API server's objects, as far as this node's pods refer to them.
pub struct Watched {
    client: Option<kube::Client>,
    services: Option<Informer<Service>>,
    state: Mutex<State>,
    tokens: Mutex<BTreeMap<TokenSpec, Token>>,
    changes: broadcast::Sender<ObjectRef>,
    tracker: TaskTracker,
    token: CancellationToken,
}

#[derive(Default)]
struct State {
    pods: BTreeMap<String, BTreeSet<ObjectRef>>,
    watches: BTreeMap<ObjectRef, Watch>,
}

/// One object's informer; dropping it ends the watch.
struct Watch {
    of: Watcher,
    end: CancellationToken,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.end.cancel();
    }
}

#[derive(Clone)]
enum Watcher {
    ConfigMap(Informer<ConfigMap>),
    Secret(Informer<Secret>),
}

/// A Service, as much as is read of it.
#[derive(Debug, Clone, Deserialize)]
struct Service {
    #[serde(default)]
    metadata: views::Meta,
    #[serde(default)]
    spec: ServiceSpec,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct ServiceSpec {
    #[serde(rename = "clusterIP", default)]
    cluster_ip: String,
    #[serde(default)]
    ports: Vec<ServicePort>,
}

#[derive(Debug, Clone, Deserialize)]
struct ServicePort {
    #[serde(default)]
    name: String,
    #[serde(default)]
    protocol: String,
    port: i32,
}

slim_view!(Service);

impl Watched {
    /// A source over `client`; without one every read says so. Tasks belong to `tracker` and end with `token`.
    pub fn new(client: Option<kube::Client>, tracker: &TaskTracker, token: CancellationToken) -> Arc<Self> {
        let services = client.clone().map(|client| {
            let endpoint = Endpoint::new(client, &Resource::core("services"), "");
            Informer::start(endpoint, Params::all(), tracker, token.clone())
        });
        Arc::new(Self {
            client,
            services,
            state: Mutex::default(),
            tokens: Mutex::default(),
            changes: broadcast::Sender::new(CHANGES),
            tracker: tracker.clone(),
            token,
        })
    }

    fn watch(&self, client: &kube::Client, object: &ObjectRef) -> Option<Watch> {
        let end = self.token.child_token();
        let of = match object.kind {
            ObjectKind::ConfigMap => Watcher::ConfigMap(self.follow(client, "configmaps", object, &end)),
            ObjectKind::Secret => Watcher::Secret(self.follow(client, "secrets", object, &end)),
            ObjectKind::ServiceAccountToken | ObjectKind::Service => return None,
        };
        Some(Watch { of, end })
    }

    fn follow<K: Object>(
        &self,
        client: &kube::Client,
        plural: &'static str,
        object: &ObjectRef,
        end: &CancellationToken,
    ) -> Informer<K> {
        let endpoint = Endpoint::new(client.clone(), &Resource::core(plural), &object.namespace);
        let params = Params::<K>::all().fields(format!("metadata.name={}", object.name));
        let informer = Informer::start(endpoint, params, &self.tracker, end.clone());
        let (changes, object) = (self.changes.clone(), object.clone());
        // Nobody listening is no error.
        informer.on_change(move |_| drop(changes.send(object.clone())));
        informer
    }

    fn watcher(&self, object: &ObjectRef) -> Option<Watcher> {
        lock(&self.state).watches.get(object).map(|it| it.of.clone())
    }

    /// Asks the API server itself: nothing watches the object, or the watch does not have it (yet).
    async fn fetch<K: Object>(&self, plural: &'static str, object: ObjectRef) -> Result<Arc<K>, ObjectError> {
        let client = self.client.clone().ok_or_else(|| ObjectError::Standalone(object.clone()))?;
        let path = Resource::core(plural).object(&object.namespace, &object.name);
        match Calls::new(client, "kubelet").find::<K>(&path).await {
            Ok(Some(found)) => Ok(Arc::new(found)),
            Ok(None) => Err(ObjectError::NotFound(object)),
            Err(source) => Err(failed(object, source)),
        }
    }

    async fn request_token(&self, spec: &TokenSpec) -> Result<Token, ObjectError> {
        let object = ObjectRef::new(ObjectKind::ServiceAccountToken, &spec.namespace, &spec.service_account);
        let client = self.client.clone().ok_or_else(|| ObjectError::Standalone(object.clone()))?;
        let path =
            Resource::core("serviceaccounts").subresource(&spec.namespace, &spec.service_account, "token");
        let audiences: Vec<&str> =
            Some(spec.audience.as_str()).filter(|it| !it.is_empty()).into_iter().collect();
        let body = serde_json::json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {
                "audiences": audiences,
                "expirationSeconds": spec.expiration_seconds,
                "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": spec.pod_name, "uid": spec.pod_uid},
            },
        });
        let calls = Calls::new(client, "kubelet");
        let granted: TokenRequest = match calls.create(&path, &body).await {
            Ok(granted) => granted,
            Err(err) if err.is_not_found() => return Err(ObjectError::NotFound(object)),
            Err(err) => return Err(failed(object, err)),
        };
        let life = granted.spec.and_then(|it| it.expiration_seconds).unwrap_or(spec.expiration_seconds);
        let (token, expires) = match granted.status {
            Some(status) => (status.token.unwrap_or_default(), status.expiration_timestamp),
            None => (String::new(), None),
        };
        if token.is_empty() {
            return Err(ObjectError::NoToken(object));
        }
        let expires = expires.map_or_else(|| Timestamp::now() + SignedDuration::from_secs(life), |it| it.0);
        Ok(Token { token, renew_at: renew_at(expires, life) })
    }
}

/// At 80 % of its life or after a day, less a moment that spreads a node's tokens.
fn renew_at(expires: Timestamp, life_seconds: i64) -> Timestamp {
    let issued = expires - SignedDuration::from_secs(life_seconds);
    let part = SignedDuration::from_secs(life_seconds * 8 / 10).min(TOKEN_DAY);
    let spread = SignedDuration::from_millis(i64::from(std::process::id() % 10) * 1000);
    issued + part - spread.min(part / 10)
}

#[async_trait]
impl ObjectSource for Watched {
    fn register(&self, pod: &Pod) {
        let Some(client) = &self.client else { return };
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let wanted = references(pod);
        let mut state = lock(&self.state);
        if state.pods.get(&uid) == Some(&wanted) {
            return;
        }
        for object in &wanted {
            if !state.watches.contains_key(object)
                && let Some(watch) = self.watch(client, object)
            {
                state.watches.insert(object.clone(), watch);
            }
        }
        state.pods.insert(uid, wanted);
        state.drop_unused();
    }

    fn unregister(&self, uid: &str) {
        let mut state = lock(&self.state);
        if state.pods.remove(uid).is_some() {
            state.drop_unused();
        }
        drop(state);
        lock(&self.tokens).retain(|it, _| it.pod_uid != uid);
    }

    async fn config_map(&self, namespace: &str, name: &str) -> Result<Arc<ConfigMap>, ObjectError> {
        let object = ObjectRef::new(ObjectKind::ConfigMap, namespace, name);
        if let Some(Watcher::ConfigMap(informer)) = self.watcher(&object)
            && let Some(found) = in_store(&informer, &object).await?
        {
            return Ok(found);
        }
        self.fetch("configmaps", object).await
    }

    async fn secret(&self, namespace: &str, name: &str) -> Result<Arc<Secret>, ObjectError> {
        let object = ObjectRef::new(ObjectKind::Secret, namespace, name);
        if let Some(Watcher::Secret(informer)) = self.watcher(&object)
            && let Some(found) = in_store(&informer, &object).await?
        {
            return Ok(found);
        }
        self.fetch("secrets", object).await
    }

    async fn service_account_token(&self, spec: &TokenSpec) -> Result<Token, ObjectError> {
        let now = Timestamp::now();
        if let Some(token) = lock(&self.tokens).get(spec).filter(|it| it.renew_at > now) {
            return Ok(token.clone());
        }
        let token = self.request_token(spec).await?;
        lock(&self.tokens).insert(spec.clone(), token.clone());
        Ok(token)
    }

    async fn services(&self, namespaces: &[&str]) -> Result<Vec<ServiceView>, ObjectError> {
        let Some(services) = &self.services else { return Ok(Vec::new()) };
        let all = ObjectRef::new(ObjectKind::Service, "", "");
        synced(services, &all).await?;
        let store = services.store();
        let views = namespaces.iter().flat_map(|it| store.in_namespace(it)).filter_map(|it| view(&it));
        Ok(views.collect())
    }

    fn changes(&self) -> broadcast::Receiver<ObjectRef> {
        self.changes.subscribe()
    }
}

impl State {
    fn drop_unused(&mut self) {
        let Self { pods, watches } = self;
        watches.retain(|object, _| pods.values().any(|it| it.contains(object)));
    }
}

/// What the watch has; `None`: nothing of that name, as far as it knows.
async fn in_store<K: Object>(
    informer: &Informer<K>,
    object: &ObjectRef,
) -> Result<Option<Arc<K>>, ObjectError> {
    synced(informer, object).await?;
    Ok(informer.store().find(&object.namespace, &object.name))
}

async fn synced<K: Object>(informer: &Informer<K>, object: &ObjectRef) -> Result<(), ObjectError> {
    tokio::time::timeout(FIRST_LIST, informer.synced())
        .await
        .map_err(|_| ObjectError::TimedOut(object.clone()))
}

/// Services that are only a name have no variables.
fn view(service: &Service) -> Option<ServiceView> {
    let port = |it: &ServicePort| ServicePortView {
        name: it.name.clone(),
        protocol: it.protocol.clone(),
        port: it.port,
    };
    Some(ServiceView {
        namespace: service.metadata.namespace.clone(),
        name: service.metadata.name.clone(),
        cluster_ip: service.spec.cluster_ip.parse().ok()?,
        ports: service.spec.ports.iter().map(port).collect(),
    })
}

fn failed(object: ObjectRef, source: CallError) -> ObjectError {
    ObjectError::Fetch { object, source: Arc::new(source) }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_client::testing::FakeApi;
    use serde_json::json;

    const MAPS: &str = "/api/v1/namespaces/n/configmaps";

    fn pod(uid: &str, config_map: &str) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": uid, "namespace": "n", "uid": uid},
            "spec": {"containers": [{"name": "c", "envFrom": [{"configMapRef": {"name": config_map}}]}]},
        }))
        .unwrap()
    }

    fn start(api: &FakeApi) -> (Arc<Watched>, CancellationToken) {
        let token = CancellationToken::new();
        (Watched::new(Some(api.client()), &TaskTracker::new(), token.clone()), token)
    }

    fn value(map: &ConfigMap) -> &str {
        &map.data.as_ref().unwrap()["k"]
    }

    #[tokio::test(start_paused = true)]
    async fn an_object_is_watched_as_long_as_a_pod_refers_to_it() {
        let api = FakeApi::new();
        api.create(MAPS, json!({"metadata": {"name": "a"}, "data": {"k": "1"}}));
        api.create(MAPS, json!({"metadata": {"name": "b"}, "data": {"k": "x"}}));
        let (objects, _token) = start(&api);
        let mut changes = objects.changes();
        objects.register(&pod("u1", "a"));
        objects.register(&pod("u2", "a"));
        assert_eq!(value(&objects.config_map("n", "a").await.unwrap()), "1");
        let reads = |api: &FakeApi| api.requests().get(&format!("GET {MAPS}")).copied().unwrap_or(0);
        let before = reads(&api);
        assert_eq!(value(&objects.config_map("n", "a").await.unwrap()), "1");
        assert_eq!(reads(&api), before, "a read of what is watched asks nobody");

        api.merge(&format!("{MAPS}/a"), &json!({"data": {"k": "2"}}));
        let wanted = ObjectRef::new(ObjectKind::ConfigMap, "n", "a");
        let told = async {
            while value(&objects.config_map("n", "a").await.unwrap()) != "2" {
                assert_eq!(changes.recv().await.unwrap(), wanted);
            }
        };
        tokio::time::timeout(Duration::from_secs(60), told).await.unwrap();
        objects.unregister("u1");
        assert_eq!(lock(&objects.state).watches.len(), 1);
        objects.unregister("u2");
        assert_eq!(lock(&objects.state).watches.len(), 0);
        assert_eq!(value(&objects.config_map("n", "b").await.unwrap()), "x", "asked for by name");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_there_is_said_and_seen_when_it_comes() {
        let api = FakeApi::new();
        let (objects, _token) = start(&api);
        objects.register(&pod("u1", "late"));
        let err = objects.config_map("n", "late").await.unwrap_err();
        assert_eq!((err.is_not_found(), err.to_string().as_str()), (true, r#"configmap "late" not found"#));
        api.create(MAPS, json!({"metadata": {"name": "late"}, "data": {"k": "1"}}));
        assert_eq!(value(&objects.config_map("n", "late").await.unwrap()), "1");
        let alone = Watched::new(None, &TaskTracker::new(), CancellationToken::new());
        let err = alone.secret("n", "s").await.unwrap_err();
        assert_eq!(err.to_string(), "fetch secret n/s: this kubelet has no API server");
        assert!(alone.services(&["default"]).await.unwrap().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn services_without_an_address_are_left_out() {
        let api = FakeApi::new();
        for (name, ip) in [("web", "10.0.0.1"), ("headless", "None")] {
            let spec = json!({"clusterIP": ip, "ports": [{"port": 80}]});
            api.create("/api/v1/namespaces/n/services", json!({"metadata": {"name": name}, "spec": spec}));
        }
        let (objects, _token) = start(&api);
        let names: Vec<String> =
            objects.services(&["default", "n"]).await.unwrap().into_iter().map(|it| it.name).collect();
        assert_eq!(names, ["web"]);
    }

    #[test]
    fn tokens_are_renewed_at_four_fifths_of_their_life() {
        let issued: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        for (life, least, most) in [(3600, 2870, 2880), (600, 432, 480), (365 * 86_400, 86_390, 86_400)] {
            let at = renew_at(issued + SignedDuration::from_secs(life), life);
            let after = at.duration_since(issued).as_secs();
            assert!((least..=most).contains(&after), "{life}: {after}");
        }
    }
}
