//! The API server as a worker sees it: a status to write, an object to let go.

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Pod;
use serde_json::Value;

/// Why the API server did not take it.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The object is gone, or another of the same name is there.
    #[error("pod {0} is gone from the API server")]
    Gone(String),
    /// Anything else; worth another try.
    #[error("write pod {pod}: {message}")]
    Failed {
        /// namespace/name.
        pod: String,
        /// What it said.
        message: String,
    },
}

/// The API server.
#[async_trait]
pub trait PodApi: Send + Sync {
    /// Writes a strategic merge patch to the status of this very pod (name and uid); the object as it then is.
    async fn patch_status(&self, pod: &Pod, patch: Value) -> Result<Pod, ApiError>;
    /// Lets this very pod go: grace 0, its uid as a precondition. One that is gone is no error.
    async fn delete(&self, pod: &Pod) -> Result<(), ApiError>;
    /// Whether there is an API server at all.
    fn is_there(&self) -> bool {
        true
    }
}

/// A kubelet without an API server.
pub struct NoApi;

#[async_trait]
impl PodApi for NoApi {
    async fn patch_status(&self, pod: &Pod, _: Value) -> Result<Pod, ApiError> {
        Err(ApiError::Gone(crate::pod::key(pod)))
    }

    async fn delete(&self, _: &Pod) -> Result<(), ApiError> {
        Ok(())
    }

    fn is_there(&self) -> bool {
        false
    }
}

/// The API server through a client.
pub struct Api {
    client: kube::Client,
}

impl Api {
    /// Through this client.
    pub fn new(client: kube::Client) -> Self {
        Self { client }
    }

    fn pods(&self, pod: &Pod) -> kube::Api<Pod> {
        kube::Api::namespaced(self.client.clone(), crate::pod::namespace(pod))
    }
}

/// The API server answers within this, or is asked again.
const LIMIT: std::time::Duration = std::time::Duration::from_secs(30);

#[async_trait]
impl PodApi for Api {
    async fn patch_status(&self, pod: &Pod, mut patch: Value) -> Result<Pod, ApiError> {
        patch["metadata"] = serde_json::json!({ "uid": crate::pod::uid(pod) });
        let (api, params) = (self.pods(pod), kube::api::PatchParams::default());
        let patch = kube::api::Patch::Strategic(patch);
        let call = api.patch_status(crate::pod::name(pod), &params, &patch);
        match tokio::time::timeout(LIMIT, call).await {
            Ok(Ok(mut written)) => {
                written.metadata.managed_fields = None;
                Ok(written)
            }
            Ok(Err(err)) => Err(refused(pod, &err)),
            Err(_) => Err(late(pod)),
        }
    }

    async fn delete(&self, pod: &Pod) -> Result<(), ApiError> {
        let params = kube::api::DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(kube::api::Preconditions {
                uid: Some(crate::pod::uid(pod).to_owned()),
                resource_version: None,
            }),
            ..kube::api::DeleteParams::default()
        };
        match tokio::time::timeout(LIMIT, self.pods(pod).delete(crate::pod::name(pod), &params)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(err)) => match refused(pod, &err) {
                ApiError::Gone(_) => Ok(()),
                failed @ ApiError::Failed { .. } => Err(failed),
            },
            Err(_) => Err(late(pod)),
        }
    }
}

/// 404: it is gone. 409 that speaks of the uid that we named: another one is there. Any other 409 (two writers at
/// once, a namespace that ends) says nothing of that, and is worth another try.
fn refused(pod: &Pod, err: &kube::Error) -> ApiError {
    match err {
        kube::Error::Api(status)
            if status.code == 404 || (status.code == 409 && is_of_another(&status.message)) =>
        {
            ApiError::Gone(crate::pod::key(pod))
        }
        err => ApiError::Failed { pod: crate::pod::key(pod), message: coracle_client::report(err) },
    }
}

/// We never name a version, so a precondition that fails is the uid.
fn is_of_another(message: &str) -> bool {
    message.contains("Precondition failed") || message.contains("UID in precondition")
}

fn late(pod: &Pod) -> ApiError {
    ApiError::Failed { pod: crate::pod::key(pod), message: format!("no answer within {}s", LIMIT.as_secs()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_uid_that_differs_means_gone() {
        let check = |code: u16, message: &str, gone: bool| {
            let status = kube::core::Status { code, message: message.to_owned(), ..Default::default() };
            let got = refused(&Pod::default(), &kube::Error::Api(Box::new(status)));
            assert_eq!(matches!(got, ApiError::Gone(_)), gone, "{code} {message}");
        };
        check(404, "pods \"a\" not found", true);
        check(409, "Precondition failed: UID in precondition: a, UID in object meta: b", true);
        check(409, "the object has been modified; please apply your changes to the latest version", false);
        check(500, "no luck today", false);
    }
}
