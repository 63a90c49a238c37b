//! The way of a request: who, what, may they, then the verb.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use coracle_apimachinery::Status;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body_util::BodyExt;
use rustls::pki_types::CertificateDer;
use tokio::sync::SemaphorePermit;

use super::body::{Body, RequestBody};
use super::info::{Info, Query};
use super::{negotiate, paths, resources};
use crate::api::Api;
use crate::auth::{Attributes, UserInfo};
use crate::call::Call;
use crate::error::{ApiError, Outcome};
use crate::metrics::RequestLabels;
use crate::registry::output;

/// Most bytes of a request body.
pub const BODY_LIMIT: usize = 3 * 1024 * 1024;
/// How long a request that is not long-running may take.
const TIMEOUT: Duration = Duration::from_secs(60);
/// How long a client may take to send its body.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// Who sends requests over a connection.
#[derive(Debug, Clone)]
pub enum Caller {
    /// A component of this process.
    Known(Arc<UserInfo>),
    /// A TLS peer and the certificates it showed.
    Peer(Arc<[CertificateDer<'static>]>),
}

/// Answers a request. Never fails and never panics.
pub async fn handle(api: Arc<Api>, caller: Caller, request: Request<RequestBody>) -> Response<Body> {
    let query = Query::parse(request.uri().query());
    let info = Info::parse(request.method(), request.uri().path(), &query);
    let audit = header_text(request.headers(), "audit-id").map_or_else(new_audit_id, str::to_owned);
    let mut call = Call {
        query,
        info,
        content_type: media_type(request.headers()),
        user_agent: header_text(request.headers(), "user-agent").unwrap_or_default().to_owned(),
        gzip: header_text(request.headers(), "accept-encoding").is_some_and(|it| it.contains("gzip")),
        ..Call::default()
    };
    let started = Instant::now();
    let outcome = AssertUnwindSafe(answer(&api, &caller, &mut call, request)).catch_unwind().await;
    let outcome = outcome.unwrap_or_else(|_| {
        tracing::error!(verb = call.info.verb, path = call.info.path, "a request made the server panic");
        Err(ApiError::internal("this request caused apiserver to panic. Look in the logs for details."))
    });
    let mut response = outcome.unwrap_or_else(|err| output::status(&call, err.status()));
    decorate(&call, &audit, response.headers_mut());
    count(&api, &call, response.status().as_u16(), started);
    response
}

fn answer<'a>(
    api: &'a Arc<Api>,
    caller: &'a Caller,
    call: &'a mut Call,
    request: Request<RequestBody>,
) -> BoxFuture<'a, Outcome<Response<Body>>> {
    // Boxed: the futures of all verbs together are large, and most requests need little of it.
    Box::pin(answer_inner(api, caller, call, request))
}

async fn answer_inner(
    api: &Arc<Api>,
    caller: &Caller,
    call: &mut Call,
    mut request: Request<RequestBody>,
) -> Outcome<Response<Body>> {
    let user = authenticate(api, caller, &call.info.path, request.headers())?;
    request.headers_mut().remove(header::AUTHORIZATION);
    call.user = impersonate(api, user, request.headers_mut())?;
    authorize(api, call)?;
    let _place = place(api, caller, call)?;
    if !call.info.resource_request {
        let accept = header_text(request.headers(), "accept").map(str::to_owned);
        return timed(Box::pin(paths::serve(api, call, accept.as_deref()))).await;
    }
    if resources::is_connect(&call.info) {
        return resources::connect(api, call, request).await;
    }
    let accept = header_text(request.headers(), "accept");
    call.form = negotiate::form(accept).ok_or_else(|| {
        Status::not_acceptable(&[
            "application/json",
            "application/yaml",
            "application/vnd.kubernetes.protobuf",
        ])
    })?;
    call.body = read_body(request.into_body()).await?;
    if call.info.verb == "watch" {
        return Box::pin(resources::serve(api, call)).await;
    }
    timed(Box::pin(resources::serve(api, call))).await
}

/// A place among the requests that are worked on. Components of this process need none: they are few and known.
fn place<'a>(api: &'a Api, caller: &Caller, call: &Call) -> Outcome<Option<SemaphorePermit<'a>>> {
    if matches!(caller, Caller::Known(_)) || call.info.long_running() {
        return Ok(None);
    }
    let full = |_| Status::too_many_requests("too many requests, please try again later.", 1);
    Ok(Some(api.places.try_acquire().map_err(full)?))
}

async fn timed(work: BoxFuture<'_, Outcome<Response<Body>>>) -> Outcome<Response<Body>> {
    match tokio::time::timeout(TIMEOUT, work).await {
        Ok(answer) => answer,
        Err(_) => Err(Status::timeout("request did not complete within requested timeout", 0).into()),
    }
}

fn authenticate(api: &Api, caller: &Caller, path: &str, headers: &HeaderMap) -> Outcome<UserInfo> {
    match caller {
        Caller::Known(user) => Ok(UserInfo::clone(user)),
        Caller::Peer(certificates) => {
            let now = jiff::Timestamp::now().as_second();
            api.authenticator.authenticate(certificates, headers, path, now).map_err(|err| {
                tracing::debug!(path, error = %err, "request without valid credentials");
                Status::unauthorized().into()
            })
        }
    }
}

