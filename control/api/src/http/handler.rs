//! The way of a request: who, what, may they, then the verb.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use coracle_apimachinery::Status;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header};
use http_body_util::BodyExt;
use rustls::pki_types::CertificateDer;
use tokio::sync::SemaphorePermit;

use super::body::{Body, RequestBody};
use super::info::{Info, Query};
use super::websocket::Socket;
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
/// How much of a refused request's body is read, and for how long.
const DRAINED: usize = 64 << 10;
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a client may take to send its body.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// The subprotocol that carries a browser's bearer token.
const TOKEN_PROTOCOL: &str = "base64url.bearer.authorization.k8s.io.";

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
    if let Err(refusal) = identify(api, caller, call, request.headers_mut()) {
        drain(request.into_body()).await;
        return Err(refusal);
    }
    let _place = place(api, caller, call)?;
    if let Some(socket) = Socket::take(&mut request, &call.info)? {
        let response = Box::pin(serve(api, call, request)).await?;
        return Ok(socket.answer(&api.sockets, response));
    }
    serve(api, call, request).await
}

/// Who asks, and may they.
fn identify(api: &Api, caller: &Caller, call: &mut Call, headers: &mut HeaderMap) -> Outcome<()> {
    let user = authenticate(api, caller, &call.info.path, headers)?;
    call.user = impersonate(api, user, headers)?;
    strip_credentials(headers);
    authorize(api, call)
}

/// Takes in what little a refused client still sends: one whose stream ends before its body is sent sees a broken
/// connection instead of the refusal.
async fn drain(mut body: RequestBody) {
    let all = async {
        let mut size = 0;
        while let Some(Ok(frame)) = body.frame().await {
            size += frame.data_ref().map_or(0, Bytes::len);
            if size > DRAINED {
                return;
            }
        }
    };
    drop(tokio::time::timeout(DRAIN_TIMEOUT, all).await);
}

async fn serve(api: &Arc<Api>, call: &mut Call, request: Request<RequestBody>) -> Outcome<Response<Body>> {
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

/// All values of a header of impersonation. One that cannot be read must not pass for one that is not there: the request
/// would run as somebody else than it says.
fn header_values(headers: &HeaderMap, name: &str) -> Outcome<Vec<String>> {
    headers.get_all(name).iter().map(header_utf8).collect()
}

fn header_utf8(value: &HeaderValue) -> Outcome<String> {
    let text = std::str::from_utf8(value.as_bytes());
    text.map(str::to_owned).map_err(|_| ApiError::bad_request("impersonation headers must be UTF-8"))
}

/// Removes what says who asks: nobody behind this server may see it, or act on it again.
fn strip_credentials(headers: &mut HeaderMap) {
    headers.remove(header::AUTHORIZATION);
    let acting: Vec<HeaderName> =
        headers.keys().filter(|name| name.as_str().starts_with("impersonate-")).cloned().collect();
    for name in acting {
        headers.remove(name);
    }
    let offered: Vec<HeaderValue> = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().cloned().collect();
    headers.remove(header::SEC_WEBSOCKET_PROTOCOL);
    for value in offered {
        // A value that is no text names no protocol.
        let Ok(text) = value.to_str() else { continue };
        let entries = text.split(',').map(str::trim);
        let kept: Vec<&str> =
            entries.filter(|it| !it.is_empty() && !it.starts_with(TOKEN_PROTOCOL)).collect();
        if let Ok(value) = HeaderValue::from_str(&kept.join(", "))
            && !kept.is_empty()
        {
            headers.append(header::SEC_WEBSOCKET_PROTOCOL, value);
        }
    }
}

/// Acts as somebody else, if the caller may.
fn impersonate(api: &Api, user: UserInfo, headers: &HeaderMap) -> Outcome<UserInfo> {
    let name = header_values(headers, "impersonate-user")?.into_iter().next().unwrap_or_default();
    let groups = header_values(headers, "impersonate-group")?;
    let uid = header_values(headers, "impersonate-uid")?.into_iter().next();
    let mut extra: Vec<(String, String)> = Vec::new();
    for (key, value) in headers {
        let Some(key) = key.as_str().strip_prefix("impersonate-extra-") else { continue };
        let text = header_utf8(value)?;
        extra.push((percent_encoding::percent_decode_str(key).decode_utf8_lossy().into_owned(), text));
    }
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
    if info.resource_request {
        return api.authorize_verb(call, info.verb);
    }
    let attributes = Attributes::path(&call.user, info.verb, &info.path);
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
    let served = api.registry.find(&info.group, &info.version, &info.resource);
    let known = served.filter(|_| info.resource_request);
    let subresource = known.and_then(|it| it.info.sub(&info.subresource)).map(|it| it.name);
    let word = |text: &str| if known.is_some() { text.to_owned() } else { String::new() };
    let labels = RequestLabels {
        verb,
        group: word(&info.group),
        version: word(&info.version),
        resource: word(&info.resource),
        subresource: subresource.unwrap_or_default().to_owned(),
        code,
    };
    api.metrics.answered(labels, (!long).then(|| started.elapsed().as_secs_f64()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_credential_stays_in_the_headers() {
        let check = |protocols: &'static str, want: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert("authorization", HeaderValue::from_static("Bearer secret"));
            headers.insert("impersonate-user", HeaderValue::from_static("bob"));
            headers.append("impersonate-group", HeaderValue::from_static("a"));
            headers.append("impersonate-group", HeaderValue::from_static("b"));
            headers.insert("impersonate-extra-scopes", HeaderValue::from_static("all"));
            headers.insert("accept", HeaderValue::from_static("*/*"));
            headers.insert("sec-websocket-protocol", HeaderValue::from_static(protocols));
            strip_credentials(&mut headers);
            assert_eq!(header_text(&headers, "sec-websocket-protocol"), want, "{protocols}");
            assert_eq!(headers.len(), 1 + usize::from(want.is_some()), "{headers:?}");
        };
        check("v5.channel.k8s.io", Some("v5.channel.k8s.io"));
        check("base64url.bearer.authorization.k8s.io.c2VjcmV0, v5.channel.k8s.io", Some("v5.channel.k8s.io"));
        check("a,base64url.bearer.authorization.k8s.io.c2VjcmV0,b", Some("a, b"));
        check("base64url.bearer.authorization.k8s.io.c2VjcmV0", None);
    }

    #[test]
    fn impersonation_reads_utf8_and_nothing_else() {
        let check = |bytes: &[u8], want: Option<&str>| {
            let value = HeaderValue::from_bytes(bytes).unwrap();
            assert_eq!(header_utf8(&value).ok().as_deref(), want);
        };
        check(b"bob", Some("bob"));
        check("zoë".as_bytes(), Some("zoë"));
        check(b"bob\xff", None);
    }
}
