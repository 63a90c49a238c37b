//! Bytes between a client and a kubelet, pod or service: `exec`, `attach`, `portforward`, `log`, `proxy`.
//!
//! Where a request goes is computed from objects alone ([`target`]); how it gets there is the same for all
//! ([`forward`]): upgrades become a bare connection both ways, everything else is streamed as it comes.

mod forward; // requests and upgrades to another server
mod target; // which server, which path

use async_trait::async_trait;
use coracle_apimachinery::Status;
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api::Api;
use crate::auth::Pki;
use crate::auth::pki::PkiError;
use crate::call::Call;
use crate::error::{ApiError, Outcome};
use crate::http::body::{Body, RequestBody, boxed, request_bytes};
use crate::http::connect::Connect;
use forward::Backends;
use target::Target;

/// How much of a kubelet's refusal is passed on.
const REFUSAL: usize = 16 << 10;

/// The way to kubelets, pods and services.
pub struct Connector {
    backends: Backends,
    tracker: TaskTracker,
    token: CancellationToken,
}

impl Connector {
    /// Calls kubelets with this TLS.
    pub fn new(kubelets: rustls::ClientConfig) -> Self {
        let (tracker, token) = (TaskTracker::new(), CancellationToken::new());
        Self { backends: Backends::new(kubelets, tracker.clone(), token.clone()), tracker, token }
    }

    /// Calls kubelets with the certificate that the cluster's CA gives for it, and trusts those of the CA.
    pub fn of_pki(pki: &Pki) -> Result<Self, PkiError> {
        Ok(Self::new(pki.client_config(&pki.kubelet_client()?)?))
    }

    /// Cuts what is under way and waits for its end.
    pub async fn shutdown(&self) {
        self.token.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}

impl Drop for Connector {
    fn drop(&mut self) {
        self.token.cancel();
    }
}

#[async_trait]
impl Connect for Connector {
    async fn connect(
        &self,
        api: &Api,
        call: &Call,
        request: Request<RequestBody>,
    ) -> Outcome<Response<Body>> {
        let info = &call.info;
        match (info.resource.as_str(), info.subresource.as_str()) {
            ("pods", "log") => {
                let target = target::pod_log(&pod(api, call).await?, &call.query, api).await?;
                self.log(&target, request).await
            }
            ("pods", "exec" | "attach") => {
                let pod = pod(api, call).await?;
                let target = target::pod_command(&pod, &info.subresource, &call.query, api).await?;
                self.upgrade_only(&target, request).await
            }
            ("pods", "portforward") => {
                let target = target::pod_port_forward(&pod(api, call).await?, &call.query, api).await?;
                self.upgrade_only(&target, request).await
            }
            ("pods", "proxy") => {
                let target = target::pod_proxy(api, call).await?;
                self.proxy(call, &target, request).await
            }
            ("nodes", "proxy") => {
                let target = target::node_proxy(api, call).await?;
                self.proxy(call, &target, request).await
            }
            _ => {
                let target = target::service_proxy(api, call).await?;
                self.proxy(call, &target, request).await
            }
        }
    }
}

async fn pod(api: &Api, call: &Call) -> Outcome<Value> {
    let pods = api.registry.core("pods")?;
    let found = api.registry.value(pods, &call.info.namespace, &call.info.name).await?;
    found.ok_or_else(|| pods.not_found(&call.info.name))
}

impl Connector {
    /// A stream of text; the kubelet's refusals become Statuses.
    async fn log(&self, target: &Target, request: Request<RequestBody>) -> Outcome<Response<Body>> {
        let (mut parts, _) = request.into_parts();
        parts.method = Method::GET;
        let answer = self.backends.send(target, Request::from_parts(parts, request_bytes(""))).await?;
        if !answer.status().is_success() {
            return Err(refusal(answer).await);
        }
        let mut response = Response::new(Body::Proxied(boxed(answer.into_body())));
        response.headers_mut().insert("content-type", HeaderValue::from_static("text/plain"));
        Ok(response)
    }

    async fn upgrade_only(&self, target: &Target, request: Request<RequestBody>) -> Outcome<Response<Body>> {
        if !forward::is_upgrade(request.headers()) {
            return Err(ApiError::bad_request("Upgrade request required"));
        }
        self.backends.upgrade(target, request).await
    }

    async fn proxy(
        &self,
        call: &Call,
        target: &Target,
        mut request: Request<RequestBody>,
    ) -> Outcome<Response<Body>> {
        // Pages with relative links need the slash.
        let path = &call.info.path;
        let reading = matches!(*request.method(), Method::GET | Method::HEAD);
        if reading && target.path() == "/" && !path.ends_with('/') {
            return Ok(redirect(&format!("{path}/"), request.uri().query()));
        }
        if forward::is_upgrade(request.headers()) {
            return self.backends.upgrade(target, request).await;
        }
        let uri = HeaderValue::from_str(path.trim_end_matches('/')).ok();
        if let Some(uri) = uri {
            request.headers_mut().insert(HeaderName::from_static("x-forwarded-uri"), uri);
        }
        let answer = self.backends.send(target, request).await?;
        let (parts, body) = answer.into_parts();
        let mut response = Response::new(Body::Proxied(boxed(body)));
        *response.status_mut() = parts.status;
        *response.headers_mut() = forward::end_to_end(parts.headers);
        relocate(response.headers_mut(), path, target);
        Ok(response)
    }
}

fn redirect(path: &str, query: Option<&str>) -> Response<Body> {
    let place = query.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    if let Ok(place) = HeaderValue::from_str(&place) {
        response.headers_mut().insert("location", place);
    }
    response
}

/// A redirect within the other server stays under the proxy's path.
fn relocate(headers: &mut HeaderMap, path: &str, target: &Target) {
    let Some(place) = headers.get("location").and_then(|it| it.to_str().ok()).map(str::to_owned) else {
        return;
    };
    let Some(base) = path.strip_suffix(target.path()).filter(|_| place.starts_with('/')) else { return };
    if let Ok(value) = HeaderValue::from_str(&format!("{base}{place}")) {
        headers.insert("location", value);
    }
}

/// What a kubelet's refusal of a log means to the client.
async fn refusal(answer: Response<hyper::body::Incoming>) -> ApiError {
    let code = answer.status();
    let body = Limited::new(answer.into_body(), REFUSAL).collect().await;
    let text = body.map(|it| String::from_utf8_lossy(&it.to_bytes()).trim().to_owned()).unwrap_or_default();
    match code {
        StatusCode::BAD_REQUEST => ApiError::bad_request(text),
        StatusCode::INTERNAL_SERVER_ERROR => ApiError::internal(text),
        StatusCode::NOT_FOUND => Status::failure(404, "NotFound", text).into(),
        _ => Status::failure(i32::from(code.as_u16()), "InternalError", text).into(),
    }
}
