//! What is not a resource: discovery, health, version, metrics, OpenAPI, OpenID.

use std::sync::Arc;

use coracle_apimachinery::Status;
use http::{Response, StatusCode, header};
use serde_json::{Value, json};

use super::body::Body;
use super::{discovery, health, negotiate};
use crate::api::Api;
use crate::call::Call;
use crate::error::{ApiError, Outcome};
use crate::registry::output::{answer, json_value};

/// What this server says it is: the upstream release whose API it serves.
pub const GIT_VERSION: &str = "v1.36.2+coracle";

/// Answers it.
pub async fn serve(api: &Arc<Api>, call: &Call, accept: Option<&str>) -> Outcome<Response<Body>> {
    if !matches!(call.info.verb, "get" | "head") {
        return Err(Status::method_not_supported().into());
    }
    let aggregated = negotiate::wants_aggregated(accept);
    let parts: Vec<&str> = call.info.path.split('/').filter(|part| !part.is_empty()).collect();
    match parts.as_slice() {
        [] => Ok(json_value(StatusCode::OK, &json!({ "paths": root_paths(api) }))),
        ["api"] if aggregated => Ok(aggregate(&discovery::aggregated(api, true))),
        ["apis"] if aggregated => Ok(aggregate(&discovery::aggregated(api, false))),
        ["api"] => Ok(json_value(StatusCode::OK, &discovery::legacy_versions(api))),
        ["apis"] => Ok(json_value(StatusCode::OK, &discovery::groups(api))),
        ["api", version] => found(discovery::resources(api, "", version)),
        ["apis", group] => found(discovery::group(api, group)),
        ["apis", group, version] => found(discovery::resources(api, group, version)),
        ["version"] => Ok(json_value(StatusCode::OK, &version())),
        ["healthz" | "livez" | "readyz", ..] => Ok(health::serve(api, call, &parts).await),
        ["metrics"] => Ok(answer(
            StatusCode::OK,
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            api.metrics.text(),
        )),
        [".well-known", "openid-configuration"] => {
            let address = api.config.advertise;
            let uri = format!("https://{address}/openid/v1/jwks");
            Ok(json_value(StatusCode::OK, &api.tokens.openid_configuration(&uri)))
        }
        ["openid", "v1", "jwks"] => {
            let mut response = json_value(StatusCode::OK, &api.tokens.jwks());
            let media = header::HeaderValue::from_static("application/jwk-set+json");
            response.headers_mut().insert(header::CONTENT_TYPE, media);
            Ok(response)
        }
        ["openapi", rest @ ..] => openapi(api, call, rest).await,
        _ => Err(no_page()),
    }
}

fn no_page() -> ApiError {
    Status::no_such_path().into()
}

fn found(value: Option<Value>) -> Outcome<Response<Body>> {
    value.map(|value| json_value(StatusCode::OK, &value)).ok_or_else(no_page)
}

fn aggregate(value: &Value) -> Response<Body> {
    let mut response = json_value(StatusCode::OK, value);
    let media = header::HeaderValue::from_static(
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
    );
    response.headers_mut().insert(header::CONTENT_TYPE, media);
    response.headers_mut().insert(header::VARY, header::HeaderValue::from_static("Accept"));
    response
}

fn version() -> Value {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    json!({
        "major": "1",
        "minor": "36",
        "gitVersion": GIT_VERSION,
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "rustc",
        "platform": format!("linux/{arch}"),
    })
}

fn root_paths(api: &Api) -> Vec<String> {
    let mut paths =
        vec!["/.well-known/openid-configuration".to_owned(), "/api".into(), "/api/v1".into(), "/apis".into()];
    for resource in api.registry.all() {
        let info = resource.info;
        if !info.group.is_empty() {
            paths.push(format!("/apis/{}", info.group));
            paths.push(format!("/apis/{}/{}", info.group, info.version));
        }
    }
    let fixed = [
        "/healthz",
        "/livez",
        "/metrics",
        "/openapi/v2",
        "/openapi/v3",
        "/openid/v1/jwks",
        "/readyz",
        "/version",
    ];
    paths.extend(fixed.map(str::to_owned));
    paths.sort();
    paths.dedup();
    paths
}

/// OpenAPI v3 by group version, and v2 as one document; kept compressed, since nearly every client takes gzip.
async fn openapi(api: &Arc<Api>, call: &Call, rest: &[&str]) -> Outcome<Response<Body>> {
    let document = match rest {
        ["v3"] => return Ok(answer(StatusCode::OK, "application/json", api.openapi.v3_index())),
        ["v2"] => {
            let api = api.clone();
            off_thread(move || Some(api.openapi.v2())).await?
        }
        ["v3", root @ ..] => {
            let (api, root) = (api.clone(), root.join("/"));
            off_thread(move || api.openapi.v3(&root)).await?
        }
        _ => None,
    };
    let document = document.ok_or_else(no_page)?;
    let mut response = if call.gzip {
        let mut response = answer(StatusCode::OK, "application/json", Body::full(document.gzip));
        response.headers_mut().insert(header::CONTENT_ENCODING, header::HeaderValue::from_static("gzip"));
        response
    } else {
        answer(StatusCode::OK, "application/json", document.json())
    };
    let headers = response.headers_mut();
    if let Ok(etag) = header::HeaderValue::from_str(&format!("\"{}\"", document.etag)) {
        headers.insert(header::ETAG, etag);
    }
    headers.insert(header::VARY, header::HeaderValue::from_static("Accept-Encoding"));
    if call.query.get("hash").is_some() {
        let forever = header::HeaderValue::from_static("public, immutable");
        headers.insert(header::CACHE_CONTROL, forever);
    }
    Ok(response)
}

/// Writing a document takes long the first time.
async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Outcome<T> {
    tokio::task::spawn_blocking(work).await.map_err(ApiError::internal)
}
