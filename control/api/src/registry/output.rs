//! Answers in every form a client may ask for.

use std::sync::Arc;

use bytes::Bytes;
use coracle_apimachinery::Status;
use coracle_schema::{TypeRef, proto};
use http::{Response, StatusCode, header};
use serde_json::{Value, json};

use super::Resource;
use super::list::Page;
use super::table::{self, Include};
use crate::cache::Object;
use crate::call::Call;
use crate::codec::{self, Codec};
use crate::error::{ApiError, Outcome};
use crate::http::body::{Body, Gzip};
use crate::http::negotiate::{Media, Show};

/// Answers smaller than this are not compressed.
const GZIP_FROM: usize = 128 * 1024;
/// Size of the chunks of a streamed list.
const CHUNK: usize = 64 * 1024;

/// An answer of bytes.
pub fn answer(code: StatusCode, content_type: &str, body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = code;
    if let Ok(value) = header::HeaderValue::from_str(content_type) {
        response.headers_mut().insert(header::CONTENT_TYPE, value);
    }
    response
}

/// An answer that may be compressed.
fn sized(call: &Call, code: StatusCode, media: &str, bytes: Vec<u8>) -> Response<Body> {
    if !call.gzip || bytes.len() < GZIP_FROM {
        return answer(code, media, bytes);
    }
    let chunks = Gzip::new(std::iter::once(Bytes::from(bytes)));
    zipped(answer(code, media, Body::Lazy(Box::new(chunks))))
}

fn zipped(mut response: Response<Body>) -> Response<Body> {
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_ENCODING, header::HeaderValue::from_static("gzip"));
    headers.insert(header::VARY, header::HeaderValue::from_static("Accept-Encoding"));
    response
}

/// JSON of any value.
pub fn json_value(code: StatusCode, value: &Value) -> Response<Body> {
    answer(code, Media::Json.content_type(), serde_json::to_vec(value).unwrap_or_default())
}