/// Acts as somebody else, if the caller may.
fn impersonate(api: &Api, user: UserInfo, headers: &mut HeaderMap) -> Outcome<UserInfo> {
    let texts = |name: &str| -> Vec<String> {
        headers.get_all(name).iter().filter_map(|v| v.to_str().ok().map(str::to_owned)).collect()
    };
    let name = texts("impersonate-user").into_iter().next().unwrap_or_default();
    let (groups, uid) = (texts("impersonate-group"), texts("impersonate-uid").into_iter().next());
    let extra: Vec<(String, String)> = headers
        .iter()
        .filter_map(|(key, value)| {
            let key = key.as_str().strip_prefix("impersonate-extra-")?;
            let key = percent_encoding::percent_decode_str(key).decode_utf8_lossy().into_owned();
            Some((key, value.to_str().ok()?.to_owned()))
        })
        .collect();
    if name.is_empty() {
        if !groups.is_empty() || uid.is_some() || !extra.is_empty() {
            return Err(ApiError::internal("requested impersonation without impersonating a user"));
        }
        return Ok(user);
    }
    let account = name.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'));
    match account {
        Some((namespace, account)) => {
            may_impersonate(api, &user, "", "serviceaccounts", "", namespace, account)?;
        }
        None => may_impersonate(api, &user, "", "users", "", "", &name)?,
    }
    for group in &groups {
        may_impersonate(api, &user, "", "groups", "", "", group)?;
    }
    if let Some(uid) = &uid {
        may_impersonate(api, &user, "authentication.k8s.io", "uids", "", "", uid)?;
    }
    for (key, value) in &extra {
        may_impersonate(api, &user, "authentication.k8s.io", "userextras", key, "", value)?;
    }
    let mut acting = match (account, groups.is_empty()) {
        (Some((namespace, account)), true) => UserInfo::service_account(namespace, account, ""),
        _ if name == "system:anonymous" => UserInfo::anonymous(),
        _ => UserInfo::authenticated(name, groups),
    };
    acting.uid = uid.unwrap_or_default();
    for (key, value) in extra {
        acting.extra.entry(key).or_default().push(value);
    }
    Ok(acting)
}

#[allow(clippy::too_many_arguments, reason = "the words of one authorization question")]
fn may_impersonate(
    api: &Api,
    user: &UserInfo,
    group: &str,
    resource: &str,
    subresource: &str,
    namespace: &str,
    name: &str,
) -> Outcome<()> {
    let attributes = Attributes {
        subresource,
        namespace,
        name,
        ..Attributes::resource(user, "impersonate", group, resource)
    };
    let decision = api.authorizer.authorize(&attributes);
    if decision.is_allowed() {
        return Ok(());
    }
    Err(Status::forbidden(group, resource, name, attributes.denial(decision.reason())).into())
}

fn authorize(api: &Api, call: &Call) -> Outcome<()> {
    let info = &call.info;
    let attributes = if info.resource_request {
        Attributes {
            version: &info.version,
            subresource: &info.subresource,
            namespace: &info.namespace,
            name: &info.name,
            path: &info.path,
            field_selector: call.query.get("fieldSelector").unwrap_or_default(),
            ..Attributes::resource(&call.user, info.verb, &info.group, &info.resource)
        }
    } else {
        Attributes::path(&call.user, info.verb, &info.path)
    };
    let decision = api.authorizer.authorize(&attributes);
    if decision.is_allowed() {
        return Ok(());
    }
    let why = attributes.denial(decision.reason());
    Err(Status::forbidden(&info.group, &info.resource, &info.name, why).into())
}

async fn read_body(body: RequestBody) -> Outcome<Bytes> {
    match tokio::time::timeout(BODY_TIMEOUT, read_whole(body)).await {
        Ok(body) => body,
        Err(_) => Err(Status::timeout("the body was not sent in time", 0).into()),
    }
}

async fn read_whole(mut body: RequestBody) -> Outcome<Bytes> {
    let mut whole: Vec<Bytes> = Vec::new();
    let mut size = 0;
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|err| ApiError::bad_request(format!("the body could not be read: {err}")))?;
        let Ok(data) = frame.into_data() else { continue };
        size += data.len();
        if size > BODY_LIMIT {
            return Err(Status::request_entity_too_large(&format!("limit is {BODY_LIMIT}")).into());
        }
        whole.push(data);
    }
    // Most bodies come in one piece.
    Ok(if whole.len() == 1 { whole.remove(0) } else { whole.concat().into() })
}

fn header_text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn media_type(headers: &HeaderMap) -> String {
    let text = header_text(headers, "content-type").unwrap_or_default();
    text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn new_audit_id() -> String {
    crate::registry::new_uid()
}

fn decorate(call: &Call, audit: &str, headers: &mut HeaderMap) {
    if let Ok(value) = HeaderValue::from_str(audit) {
        headers.insert("audit-id", value);
    }
    headers.entry(header::CACHE_CONTROL).or_insert_with(|| HeaderValue::from_static("no-cache, private"));
    for warning in call.take_warnings() {
        let escaped = warning.replace('\\', "\\\\").replace('"', "\\\"");
        let clean: String = escaped.chars().filter(|c| !c.is_control()).collect();
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{clean}\"")) {
            headers.append(header::WARNING, value);
        }
    }
}

fn count(api: &Api, call: &Call, code: u16, started: Instant) {
    let info = &call.info;
    let long = info.long_running();
    let verb = match info.verb {
        _ if long && info.verb != "watch" => "CONNECT".to_owned(),
        "create" => "POST".to_owned(),
        "update" => "PUT".to_owned(),
        verb => verb.to_uppercase(),
    };
    // Names that nobody serves are not labels: anyone could make any number of them.
    let known =
        info.resource_request && api.registry.find(&info.group, &info.version, &info.resource).is_some();
    let word = |text: &str| if known { text.to_owned() } else { String::new() };
    let labels = RequestLabels {
        verb,
        group: word(&info.group),
        version: word(&info.version),
        resource: word(&info.resource),
        subresource: word(&info.subresource),
        code,
    };
    api.metrics.answered(labels, (!long).then(|| started.elapsed().as_secs_f64()));
}
