//! What a pod refers to: a pure walk over its spec.

use std::collections::BTreeSet;
use std::fmt;

use k8s_openapi::api::core::v1::{EnvFromSource, EnvVar, Pod, Volume};

/// The kinds that are watched by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ObjectKind {
    /// A ConfigMap.
    ConfigMap,
    /// A Secret.
    Secret,
    /// A token of a ServiceAccount.
    ServiceAccountToken,
    /// Services.
    Service,
}

impl ObjectKind {
    /// The word that upstream's sentences use.
    pub fn word(self) -> &'static str {
        match self {
            Self::ConfigMap => "configmap",
            Self::Secret => "secret",
            Self::ServiceAccountToken => "serviceaccounts",
            Self::Service => "service",
        }
    }
}

/// One object by kind, namespace and name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectRef {
    /// Its kind.
    pub kind: ObjectKind,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl ObjectRef {
    /// A reference.
    pub fn new(kind: ObjectKind, namespace: &str, name: &str) -> Self {
        Self { kind, namespace: namespace.to_owned(), name: name.to_owned() }
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind.word(), self.namespace, self.name)
    }
}

/// Every ConfigMap and Secret that the pod's volumes, containers and pull secrets name.
pub fn references(pod: &Pod) -> BTreeSet<ObjectRef> {
    let mut found =
        Found { namespace: pod.metadata.namespace.clone().unwrap_or_default(), refs: BTreeSet::new() };
    let Some(spec) = &pod.spec else { return found.refs };
    for volume in spec.volumes.iter().flatten() {
        found.volume(volume);
    }
    for secret in spec.image_pull_secrets.iter().flatten() {
        found.add(ObjectKind::Secret, &secret.name);
    }
    for container in spec.init_containers.iter().flatten().chain(&spec.containers) {
        found.env(container.env.as_deref(), container.env_from.as_deref());
    }
    for container in spec.ephemeral_containers.iter().flatten() {
        found.env(container.env.as_deref(), container.env_from.as_deref());
    }
    found.refs
}

struct Found {
    namespace: String,
    refs: BTreeSet<ObjectRef>,
}

impl Found {
    fn add(&mut self, kind: ObjectKind, name: &str) {
        if !name.is_empty() {
            self.refs.insert(ObjectRef::new(kind, &self.namespace, name));
        }
    }

    fn volume(&mut self, volume: &Volume) {
        if let Some(source) = &volume.config_map {
            self.add(ObjectKind::ConfigMap, &source.name);
        }
        if let Some(name) = volume.secret.as_ref().and_then(|it| it.secret_name.as_deref()) {
            self.add(ObjectKind::Secret, name);
        }
        let Some(projected) = &volume.projected else { return };
        for source in projected.sources.iter().flatten() {
            if let Some(it) = &source.config_map {
                self.add(ObjectKind::ConfigMap, &it.name);
            }
            if let Some(it) = &source.secret {
                self.add(ObjectKind::Secret, &it.name);
            }
        }
    }

    fn env(&mut self, env: Option<&[EnvVar]>, env_from: Option<&[EnvFromSource]>) {
        for source in env.unwrap_or_default().iter().filter_map(|it| it.value_from.as_ref()) {
            if let Some(it) = &source.config_map_key_ref {
                self.add(ObjectKind::ConfigMap, &it.name);
            }
            if let Some(it) = &source.secret_key_ref {
                self.add(ObjectKind::Secret, &it.name);
            }
        }
        for source in env_from.unwrap_or_default() {
            if let Some(it) = &source.config_map_ref {
                self.add(ObjectKind::ConfigMap, &it.name);
            }
            if let Some(it) = &source.secret_ref {
                self.add(ObjectKind::Secret, &it.name);
            }
        }
    }
}
