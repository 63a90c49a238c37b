//! Requests of an informer, and the decoding of pages and frames.

use super::machine::{Frame, Input};
use super::{Endpoint, Params};
use crate::Object;
use bytes::{Buf, BytesMut};
use http_body_util::BodyExt;
use kube::client::Body;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::time::Duration;

/// Why a request of an informer failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum WireError {
    #[error("build request")]
    Build(#[source] http::Error),
    #[error("send request")]
    Send(#[source] kube::Error),
    #[error("read answer")]
    Read(#[source] kube::Error),
    #[error("decode answer")]
    Decode(#[source] serde_json::Error),
    #[error("server says {code} {reason}: {message}")]
    Status { code: u16, reason: String, message: String },
    #[error("no answer within {0:?}")]
    Deadline(Duration),
    #[error("watch cut inside an event")]
    Cut,
}

impl WireError {
    /// Whether the version or token asked for is no longer kept.
    pub(super) fn is_gone(&self) -> bool {
        matches!(self, Self::Status { code, reason, .. }
            if *code == 410 || reason == "Expired" || reason == "Gone")
    }
}

const LIST_DEADLINE: Duration = Duration::from_secs(60);
const OPEN_DEADLINE: Duration = Duration::from_secs(30);
/// What the client waits longer than the server was asked to.
const SLACK: Duration = Duration::from_secs(30);

/// Fetches the page after `token`.
pub(super) async fn page<K: Object>(
    endpoint: &Endpoint,
    params: &Params<K>,
    token: Option<&str>,
) -> Result<Input<K>, WireError> {
    let limit = params.page.to_string();
    let mut pairs = vec![("limit", limit.as_str())];
    pairs.extend(token.map(|token| ("continue", token)));
    let request = request(endpoint, &query(params, &pairs), accept(params, "PartialObjectMetadataList"))?;
    let answer = async {
        let response = checked(endpoint.client.send(request).await.map_err(WireError::Send)?).await?;
        response.into_body().collect_bytes().await.map_err(WireError::Read)
    };
    let bytes = tokio::time::timeout(LIST_DEADLINE, answer)
        .await
        .map_err(|_| WireError::Deadline(LIST_DEADLINE))??;
    decode_page(&bytes, params)
}

/// An open watch.
pub(super) struct Watch {
    body: Body,
    buffer: BytesMut,
    until: tokio::time::Instant,
}

/// Opens a watch after `version`, for `lifetime`.
pub(super) async fn open<K: Object>(
    endpoint: &Endpoint,
    params: &Params<K>,
    version: &str,
    lifetime: Duration,
) -> Result<Watch, WireError> {
    let seconds = lifetime.as_secs().to_string();
    let pairs = [
        ("watch", "true"),
        ("allowWatchBookmarks", "true"),
        ("resourceVersion", version),
        ("timeoutSeconds", seconds.as_str()),
    ];
    let request = request(endpoint, &query(params, &pairs), accept(params, "PartialObjectMetadata"))?;
    let answer = async { checked(endpoint.client.send(request).await.map_err(WireError::Send)?).await };
    let response = tokio::time::timeout(OPEN_DEADLINE, answer)
        .await
        .map_err(|_| WireError::Deadline(OPEN_DEADLINE))??;
    Ok(Watch {
        body: response.into_body(),
        buffer: BytesMut::new(),
        until: tokio::time::Instant::now() + lifetime + SLACK,
    })
}

impl Watch {
    /// The next frame; `None` when the server ended the watch (or should have long ago).
    pub(super) async fn next<K: Object>(
        &mut self,
        params: &Params<K>,
    ) -> Result<Option<Frame<K>>, WireError> {
        loop {
            while let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(end);
                self.buffer.advance(1);
                if let Some(frame) = decode_frame(&line, params)? {
                    return Ok(Some(frame));
                }
            }
            match tokio::time::timeout_at(self.until, self.body.frame()).await {
                Ok(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                Ok(Some(Err(source))) => return Err(WireError::Read(source)),
                Ok(None) if self.buffer.is_empty() => return Ok(None),
                Ok(None) => {
                    // A last event may come without its newline; a half one was cut off.
                    let line = self.buffer.split();
                    return match decode_frame(&line, params) {
                        Err(WireError::Decode(err)) if err.is_eof() => Err(WireError::Cut),
                        other => other,
                    };
                }
                Err(_) => return Ok(None),
            }
        }
    }
}

fn query<K>(params: &Params<K>, pairs: &[(&str, &str)]) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    if let Some(labels) = &params.labels {
        query.append_pair("labelSelector", labels);
    }
    if let Some(fields) = &params.fields {
        query.append_pair("fieldSelector", fields);
    }
    query.extend_pairs(pairs).finish()
}

fn accept<K>(params: &Params<K>, kind: &str) -> String {
    if params.metadata_only {
        format!("application/json;as={kind};g=meta.k8s.io;v=v1, application/json")
    } else {
        "application/json".to_owned()
    }
}

fn request(endpoint: &Endpoint, query: &str, accept: String) -> Result<http::Request<Body>, WireError> {
    http::Request::get(format!("{}?{query}", endpoint.path))
        .header(http::header::ACCEPT, accept)
        .body(Body::empty())
        .map_err(WireError::Build)
}

async fn checked(response: http::Response<Body>) -> Result<http::Response<Body>, WireError> {
    if response.status().is_success() {
        return Ok(response);
    }
    let code = response.status().as_u16();
    let bytes = response.into_body().collect_bytes().await.map_err(WireError::Read)?;
    Err(status_error(code, &bytes))
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawStatus {
    code: u16,
    reason: String,
    message: String,
}

fn status_error(code: u16, bytes: &[u8]) -> WireError {
    // A proxy in between may answer with no Status at all.
    let status: RawStatus = serde_json::from_slice(bytes).unwrap_or_else(|_| RawStatus {
        message: String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned(),
        ..RawStatus::default()
    });
    let code = if status.code == 0 { code } else { status.code };
    WireError::Status { code, reason: status.reason, message: status.message }
}

#[derive(Deserialize)]
struct RawList<'a> {
    #[serde(default)]
    metadata: RawListMeta,
    #[serde(borrow, default)]
    items: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawListMeta {
    resource_version: String,
    #[serde(rename = "continue")]
    token: Option<String>,
}

fn decode_page<K: Object>(bytes: &[u8], params: &Params<K>) -> Result<Input<K>, WireError> {
    let list: RawList<'_> = serde_json::from_slice(bytes).map_err(WireError::Decode)?;
    let items =
        list.items.unwrap_or_default().into_iter().filter_map(|raw| decode_object(raw, params)).collect();
    let token = list.metadata.token.filter(|token| !token.is_empty());
    Ok(Input::Page { items, token, version: list.metadata.resource_version })
}

#[derive(Deserialize)]
struct RawFrame<'a> {
    #[serde(rename = "type")]
    what: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    object: &'a RawValue,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct OnlyVersion {
    metadata: RawListMeta,
}

fn decode_frame<K: Object>(line: &[u8], params: &Params<K>) -> Result<Option<Frame<K>>, WireError> {
    if line.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    let raw: RawFrame<'_> = serde_json::from_slice(line).map_err(WireError::Decode)?;
    match raw.what.as_ref() {
        "ERROR" => Err(status_error(500, raw.object.get().as_bytes())),
        "BOOKMARK" => Ok(Some(Frame::Bookmark { version: version_of(raw.object)? })),
        what => {
            let Some(object) = decode_object(raw.object, params) else {
                // Unreadable, but past: resume after it.
                return Ok(Some(Frame::Bookmark { version: version_of(raw.object)? }));
            };
            let version = object.resource_version().to_owned();
            Ok(Some(match what {
                "DELETED" => Frame::Remove { object, version },
                _ => Frame::Upsert { object, version },
            }))
        }
    }
}

fn version_of(raw: &RawValue) -> Result<String, WireError> {
    let only: OnlyVersion = serde_json::from_str(raw.get()).map_err(WireError::Decode)?;
    Ok(only.metadata.resource_version)
}

/// One object; one that does not fit the view is left out, so that it can't hide the others.
fn decode_object<K: Object>(raw: &RawValue, params: &Params<K>) -> Option<K> {
    match serde_json::from_str::<K>(raw.get()).or_else(|_| without_nulls(raw)) {
        Ok(mut object) => {
            object.trim();
            if let Some(transform) = params.transform {
                transform(&mut object);
            }
            Some(object)
        }
        Err(err) => {
            let only: crate::views::MetaOnly = serde_json::from_str(raw.get()).unwrap_or_default();
            tracing::warn!(object = %only.metadata.name, namespace = %only.metadata.namespace, error = %err,
                "object does not decode, left out");
            None
        }
    }
}

/// The object with its nulls left out: Go programs write an empty list or map as null, where a view has a list.
fn without_nulls<K: Object>(raw: &RawValue) -> Result<K, serde_json::Error> {
    let mut value: serde_json::Value = serde_json::from_str(raw.get())?;
    drop_nulls(&mut value);
    serde_json::from_value(value)
}

fn drop_nulls(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Object(fields) => {
            fields.retain(|_, field| !field.is_null());
            fields.values_mut().for_each(drop_nulls);
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::views::MetaOnly;

    #[test]
    fn null_is_an_empty_list() {
        let line = r#"{"type":"ADDED","object":{"metadata":{"name":"a","resourceVersion":"3",
            "ownerReferences":null,"labels":null,"finalizers":["x"]}}}"#;
        let Some(Frame::Upsert { object, .. }) = frame(line).unwrap() else { panic!("left out") };
        assert_eq!((object.metadata.owner_references.len(), object.metadata.finalizers.len()), (0, 1));
    }

    fn frame(line: &str) -> Result<Option<Frame<MetaOnly>>, WireError> {
        decode_frame(line.as_bytes(), &Params::default())
    }

    #[test]
    fn frames() {
        let got =
            frame(r#"{"type":"ADDED","object":{"metadata":{"name":"a","resourceVersion":"3"}}}"#).unwrap();
        assert!(matches!(got, Some(Frame::Upsert { object, version })
            if object.metadata.name == "a" && version == "3"));
        let got =
            frame(r#"{"type":"DELETED","object":{"metadata":{"name":"a","resourceVersion":"4"}}}"#).unwrap();
        assert!(matches!(got, Some(Frame::Remove { version, .. }) if version == "4"));
        let got = frame(r#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"9"}}}"#).unwrap();
        assert_eq!(got, Some(Frame::Bookmark { version: "9".into() }));
        assert!(frame("  ").unwrap().is_none());
    }

    #[test]
    fn an_expired_version_is_gone() {
        let err = frame(r#"{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired"}}"#)
            .unwrap_err();
        assert!(err.is_gone(), "{err}");
        let err =
            frame(r#"{"type":"ERROR","object":{"kind":"Status","code":500,"message":"x"}}"#).unwrap_err();
        assert!(!err.is_gone(), "{err}");
    }

    #[test]
    fn an_unreadable_object_moves_the_version_on() {
        let got = frame(r#"{"type":"ADDED","object":{"metadata":{"generation":"x","resourceVersion":"5"}}}"#)
            .unwrap();
        assert_eq!(got, Some(Frame::Bookmark { version: "5".into() }));
    }

    #[test]
    fn null_items_are_no_items() {
        let page = decode_page::<MetaOnly>(
            br#"{"metadata":{"resourceVersion":"5"},"items":null}"#,
            &Params::default(),
        );
        assert!(matches!(page, Ok(Input::Page { items, token: None, .. }) if items.is_empty()));
    }
}
