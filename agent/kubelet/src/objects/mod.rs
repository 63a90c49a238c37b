//! Objects that pods refer to: ConfigMaps, Secrets, service-account tokens, Services.
//!
//! A ConfigMap or Secret is watched by name from the first pod that refers to it until the last one is gone; a read is
//! then a look into memory. Reading one that no registered pod refers to asks the API server.

mod refs; // what a pod refers to
#[cfg(test)]
pub(crate) mod testing; // objects in memory
mod watched; // the API server's objects

use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use tokio::sync::broadcast;

pub use refs::{ObjectKind, ObjectRef, references};
pub use watched::Watched;

/// Why an object could not be had.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ObjectError {
    /// It does not exist. Upstream's sentence: `configmap "x" not found`.
    #[error("{} {:?} not found", .0.kind.word(), .0.name)]
    NotFound(ObjectRef),
    /// There is no API server to ask.
    #[error("fetch {0}: this kubelet has no API server")]
    Standalone(ObjectRef),
    /// The API server did not give it.
    #[error("fetch {object}")]
    Fetch {
        /// What was asked for.
        object: ObjectRef,
        /// The client's reason.
        #[source]
        source: Arc<coracle_client::CallError>,
    },
    /// The API server granted a token and did not send it.
    #[error("fetch {0}: the answer has no token")]
    NoToken(ObjectRef),
    /// No answer in time.
    #[error("fetch {0}: timed out waiting for the condition")]
    TimedOut(ObjectRef),
}

impl ObjectError {
    /// Whether the API server says that the object does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound(_))
    }
}

/// A service-account token for one pod.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TokenSpec {
    /// The pod's namespace.
    pub namespace: String,
    /// `spec.serviceAccountName`.
    pub service_account: String,
    /// The pod the token is bound to.
    pub pod_name: String,
    /// Its uid.
    pub pod_uid: String,
    /// The audience; empty: the API server's own.
    pub audience: String,
    /// The life asked for.
    pub expiration_seconds: i64,
}

/// A Service, as much of it as environment variables need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceView {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// `spec.clusterIP`; services without one are not listed.
    pub cluster_ip: IpAddr,
    /// Its ports in order.
    pub ports: Vec<ServicePortView>,
}

/// A port of a [`ServiceView`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePortView {
    /// Name, may be empty.
    pub name: String,
    /// `TCP`, `UDP`, `SCTP`.
    pub protocol: String,
    /// The port's number.
    pub port: i32,
}

/// Where objects come from: the API server by [`Watched`], memory in tests.
#[async_trait]
pub trait ObjectSource: Send + Sync {
    /// A pod is here: keep what it refers to at hand. Idempotent; a newer spec of the pod replaces the older one.
    fn register(&self, pod: &Pod);
    /// The pod is gone: let go what only it referred to.
    fn unregister(&self, uid: &str);
    /// A ConfigMap.
    async fn config_map(&self, namespace: &str, name: &str) -> Result<Arc<ConfigMap>, ObjectError>;
    /// A Secret.
    async fn secret(&self, namespace: &str, name: &str) -> Result<Arc<Secret>, ObjectError>;
    /// A token: cached, asked for again when 80 % of its life is over.
    async fn service_account_token(&self, spec: &TokenSpec) -> Result<Token, ObjectError>;
    /// Services with a cluster IP in these namespaces; waits (within a deadline) for the first list.
    async fn services(&self, namespaces: &[&str]) -> Result<Vec<ServiceView>, ObjectError>;
    /// Changes of registered objects. Who lags must look at everything again.
    fn changes(&self) -> broadcast::Receiver<ObjectRef>;
}

/// A token and when to ask for the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// The JWT.
    pub token: String,
    /// From here on a new one is asked for.
    pub renew_at: jiff::Timestamp,
}