fn code_of(status: &Status) -> StatusCode {
    let code = u16::try_from(status.code).unwrap_or(500);
    StatusCode::from_u16(if code == 0 { 200 } else { code }).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// A Status.
pub fn status(call: &Call, status: &Status) -> Response<Body> {
    let code = code_of(status);
    let mut response = match (call.form.media, status_proto(status)) {
        (Media::Protobuf, Some(bytes)) => answer(code, Media::Protobuf.content_type(), bytes),
        _ => answer(code, Media::Json.content_type(), serde_json::to_vec(status).unwrap_or_default()),
    };
    let wait = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
    if wait > 0
        && matches!(status.code, 429 | 500 | 503 | 504)
        && let Ok(value) = header::HeaderValue::from_str(&wait.to_string())
    {
        response.headers_mut().insert(header::RETRY_AFTER, value);
    }
    response
}

fn status_proto(status: &Status) -> Option<Vec<u8>> {
    let ty = coracle_schema::lookup("", "v1", "Status")?;
    let value = serde_json::to_value(status).ok()?;
    Some(proto::join_envelope("v1", "Status", &proto::encode(&ty, &value), ""))
}

/// Any value of a known type.
pub fn typed(call: &Call, code: StatusCode, ty: &TypeRef, value: &Value) -> Response<Body> {
    let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default();
    match call.form.media {
        Media::Json => json_value(code, value),
        Media::Yaml => answer(code, Media::Yaml.content_type(), yaml(value)),
        Media::Protobuf => {
            let raw = proto::encode_with_version(ty, value);
            let bytes = proto::join_envelope(text("apiVersion"), text("kind"), &raw, "");
            answer(code, Media::Protobuf.content_type(), bytes)
        }
    }
}

fn yaml(value: &Value) -> String {
    serde_saphyr::to_string(value).unwrap_or_default()
}

/// One object.
pub fn object(
    call: &Call,
    code: StatusCode,
    resource: &Resource,
    object: &Object,
) -> Outcome<Response<Body>> {
    if call.form.show != Show::Object {
        let tree = resource.view(object)?;
        let value = match call.form.show {
            Show::Table => {
                let metadata = json!({ "resourceVersion": object.revision.to_string() });
                table::table(resource, metadata, std::iter::once(Ok(tree)), Include::parse(&call.query))?
            }
            Show::Metadata | Show::Object => table::partial(&tree),
        };
        return meta_kind(call, code, &value);
    }
    let mut out = Vec::with_capacity(object.bytes.len() * 3);
    match call.form.media {
        Media::Json => write_object(resource, object, &mut out)?,
        Media::Yaml => return Ok(answer(code, Media::Yaml.content_type(), yaml(&resource.view(object)?))),
        Media::Protobuf => write_envelope(resource, object, &mut out)?,
    }
    Ok(sized(call, code, call.form.media.content_type(), out))
}

/// A Table or PartialObjectMetadata; tables have no protobuf form.
fn meta_kind(call: &Call, code: StatusCode, value: &Value) -> Outcome<Response<Body>> {
    let kind = value.get("kind").and_then(Value::as_str).unwrap_or_default();
    if call.form.media == Media::Protobuf && kind != "Table" {
        let ty = coracle_schema::lookup("meta.k8s.io", "v1", kind)
            .ok_or_else(|| ApiError::internal(format!("kind {kind} is not in the schema")))?;
        return Ok(typed(call, code, &ty, value));
    }
    if call.form.media == Media::Yaml {
        return Ok(answer(code, Media::Yaml.content_type(), yaml(value)));
    }
    let bytes = serde_json::to_vec(value).map_err(ApiError::internal)?;
    Ok(sized(call, code, Media::Json.content_type(), bytes))
}

/// Appends an object's JSON in the version of its resource.
pub fn write_object(resource: &Resource, object: &Object, out: &mut Vec<u8>) -> Outcome<()> {
    if resource.ops.stored.is_none() {
        return resource.codec.write_json(&object.bytes, object.revision, out);
    }
    serde_json::to_writer(out, &resource.view(object)?).map_err(ApiError::internal)
}

fn write_item(resource: &Resource, object: &Object, out: &mut Vec<u8>) -> Outcome<()> {
    if resource.ops.stored.is_none() {
        return resource.codec.write_item(&object.bytes, object.revision, out);
    }
    let mut view = resource.view(object)?;
    if let Some(map) = view.as_object_mut() {
        map.remove("apiVersion");
        map.remove("kind");
    }
    serde_json::to_writer(out, &view).map_err(ApiError::internal)
}

/// The object's protobuf message in the version of its resource, with its revision.
fn write_raw(resource: &Resource, object: &Object, out: &mut Vec<u8>) -> Outcome<()> {
    if resource.ops.stored.is_none() {
        Codec::write_proto(&object.bytes, object.revision, out);
    } else {
        out.extend(proto::encode_with_version(&resource.ty, &resource.view(object)?));
    }
    Ok(())
}

/// Appends an object in its protobuf envelope.
pub fn write_envelope(resource: &Resource, object: &Object, out: &mut Vec<u8>) -> Outcome<()> {
    let mut raw = Vec::with_capacity(object.bytes.len() + 32);
    write_raw(resource, object, &mut raw)?;
    out.extend_from_slice(codec::MAGIC);
    codec::unknown(&resource.info.api_version(), resource.info.kind, &raw, out);
    Ok(())
}

/// A list.
pub fn list(call: &Call, resource: &Arc<Resource>, page: Page) -> Outcome<Response<Body>> {
    if call.form.show != Show::Object {
        return shown_list(call, resource, &page);
    }
    match call.form.media {
        Media::Json => Ok(json_list(call, resource, page)),
        Media::Protobuf => proto_list(call, resource, &page),
        Media::Yaml => {
            let mut items = Vec::with_capacity(page.objects.len());
            for object in &page.objects {
                items.push(resource.view(object)?);
            }
            let value = json!({
                "apiVersion": resource.info.api_version(),
                "kind": format!("{}List", resource.info.kind),
                "metadata": list_meta(&page),
                "items": items,
            });
            Ok(answer(StatusCode::OK, Media::Yaml.content_type(), yaml(&value)))
        }
    }
}

/// `metadata` of a list.
fn list_meta(page: &Page) -> Value {
    let mut meta = json!({ "resourceVersion": page.revision.to_string() });
    if let Some(map) = meta.as_object_mut() {
        if let Some(token) = &page.token {
            map.insert("continue".to_owned(), token.clone().into());
        }
        if let Some(remaining) = page.remaining {
            map.insert("remainingItemCount".to_owned(), remaining.into());
        }
    }
    meta
}

fn shown_list(call: &Call, resource: &Arc<Resource>, page: &Page) -> Outcome<Response<Body>> {
    let objects = page.objects.iter().map(|object| resource.view(object));
    let value = if call.form.show == Show::Table {
        table::table(resource, list_meta(page), objects, Include::parse(&call.query))?
    } else {
        let items: Outcome<Vec<Value>> = objects.map(|object| object.map(|o| table::partial(&o))).collect();
        json!({
            "kind": "PartialObjectMetadataList",
            "apiVersion": "meta.k8s.io/v1",
            "metadata": list_meta(page),
            "items": items?,
        })
    };
    meta_kind(call, StatusCode::OK, &value)
}

/// Chunks of a JSON list, made as the client takes them.
struct JsonList {
    resource: Arc<Resource>,
    objects: std::vec::IntoIter<Arc<Object>>,
    head: Option<Vec<u8>>,
    done: bool,
}

impl Iterator for JsonList {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.done {
            return None;
        }
        let mut out = Vec::with_capacity(CHUNK + CHUNK / 4);
        let mut first = false;
        if let Some(head) = self.head.take() {
            out.extend(head);
            first = true;
        }
        for object in self.objects.by_ref() {
            if !first {
                out.push(b',');
            }
            first = false;
            if let Err(err) = write_item(&self.resource, &object, &mut out) {
                tracing::error!(key = %object.key, error = %err, "stored object left out of a list");
                out.extend_from_slice(b"{}");
            }
            if out.len() >= CHUNK {
                return Some(out.into());
            }
        }
        self.done = true;
        out.extend_from_slice(b"]}\n");
        Some(out.into())
    }
}

