//! The door to what carries bytes between a client and a kubelet, pod or service.

use async_trait::async_trait;
use http::{Request, Response};

use super::body::{Body, RequestBody};
use crate::api::Api;
use crate::call::Call;
use crate::error::Outcome;

/// Carries `exec`, `attach`, `portforward`, `log` and `proxy`.
#[async_trait]
pub trait Connect: Send + Sync {
    /// Answers a request for such a subresource. The caller is authorized; the body has not been read, and
    /// `hyper::upgrade::OnUpgrade` is among the request's extensions when its connection can be upgraded.
    async fn connect(&self, api: &Api, call: &Call, request: Request<RequestBody>)
    -> Outcome<Response<Body>>;
}
