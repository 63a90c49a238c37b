//! What authentication and authorization need to know of the cluster, kept by the watch cache's events.
//!
//! Holds a few strings per object, never objects.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};

use serde::Deserialize;
use serde_json::Value;

use super::bootstrap_token::{self, BootstrapToken};
use super::rbac::{Binding, PolicyRule, RoleRef, Subject};

/// The index. Feed it every event of the resources it [`wants`](AuthIndex::wants), the first list included.
#[derive(Default)]
pub struct AuthIndex {
    state: RwLock<State>,
}

#[derive(Default)]
struct State {
    roles: HashMap<(String, String), Arc<[PolicyRule]>>,
    cluster_roles: BTreeMap<String, ClusterRole>,
    cluster_bindings: BTreeMap<String, Arc<Binding>>,
    bindings: HashMap<String, BTreeMap<String, Arc<Binding>>>,
    accounts: HashMap<(String, String), String>,
    nodes: HashMap<String, String>,
    pods: HashMap<(String, String), PodView>,
    by_node: HashMap<String, BTreeSet<(String, String)>>,
    /// By the names of their Secrets.
    bootstrap_tokens: HashMap<String, BootstrapToken>,
}

struct ClusterRole {
    labels: BTreeMap<String, String>,
    aggregation: Vec<coracle_apimachinery::LabelSelector>,
    own: Vec<PolicyRule>,
    /// Own rules, or those of the roles it aggregates.
    effective: Arc<[PolicyRule]>,
}

/// What is known of a pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodView {
    /// Its uid.
    pub uid: String,
    /// The node it is bound to, or empty.
    pub node: String,
    /// Its service account.
    pub service_account: String,
    /// Names of secrets, config maps and claims it refers to.
    pub refs: BTreeSet<(RefKind, String)>,
}

/// Kinds of objects that pods refer to by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RefKind {
    /// A Secret.
    Secret,
    /// A ConfigMap.
    ConfigMap,
    /// A PersistentVolumeClaim.
    Claim,
}

impl AuthIndex {
    /// Whether events of the resource matter here.
    pub fn wants(group: &str, resource: &str) -> bool {
        matches!(
            (group, resource),
            ("", "pods" | "serviceaccounts" | "nodes" | "secrets")
                | (
                    "rbac.authorization.k8s.io",
                    "roles" | "clusterroles" | "rolebindings" | "clusterrolebindings"
                )
        )
    }

    /// Whether an object of such a resource may matter: of Secrets only those that can be tokens are looked into.
    pub fn concerns(resource: &str, namespace: &str, name: &str) -> bool {
        resource != "secrets"
            || namespace == bootstrap_token::NAMESPACE && name.starts_with(bootstrap_token::PREFIX)
    }

    /// An object is there, changed, or (`None`) gone.
    pub fn changed(&self, resource: &str, namespace: &str, name: &str, object: Option<&Value>) {
        let mut state = self.write();
        let key = (namespace.to_owned(), name.to_owned());
        match resource {
            "roles" => put(&mut state.roles, key, object.map(|it| rules(it).into())),
            "clusterroles" => {
                put(&mut state.cluster_roles, name.to_owned(), object.map(cluster_role));
                state.aggregate();
            }
            "clusterrolebindings" => {
                let value = object.map(|it| Arc::new(binding("", name, it)));
                put(&mut state.cluster_bindings, name.to_owned(), value);
            }
            "rolebindings" => {
                let in_namespace = state.bindings.entry(namespace.to_owned()).or_default();
                let value = object.map(|it| Arc::new(binding(namespace, name, it)));
                put(in_namespace, name.to_owned(), value);
                if in_namespace.is_empty() {
                    state.bindings.remove(namespace);
                }
            }
            "serviceaccounts" => put(&mut state.accounts, key, object.map(uid)),
            "nodes" => put(&mut state.nodes, name.to_owned(), object.map(uid)),
            "secrets" if Self::concerns(resource, namespace, name) => {
                let token = object.and_then(BootstrapToken::of_secret);
                put(&mut state.bootstrap_tokens, name.to_owned(), token);
            }
            "pods" => state.put_pod(key, object.map(pod_view)),
            _ => {}
        }
    }

    /// The bootstrap token of this id.
    pub fn bootstrap_token(&self, id: &str) -> Option<BootstrapToken> {
        self.read().bootstrap_tokens.get(&format!("{}{id}", bootstrap_token::PREFIX)).cloned()
    }