fn json_list(call: &Call, resource: &Arc<Resource>, page: Page) -> Response<Body> {
    let head = format!(
        r#"{{"kind":"{}List","apiVersion":"{}","metadata":{},"items":["#,
        resource.info.kind,
        resource.info.api_version(),
        list_meta(&page)
    );
    let size: usize = page.objects.iter().map(|object| object.bytes.len() * 2).sum();
    let mut chunks = JsonList {
        resource: resource.clone(),
        objects: page.objects.into_iter(),
        head: Some(head.into_bytes()),
        done: false,
    };
    let media = Media::Json.content_type();
    if size < CHUNK / 2 {
        let mut whole = Vec::with_capacity(size + 256);
        chunks.by_ref().for_each(|chunk| whole.extend_from_slice(&chunk));
        return answer(StatusCode::OK, media, whole);
    }
    if call.gzip && size >= GZIP_FROM {
        return zipped(answer(StatusCode::OK, media, Body::Lazy(Box::new(Gzip::new(chunks)))));
    }
    answer(StatusCode::OK, media, Body::Lazy(Box::new(chunks)))
}

fn proto_list(call: &Call, resource: &Arc<Resource>, page: &Page) -> Outcome<Response<Body>> {
    let mut meta = Vec::new();
    codec::field_bytes(2, page.revision.to_string().as_bytes(), &mut meta);
    if let Some(token) = &page.token {
        codec::field_bytes(3, token.as_bytes(), &mut meta);
    }
    if let Some(remaining) = page.remaining {
        codec::field_varint(4, remaining, &mut meta);
    }
    let mut raw = Vec::new();
    codec::field_bytes(1, &meta, &mut raw);
    let mut item = Vec::new();
    for object in &page.objects {
        item.clear();
        write_raw(resource, object, &mut item)?;
        codec::field_bytes(2, &item, &mut raw);
    }
    let mut out = Vec::with_capacity(raw.len() + 64);
    out.extend_from_slice(codec::MAGIC);
    codec::unknown(&resource.info.api_version(), &format!("{}List", resource.info.kind), &raw, &mut out);
    Ok(sized(call, StatusCode::OK, Media::Protobuf.content_type(), out))
}

/// One object that is not stored.
pub fn tree(call: &Call, code: StatusCode, resource: &Resource, tree: &Value) -> Outcome<Response<Body>> {
    match call.form.show {
        Show::Object => Ok(typed(call, code, &resource.ty, tree)),
        Show::Metadata => meta_kind(call, code, &table::partial(tree)),
        Show::Table => {
            let rows = std::iter::once(Ok(tree.clone()));
            meta_kind(call, code, &table::table(resource, json!({}), rows, Include::parse(&call.query))?)
        }
    }
}

/// A list of objects that are not stored.
pub fn trees(
    call: &Call,
    resource: &Resource,
    metadata: Value,
    items: Vec<Value>,
) -> Outcome<Response<Body>> {
    if call.form.show == Show::Table {
        let rows = items.into_iter().map(Ok);
        let table = table::table(resource, metadata, rows, Include::parse(&call.query))?;
        return meta_kind(call, StatusCode::OK, &table);
    }
    let kind = format!("{}List", resource.info.kind);
    let value = json!({ "kind": kind, "apiVersion": resource.info.api_version(), "metadata": metadata, "items": items });
    match coracle_schema::lookup(resource.info.group, resource.info.version, &kind) {
        Some(ty) => Ok(typed(call, StatusCode::OK, &ty, &value)),
        None => Ok(json_value(StatusCode::OK, &value)),
    }
}
