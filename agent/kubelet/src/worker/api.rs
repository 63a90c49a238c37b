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