    /// The uid of a service account that exists.
    pub fn service_account_uid(&self, namespace: &str, name: &str) -> Option<String> {
        self.read().accounts.get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    /// The uid of a node that exists.
    pub fn node_uid(&self, name: &str) -> Option<String> {
        self.read().nodes.get(name).cloned()
    }

    /// What is known of a pod that exists.
    pub fn pod(&self, namespace: &str, name: &str) -> Option<PodView> {
        self.read().pods.get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    /// Whether a pod on `node` refers to the object.
    pub fn node_needs(&self, node: &str, kind: RefKind, namespace: &str, name: &str) -> bool {
        let wanted = (kind, name.to_owned());
        self.any_pod(node, namespace, |pod| pod.refs.contains(&wanted))
    }

    /// Whether a pod on `node` runs as the service account.
    pub fn node_runs_as(&self, node: &str, namespace: &str, account: &str) -> bool {
        self.any_pod(node, namespace, |pod| pod.service_account == account)
    }

    fn any_pod(&self, node: &str, namespace: &str, matches: impl Fn(&PodView) -> bool) -> bool {
        let state = self.read();
        let Some(keys) = state.by_node.get(node) else { return false };
        keys.iter()
            .filter(|(pod_namespace, _)| pod_namespace == namespace)
            .filter_map(|key| state.pods.get(key))
            .any(matches)
    }

    /// The cluster-wide bindings and those of the namespace that `applies` chooses.
    pub(super) fn bindings(&self, namespace: &str, applies: impl Fn(&Binding) -> bool) -> Vec<Arc<Binding>> {
        let state = self.read();
        let local = state.bindings.get(namespace).filter(|_| !namespace.is_empty());
        let all = state.cluster_bindings.values().chain(local.into_iter().flat_map(BTreeMap::values));
        all.filter(|binding| applies(binding)).cloned().collect()
    }

    /// The rules of the role that a binding in `namespace` refers to; the error says that there is none.
    pub(super) fn rules_of(&self, role: &RoleRef, namespace: &str) -> Result<Arc<[PolicyRule]>, String> {
        let state = self.read();
        let (found, resource) = if role.kind == "ClusterRole" {
            (state.cluster_roles.get(&role.name).map(|it| it.effective.clone()), "clusterrole")
        } else {
            (state.roles.get(&(namespace.to_owned(), role.name.clone())).cloned(), "role")
        };
        found.ok_or_else(|| format!("{resource}.rbac.authorization.k8s.io {:?} not found", role.name))
    }

    /// The rules that a ClusterRole with an aggregation rule should hold now, for the controller that stores them.
    pub fn aggregated_rules(&self, cluster_role: &str) -> Option<Vec<PolicyRule>> {
        let state = self.read();
        let role = state.cluster_roles.get(cluster_role).filter(|it| !it.aggregation.is_empty())?;
        Some(role.effective.to_vec())
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl State {
    fn put_pod(&mut self, key: (String, String), pod: Option<PodView>) {
        let node = pod.as_ref().map(|it| it.node.clone()).unwrap_or_default();
        let old = match pod {
            Some(pod) => self.pods.insert(key.clone(), pod),
            None => self.pods.remove(&key),
        };
        if let Some(old) = old.filter(|it| it.node != node)
            && let Some(keys) = self.by_node.get_mut(&old.node)
        {
            keys.remove(&key);
            if keys.is_empty() {
                self.by_node.remove(&old.node);
            }
        }
        if !node.is_empty() {
            self.by_node.entry(node).or_default().insert(key);
        }
    }

    /// Fills in the rules of aggregating roles: from nothing, adding until nothing is added, so that roles which
    /// aggregate aggregates (or each other) settle.
    fn aggregate(&mut self) {
        let mut unions: BTreeMap<String, Vec<PolicyRule>> = BTreeMap::new();
        let aggregating = self.cluster_roles.iter().filter(|(_, role)| !role.aggregation.is_empty());
        unions.extend(aggregating.map(|(name, _)| (name.clone(), Vec::new())));
        loop {
            let mut grown = false;
            for name in unions.keys().cloned().collect::<Vec<_>>() {
                for rule in self.parts_of(&name, &unions) {
                    if let Some(union) = unions.get_mut(&name).filter(|union| !union.contains(&rule)) {
                        union.push(rule);
                        grown = true;
                    }
                }
            }
            if !grown {
                break;
            }
        }
        for (name, role) in &mut self.cluster_roles {
            let effective = unions.get(name).unwrap_or(&role.own);
            if *role.effective != **effective {
                role.effective = effective.clone().into();
            }
        }
    }

    fn parts_of(&self, name: &str, unions: &BTreeMap<String, Vec<PolicyRule>>) -> Vec<PolicyRule> {
        let Some(role) = self.cluster_roles.get(name) else { return Vec::new() };
        let selectors: Vec<_> = role.aggregation.iter().filter_map(|it| it.compile().ok()).collect();
        self.cluster_roles
            .iter()
            .filter(|(other, part)| {
                *other != name && selectors.iter().any(|selector| selector.matches_map(&part.labels))
            })
            .flat_map(|(other, part)| unions.get(other).unwrap_or(&part.own).iter().cloned())
            .collect()
    }
}

trait Put<K, V> {
    fn insert_or_remove(&mut self, key: K, value: Option<V>);
}

impl<K: std::hash::Hash + Eq, V> Put<K, V> for HashMap<K, V> {
    fn insert_or_remove(&mut self, key: K, value: Option<V>) {
        match value {
            Some(value) => drop(self.insert(key, value)),
            None => drop(self.remove(&key)),
        }
    }
}

impl<K: Ord, V> Put<K, V> for BTreeMap<K, V> {
    fn insert_or_remove(&mut self, key: K, value: Option<V>) {
        match value {
            Some(value) => drop(self.insert(key, value)),
            None => drop(self.remove(&key)),
        }
    }
}

fn put<K, V>(map: &mut impl Put<K, V>, key: K, value: Option<V>) {
    map.insert_or_remove(key, value);
}

fn text(object: &Value, path: &str) -> String {
    object.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn uid(object: &Value) -> String {
    text(object, "/metadata/uid")
}

fn read<T: for<'de> Deserialize<'de> + Default>(value: Option<&Value>) -> T {
    value.and_then(|it| T::deserialize(it).ok()).unwrap_or_default()
}

fn rules(object: &Value) -> Vec<PolicyRule> {
    read(object.get("rules"))
}

fn cluster_role(object: &Value) -> ClusterRole {
    let own = rules(object);
    ClusterRole {
        labels: read(object.pointer("/metadata/labels")),
        aggregation: read(object.pointer("/aggregationRule/clusterRoleSelectors")),
        effective: own.clone().into(),
        own,
    }
}

fn binding(namespace: &str, name: &str, object: &Value) -> Binding {
    let subjects: Vec<Subject> = read(object.get("subjects"));
    Binding {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        role: read(object.get("roleRef")),
        subjects,
    }
}

fn pod_view(object: &Value) -> PodView {
    let mut refs = BTreeSet::new();
    if let Some(spec) = object.get("spec") {
        collect_refs(spec, &mut refs);
    }
    PodView {
        uid: uid(object),
        node: text(object, "/spec/nodeName"),
        service_account: text(object, "/spec/serviceAccountName"),
        refs,
    }
}

/// Whether a pod refers to any API object: what a node may not bring about by a mirror pod of its own making, since a
/// reference is what lets it read the object.
pub fn refers_to_objects(pod: &Value) -> bool {
    let view = pod_view(pod);
    let Some(spec) = pod.get("spec") else { return false };
    let account = !view.service_account.is_empty() || !text(pod, "/spec/serviceAccount").is_empty();
    let projects = |volume: &Value| {
        let sources = volume.pointer("/projected/sources").and_then(Value::as_array);
        let kinds = ["serviceAccountToken", "clusterTrustBundle", "podCertificate"];
        sources.into_iter().flatten().any(|source| kinds.iter().any(|kind| source.get(kind).is_some()))
    };
    account
        || !view.refs.is_empty()
        || list(spec, "resourceClaims").next().is_some()
        || list(spec, "volumes").any(|volume| volume.get("ephemeral").is_some() || projects(volume))
}

fn collect_refs(spec: &Value, refs: &mut BTreeSet<(RefKind, String)>) {
    let mut add = |kind, value: Option<&Value>| {
        if let Some(name) = value.and_then(Value::as_str).filter(|name| !name.is_empty()) {
            refs.insert((kind, name.to_owned()));
        }
    };
    for secret in list(spec, "imagePullSecrets") {
        add(RefKind::Secret, secret.get("name"));
    }
    for volume in list(spec, "volumes") {
        add(RefKind::Secret, volume.pointer("/secret/secretName"));
        add(RefKind::ConfigMap, volume.pointer("/configMap/name"));
        add(RefKind::Claim, volume.pointer("/persistentVolumeClaim/claimName"));
        for source in volume.pointer("/projected/sources").and_then(Value::as_array).into_iter().flatten() {
            add(RefKind::Secret, source.pointer("/secret/name"));
            add(RefKind::ConfigMap, source.pointer("/configMap/name"));
        }
        add(RefKind::Secret, volume.pointer("/azureFile/secretName"));
        for driver in ["cephfs", "cinder", "csi", "flexVolume", "iscsi", "rbd", "scaleIO", "storageos"] {
            if let Some(driver) = volume.get(driver) {
                add(RefKind::Secret, driver.pointer("/secretRef/name"));
                add(RefKind::Secret, driver.pointer("/nodePublishSecretRef/name"));
            }
        }
    }
    for containers in ["containers", "initContainers", "ephemeralContainers"] {
        for container in list(spec, containers) {
            for env in list(container, "env") {
                add(RefKind::Secret, env.pointer("/valueFrom/secretKeyRef/name"));
                add(RefKind::ConfigMap, env.pointer("/valueFrom/configMapKeyRef/name"));
            }
            for env in list(container, "envFrom") {
                add(RefKind::Secret, env.pointer("/secretRef/name"));
                add(RefKind::ConfigMap, env.pointer("/configMapRef/name"));
            }
        }
    }
}

fn list<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    value.get(field).and_then(Value::as_array).into_iter().flatten()
}
