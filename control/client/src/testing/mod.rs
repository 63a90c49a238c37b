//! An API server in memory, with faults on demand: for tests of informers and controllers.
//!
//! It keeps versions, uids, generations, finalizers, graceful pod deletion and watches as the real one does; it has
//! no schema, no defaults, no validation and no authorization, and treats strategic patches as merge patches.

mod path; // request paths taken apart
mod world; // objects, versions, watchers

use crate::in_process;
use bytes::Bytes;
use http::{Method, Response, StatusCode};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use kube::client::Body;
use path::Target;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tower::BoxError;
use world::World;

type Answer = UnsyncBoxBody<Bytes, BoxError>;

/// The server; clones share one world.
#[derive(Clone, Default)]
pub struct FakeApi {
    world: Arc<Mutex<World>>,
}

/// A refusal, as Status will say it.
pub(crate) struct Refusal {
    code: u16,
    reason: &'static str,
    message: String,
}

pub(crate) fn refuse(code: u16, reason: &'static str, message: impl Into<String>) -> Refusal {
    Refusal { code, reason, message: message.into() }
}

impl FakeApi {
    /// An empty cluster.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A client of this server.
    #[must_use]
    pub fn client(&self) -> kube::Client {
        let server = self.clone();
        in_process(tower::service_fn(move |request| {
            let server = server.clone();
            async move { Ok::<_, BoxError>(server.answer(request).await) }
        }))
    }

    /// Creates an object, as a POST to `path` would.
    ///
    /// # Panics
    /// When the server refuses.
    pub fn create(&self, path: &str, object: Value) -> Value {
        let target = Target::parse(path, "");
        self.lock().create(&target, object).unwrap_or_else(|refusal| panic!("{path}: {}", refusal.message))
    }

    /// Merges into an object (its status too), as a client with every right would.
    ///
    /// # Panics
    /// When the server refuses.
    pub fn merge(&self, path: &str, patch: &Value) -> Value {
        let target = Target::parse(path, "");
        self.lock()
            .merge(&target, patch, true)
            .unwrap_or_else(|refusal| panic!("{path}: {}", refusal.message))
    }

    /// Deletes an object.
    ///
    /// # Panics
    /// When the server refuses.
    pub fn delete(&self, path: &str, options: &Value) {
        let target = Target::parse(path, "");
        self.lock().delete(&target, options).unwrap_or_else(|refusal| panic!("{path}: {}", refusal.message));
    }

    /// One object.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<Value> {
        self.lock().get(&Target::parse(path, "")).ok()
    }

    /// The objects of a collection.
    #[must_use]
    pub fn list(&self, path: &str) -> Vec<Value> {
        self.lock().select(&Target::parse(path, ""))
    }

    /// Cuts every open watch in the middle.
    pub fn cut_watches(&self) {
        self.lock().cut_watches();
    }

    /// Forgets old versions: a watch or list page from before gets 410.
    pub fn compact(&self) {
        self.lock().compact();
    }

    /// Changes kept from watchers until the next [`cut_watches`](Self::cut_watches): a stuck connection.
    pub fn mute_watches(&self) {
        self.lock().mute_watches();
    }

    /// Refuses the next `times` requests of `method` whose path contains `path`.
    pub fn fail(&self, method: &Method, path: &str, times: u32, code: u16) {
        self.lock().faults.push((method.clone(), path.to_owned(), times, code));
    }

    /// Answers a GET of `path` with `body`: discovery, for example.
    pub fn serve(&self, path: &str, body: Value) {
        self.lock().fixed.insert(path.to_owned(), body);
    }

    /// How many requests there were, by `METHOD /path`.
    #[must_use]
    pub fn requests(&self) -> HashMap<String, usize> {
        self.lock().requests.clone()
    }

    /// Waits until `what` gives something, at most 20 s.
    ///
    /// # Panics
    /// When it does not within that time.
    pub async fn until<T>(&self, what: impl Fn(&Self) -> Option<T>) -> T {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        let mut version = self.lock().version_channel();
        loop {
            if let Some(found) = what(self) {
                return found;
            }
            let changed = tokio::time::timeout_at(deadline, version.changed()).await;
            assert!(changed.is_ok(), "not within 20 s");
        }
    }

    fn lock(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn answer(&self, request: http::Request<Body>) -> Response<Answer> {
        let (parts, body) = request.into_parts();
        let bytes = body.collect_bytes().await.unwrap_or_default();
        let target = Target::parse(parts.uri.path(), parts.uri.query().unwrap_or_default());
        let result = self.route(&parts.method, parts.uri.path(), &target, &bytes);
        match result {
            Ok(answer) => answer,
            Err(refusal) => status(&refusal),
        }
    }

    fn route(
        &self,
        method: &Method,
        path: &str,
        target: &Target,
        body: &[u8],
    ) -> Result<Response<Answer>, Refusal> {
        let mut world = self.lock();
        world.count(method, path)?;
        if let Some(fixed) = world.fixed.get(path).filter(|_| method == Method::GET) {
            return Ok(json_answer(StatusCode::OK, fixed));
        }
        let json = || -> Result<Value, Refusal> {
            serde_json::from_slice(body).map_err(|err| refuse(400, "BadRequest", err.to_string()))
        };
        match (method.as_str(), target.name.is_empty()) {
            ("GET", true) if target.query.contains_key("watch") => {
                let receiver = world.watch(target)?;
                let frames = futures::stream::unfold(receiver, |mut receiver| async move {
                    let item = receiver.recv().await?;
                    Some((item.map(|text: String| Frame::data(Bytes::from(text))), receiver))
                });
                Ok(Response::new(StreamBody::new(frames).boxed_unsync()))
            }
            ("GET", true) => Ok(json_answer(StatusCode::OK, &world.list(target)?)),
            ("GET", false) => Ok(json_answer(StatusCode::OK, &world.get(target)?)),
            ("POST", true) => Ok(json_answer(StatusCode::CREATED, &world.create(target, json()?)?)),
            ("POST", false) if target.subresource == "binding" => {
                world.bind(target, &json()?)?;
                Ok(json_answer(
                    StatusCode::CREATED,
                    &json!({"kind": "Status", "apiVersion": "v1", "status": "Success"}),
                ))
            }
            ("PUT", false) if target.subresource == "finalize" => {
                Ok(json_answer(StatusCode::OK, &world.finalize(target, &json()?)?))
            }
            ("PUT", false) => Ok(json_answer(StatusCode::OK, &world.replace(target, json()?)?)),
            ("PATCH", false) => Ok(json_answer(StatusCode::OK, &world.merge(target, &json()?, false)?)),
            ("DELETE", false) => {
                let options = if body.is_empty() { json!({}) } else { json()? };
                Ok(json_answer(StatusCode::OK, &world.delete(target, &options)?))
            }
            ("DELETE", true) => {
                world.delete_all(target);
                Ok(json_answer(
                    StatusCode::OK,
                    &json!({"kind": "Status", "apiVersion": "v1", "status": "Success"}),
                ))
            }
            _ => Err(refuse(405, "MethodNotAllowed", format!("{method} {path}"))),
        }
    }
}

fn json_answer(code: StatusCode, body: &Value) -> Response<Answer> {
    let full = Full::new(Bytes::from(body.to_string())).map_err(|never| match never {}).boxed_unsync();
    let mut response = Response::new(full);
    *response.status_mut() = code;
    response
}

fn status(refusal: &Refusal) -> Response<Answer> {
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": refusal.message, "reason": refusal.reason, "code": refusal.code,
    });
    json_answer(StatusCode::from_u16(refusal.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), &body)
}
