//! Service accounts of pods, for plugins that ask in their name.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use serde::{Deserialize, Serialize};

use crate::objects::{ObjectSource, TokenSpec};
use crate::pod;

/// The API server answers within this.
const LIMIT: Duration = Duration::from_secs(30);
/// The life of a token that is asked for.
const TOKEN_SECONDS: i64 = 3600;

/// A ServiceAccount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountRef {
    /// Its uid.
    pub uid: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// As much of a ServiceAccount as plugins are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Which it is.
    pub reference: AccountRef,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
}

/// Where accounts come from. Errors are for the log.
#[async_trait]
pub trait Accounts: Send + Sync {
    /// The ServiceAccount of this name.
    async fn account(&self, namespace: &str, name: &str) -> Result<Account, String>;
    /// A token of a pod's account for this audience.
    async fn token(&self, pod: &Pod, account: &str, audience: &str) -> Result<String, String>;
}

/// A kubelet without an API server.
pub struct NoAccounts;

#[async_trait]
impl Accounts for NoAccounts {
    async fn account(&self, namespace: &str, name: &str) -> Result<Account, String> {
        Err(format!("no API server to ask for service account {namespace}/{name}"))
    }

    async fn token(&self, _: &Pod, account: &str, _: &str) -> Result<String, String> {
        Err(format!("no API server to ask for a token of service account {account}"))
    }
}

/// Those of the API server.
pub struct OfApi {
    /// The API server.
    pub client: kube::Client,
    /// Tokens.
    pub objects: Arc<dyn ObjectSource>,
}

#[async_trait]
impl Accounts for OfApi {
    async fn account(&self, namespace: &str, name: &str) -> Result<Account, String> {
        let api = kube::Api::<ServiceAccount>::namespaced(self.client.clone(), namespace);
        let fetched = tokio::time::timeout(LIMIT, api.get(name)).await;
        let found = fetched.map_err(|_| format!("service account {namespace}/{name}: no answer"))?;
        let found =
            found.map_err(|it| format!("service account {namespace}/{name}: {}", crate::report(&it)))?;
        let uid = found.metadata.uid.unwrap_or_default();
        let reference = AccountRef { uid, namespace: namespace.to_owned(), name: name.to_owned() };
        Ok(Account { reference, annotations: found.metadata.annotations.unwrap_or_default() })
    }

    async fn token(&self, pod: &Pod, account: &str, audience: &str) -> Result<String, String> {
        let spec = TokenSpec {
            namespace: pod::namespace(pod).to_owned(),
            service_account: account.to_owned(),
            pod_name: pod::name(pod).to_owned(),
            pod_uid: pod::uid(pod).to_owned(),
            audience: audience.to_owned(),
            expiration_seconds: TOKEN_SECONDS,
        };
        let token = self.objects.service_account_token(&spec).await;
        token.map(|it| it.token).map_err(|it| crate::report(&it))
    }
}

/// The name of the account that a pod runs as; static pods have none.
pub(super) fn account_name(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.service_account_name.as_deref().filter(|it| !it.is_empty())
}
