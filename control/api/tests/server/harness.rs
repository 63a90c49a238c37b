//! A server in this process over a store of its own, and the few words tests need.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use coracle_api::auth::{AnonymousPolicy, Pki, PkiOptions, UserInfo};
use coracle_api::{ApiConfig, ApiServer, InProcess};
use futures::StreamExt;
use http_body_util::BodyExt;
use kube::client::Body;
use serde_json::Value;
use tower::ServiceExt;

/// How long a test waits for what must come.
const DEADLINE: Duration = Duration::from_secs(20);

pub struct Server {
    pub api: ApiServer,
    pub pki: Pki,
    service: InProcess,
    _folder: tempfile::TempDir,
}

/// An answer.
pub struct Answer {
    pub code: u16,
    pub headers: http::HeaderMap,
    pub bytes: Bytes,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|_| String::from_utf8_lossy(&self.bytes).into())
    }

    pub fn ok(self) -> Value {
        assert!(self.code < 300, "{}: {}", self.code, String::from_utf8_lossy(&self.bytes));
        self.json()
    }

    /// `code reason: message`.
    pub fn failure(&self) -> String {
        let status = self.json();
        let text = |p: &str| status[p].as_str().unwrap_or_default().to_owned();
        format!("{} {}: {}", self.code, text("reason"), text("message"))
    }
}

impl Server {
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = Self::open(folder).await;
        server
            .post("/api/v1/namespaces/default/serviceaccounts", r#"{"metadata":{"name":"default"}}"#)
            .await
            .ok();
        server
    }

    /// Stops and starts again over the same files.
    pub async fn restart(self) -> Self {
        let Self { api, service, _folder: folder, .. } = self;
        api.shutdown().await;
        drop((api, service));
        Self::open(folder).await
    }

    async fn open(folder: tempfile::TempDir) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let pki = Pki::open(&folder.path().join("pki"), &PkiOptions::default()).unwrap();
        let store =
            coracle_store::Sqlite::open(folder.path().join("db"), coracle_store::Options::default()).unwrap();
        let api = ApiServer::new(ApiConfig {
            store: Arc::new(store),
            client_certificates: pki.client_verifier().unwrap(),
            tokens: Arc::new(pki.token_authority("https://issuer", vec!["https://issuer".into()]).unwrap()),
            anonymous: AnonymousPolicy::default(),
            service_cidrs: vec!["10.96.0.0/16".parse().unwrap()],
            cluster_domain: "cluster.local".into(),
            advertise: "192.0.2.1:6443".parse().unwrap(),
            connect: None,
        })
        .await
        .unwrap();
        let service = api.service(UserInfo::master("test"));
        Self { api, pki, service, _folder: folder }
    }

    pub async fn send(&self, request: http::Request<Body>) -> Answer {
        Self::call(self.service.clone(), request).await
    }

    /// As somebody else.
    pub async fn as_user(&self, user: UserInfo, method: &str, path: &str, body: &str) -> Answer {
        Self::call(self.api.service(user), request(method, path, "application/json", body)).await
    }

    async fn call(service: InProcess, request: http::Request<Body>) -> Answer {
        let response =
            tokio::time::timeout(DEADLINE, service.oneshot(request)).await.expect("answer").unwrap();
        let (head, body) = response.into_parts();
        let bytes = tokio::time::timeout(DEADLINE, body.collect()).await.expect("body").unwrap().to_bytes();
        Answer { code: head.status.as_u16(), headers: head.headers, bytes }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(request("GET", path, "", "")).await
    }

    pub async fn post(&self, path: &str, body: &str) -> Answer {
        self.send(request("POST", path, "application/json", body)).await
    }

    pub async fn put(&self, path: &str, body: &str) -> Answer {
        self.send(request("PUT", path, "application/json", body)).await
    }

    pub async fn delete(&self, path: &str, body: &str) -> Answer {
        self.send(request("DELETE", path, "application/json", body)).await
    }

    /// `kind`: `json-patch+json`, `merge-patch+json`, `strategic-merge-patch+json`, `apply-patch+yaml`.
    pub async fn patch(&self, path: &str, kind: &str, body: &str) -> Answer {
        self.send(request("PATCH", path, &format!("application/{kind}"), body)).await
    }

    /// A config map in the default namespace.
    pub async fn config_map(&self, name: &str, labels: &str) -> Value {
        let body = format!(r#"{{"metadata":{{"name":"{name}","labels":{labels}}},"data":{{"k":"v"}}}}"#);
        self.post(MAPS, &body).await.ok()
    }

    pub async fn watch(&self, path: &str) -> Events {
        let response =
            tokio::time::timeout(DEADLINE, self.service.clone().oneshot(request("GET", path, "", "")))
                .await
                .expect("answer")
                .unwrap();
        assert_eq!(response.status(), 200);
        Events { body: response.into_body().into_data_stream().boxed(), rest: Vec::new() }
    }
}

pub const MAPS: &str = "/api/v1/namespaces/default/configmaps";
pub const PODS: &str = "/api/v1/namespaces/default/pods";

/// Events of a JSON watch.
pub struct Events {
    body: futures::stream::BoxStream<'static, Result<Bytes, Box<dyn std::error::Error + Send + Sync>>>,
    rest: Vec<u8>,
}

impl Events {
    /// The next event; `None` when the watch is over.
    pub async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.rest.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let chunk = tokio::time::timeout(DEADLINE, self.body.next()).await.expect("event");
            self.rest.extend_from_slice(&chunk?.unwrap());
        }
    }

    /// The next event as `TYPE name`.
    pub async fn line(&mut self) -> String {
        let event = self.next().await.expect("an event");
        let name = event.pointer("/object/metadata/name").or(event.pointer("/object/reason"));
        format!("{} {}", event["type"].as_str().unwrap(), name.and_then(Value::as_str).unwrap_or_default())
    }
}

pub fn request(method: &str, path: &str, content_type: &str, body: &str) -> http::Request<Body> {
    let mut builder = http::Request::builder().method(method).uri(path);
    if !content_type.is_empty() {
        builder = builder.header("content-type", content_type);
    }
    builder.body(Body::from(body.as_bytes().to_vec())).unwrap()
}

pub fn version(object: &Value) -> i64 {
    object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
}

pub fn names(list: &Value) -> Vec<&str> {
    list["items"].as_array().unwrap().iter().map(|i| i["metadata"]["name"].as_str().unwrap()).collect()
}
