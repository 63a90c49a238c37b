//! Objects, versions and watchers of the fake server.

use super::path::Target;
use super::{Refusal, refuse};
use http::Method;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use tokio::sync::{mpsc, watch};
use tower::BoxError;

type Id = (String, String, String);
type Watcher = mpsc::UnboundedSender<Result<String, BoxError>>;

#[derive(Default)]
pub(super) struct World {
    version: u64,
    compacted: u64,
    objects: BTreeMap<Id, Value>,
    /// Every change: version, type, collection, object.
    log: Vec<(u64, &'static str, String, Value)>,
    watchers: Vec<(Target, Watcher)>,
    muted: bool,
    names: u64,
    announce: Option<watch::Sender<u64>>,
    pub(super) faults: Vec<(Method, String, u32, u16)>,
    pub(super) fixed: HashMap<String, Value>,
    pub(super) requests: HashMap<String, usize>,
}

impl World {
    pub(super) fn count(&mut self, method: &Method, path: &str) -> Result<(), Refusal> {
        *self.requests.entry(format!("{method} {path}")).or_default() += 1;
        let fault =
            self.faults.iter_mut().find(|(m, p, n, _)| m == method && path.contains(p.as_str()) && *n > 0);
        match fault {
            Some((_, _, times, code)) => {
                *times -= 1;
                Err(refuse(
                    *code,
                    if *code == 410 { "Expired" } else { "InternalError" },
                    "as the test wants",
                ))
            }
            None => Ok(()),
        }
    }

    pub(super) fn version_channel(&mut self) -> watch::Receiver<u64> {
        self.announce.get_or_insert_with(|| watch::channel(0).0).subscribe()
    }

    pub(super) fn create(&mut self, target: &Target, mut object: Value) -> Result<Value, Refusal> {
        if object["metadata"]["name"].as_str().unwrap_or_default().is_empty() {
            let Some(prefix) = object["metadata"]["generateName"].as_str() else {
                return Err(refuse(422, "Invalid", "name or generateName is required"));
            };
            self.names += 1;
            object["metadata"]["name"] = format!("{prefix}{:05}", self.names).into();
        }
        if !target.namespace.is_empty() {
            object["metadata"]["namespace"] = target.namespace.as_str().into();
        }
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let id = (target.collection.clone(), target.namespace.clone(), name);
        if self.objects.contains_key(&id) {
            let text = format!("{} \"{}\" already exists", target.plural, id.2);
            return Err(refuse(409, "AlreadyExists", text));
        }
        self.names += 1;
        object["metadata"]["uid"] = format!("uid-{}", self.names).into();
        object["metadata"]["generation"] = 1.into();
        object["metadata"]["creationTimestamp"] = now();
        if target.plural == "pods" && object["status"].is_null() {
            object["status"] = json!({"phase": "Pending"});
        }
        if target.plural == "namespaces" && object["spec"].is_null() {
            object["spec"] = json!({"finalizers": ["kubernetes"]});
            object["status"] = json!({"phase": "Active"});
        }
        Ok(self.put(id, object, "ADDED"))
    }

    pub(super) fn get(&self, target: &Target) -> Result<Value, Refusal> {
        self.objects.get(&id(target)).cloned().ok_or_else(|| not_found(target))
    }

    pub(super) fn select(&self, target: &Target) -> Vec<Value> {
        self.objects
            .iter()
            .filter(|((collection, ..), object)| *collection == target.collection && target.selects(object))
            .map(|(_, object)| object.clone())
            .collect()
    }

    /// A list; pages begin after the name in the token, at the version of the first page.
    pub(super) fn list(&self, target: &Target) -> Result<Value, Refusal> {
        let limit = target.query.get("limit").and_then(|it| it.parse().ok()).unwrap_or(usize::MAX);
        let (mut version, mut skip) = (self.version, 0);
        if let Some(token) = target.query.get("continue") {
            let (at, from) = token.split_once(':').unwrap_or_default();
            version = at.parse().unwrap_or(0);
            skip = from.parse().unwrap_or(0);
            if version < self.compacted {
                return Err(refuse(410, "Expired", "the continue token is too old"));
            }
        }
        let all = self.select(target);
        let items: Vec<_> = all.iter().skip(skip).take(limit).cloned().collect();
        let mut metadata = json!({"resourceVersion": version.to_string()});
        if skip + items.len() < all.len() {
            metadata["continue"] = format!("{version}:{}", skip + items.len()).into();
        }
        Ok(json!({"kind": "List", "apiVersion": "v1", "metadata": metadata, "items": items}))
    }

    pub(super) fn watch(
        &mut self,
        target: &Target,
    ) -> Result<mpsc::UnboundedReceiver<Result<String, BoxError>>, Refusal> {
        let from: u64 = target.query.get("resourceVersion").and_then(|it| it.parse().ok()).unwrap_or(0);
        if from < self.compacted {
            return Err(refuse(410, "Expired", "too old resource version"));
        }
        let (sender, receiver) = mpsc::unbounded_channel();
        for (version, what, collection, object) in &self.log {
            if *version > from && *collection == target.collection && target.selects(object) {
                let _ = sender.send(Ok(frame(what, object)));
            }
        }
        self.watchers.push((target.clone(), sender));
        Ok(receiver)
    }

    pub(super) fn merge(
        &mut self,
        target: &Target,
        patch: &Value,
        everything: bool,
    ) -> Result<Value, Refusal> {
        let before = self.get(target)?;
        let mut patch = patch.clone();
        if let Some(expected) = patch["metadata"]["resourceVersion"].as_str()
            && before["metadata"]["resourceVersion"] != expected
        {
            return Err(refuse(409, "Conflict", "the object has been modified"));
        }
        if let Some(uid) = patch["metadata"]["uid"].as_str()
            && before["metadata"]["uid"] != uid
        {
            return Err(refuse(409, "Conflict", "the uid does not match"));
        }
        if let Some(fields) = patch.as_object_mut()
            && !everything
        {
            if target.subresource == "status" {
                fields.retain(|key, _| key == "status");
            } else {
                fields.remove("status");
            }
        }
        let mut after = before.clone();
        merge(&mut after, &patch);
        if after == before {
            return Ok(after);
        }
        if after["spec"] != before["spec"] {
            after["metadata"]["generation"] =
                (before["metadata"]["generation"].as_i64().unwrap_or(0) + 1).into();
        }
        if leaves(&after) {
            return Ok(self.remove(&id(target)));
        }
        Ok(self.put(id(target), after, "MODIFIED"))
    }

    pub(super) fn replace(&mut self, target: &Target, mut wanted: Value) -> Result<Value, Refusal> {
        let before = self.get(target)?;
        for field in ["resourceVersion", "uid"] {
            if let Some(expected) = wanted["metadata"][field].as_str()
                && before["metadata"][field] != expected
            {
                return Err(refuse(409, "Conflict", "the object has been modified"));
            }
        }
        if target.subresource == "status" {
            let status = wanted["status"].take();
            wanted.clone_from(&before);
            wanted["status"] = status;
        } else {
            wanted["status"] = before["status"].clone();
            for field in ["uid", "creationTimestamp", "generation", "deletionTimestamp", "namespace"] {
                wanted["metadata"][field] = before["metadata"][field].clone();
            }
            if wanted["spec"] != before["spec"] {
                wanted["metadata"]["generation"] =
                    (before["metadata"]["generation"].as_i64().unwrap_or(0) + 1).into();
            }
        }
        wanted["metadata"]["resourceVersion"] = before["metadata"]["resourceVersion"].clone();
        drop_nulls(&mut wanted);
        if wanted == before {
            return Ok(before);
        }
        if leaves(&wanted) {
            return Ok(self.remove(&id(target)));
        }
        Ok(self.put(id(target), wanted, "MODIFIED"))
    }

    pub(super) fn delete(&mut self, target: &Target, options: &Value) -> Result<Value, Refusal> {
        let mut object = self.get(target)?;
        for field in ["uid", "resourceVersion"] {
            if let Some(wanted) = options["preconditions"][field].as_str()
                && object["metadata"][field] != wanted
            {
                return Err(refuse(409, "Conflict", format!("the {field} precondition does not hold")));
            }
        }
        let finalizer = match options["propagationPolicy"].as_str() {
            Some("Foreground") => Some("foregroundDeletion"),
            Some("Orphan") => Some("orphan"),
            _ => None,
        };
        let first = object["metadata"]["deletionTimestamp"].is_null();
        if let (Some(finalizer), true) = (finalizer, first) {
            let mut list = object["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
            list.push(finalizer.into());
            object["metadata"]["finalizers"] = list.into();
        }
        let mut grace = 0;
        if target.plural == "pods" && object["spec"]["nodeName"].is_string() {
            grace = options["gracePeriodSeconds"].as_i64().unwrap_or(30);
        }
        let first_of_namespace = target.plural == "namespaces" && first;
        if first_of_namespace {
            object["status"]["phase"] = "Terminating".into();
        }
        if first {
            object["metadata"]["deletionTimestamp"] = now();
        }
        object["metadata"]["deletionGracePeriodSeconds"] = grace.into();
        if leaves(&object) {
            return Ok(self.remove(&id(target)));
        }
        Ok(self.put(id(target), object, "MODIFIED"))
    }

    pub(super) fn delete_all(&mut self, target: &Target) {
        for object in self.select(target) {
            let mut one = target.clone();
            one.name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            one.namespace = object["metadata"]["namespace"].as_str().unwrap_or_default().to_owned();
            // It exists: it was just selected under the same lock.
            let _ = self.delete(&one, &json!({}));
        }
    }

    pub(super) fn bind(&mut self, target: &Target, binding: &Value) -> Result<(), Refusal> {
        let mut pod = self.get(target)?;
        if pod["spec"]["nodeName"].is_string() {
            return Err(refuse(409, "Conflict", "pod is already assigned to a node"));
        }
        pod["spec"]["nodeName"] = binding["target"]["name"].clone();
        pod["status"]["conditions"] = json!([{"type": "PodScheduled", "status": "True"}]);
        self.put(id(target), pod, "MODIFIED");
        Ok(())
    }

    pub(super) fn finalize(&mut self, target: &Target, wanted: &Value) -> Result<Value, Refusal> {
        let mut object = self.get(target)?;
        object["spec"]["finalizers"] = wanted["spec"]["finalizers"].clone();
        if leaves(&object) {
            return Ok(self.remove(&id(target)));
        }
        Ok(self.put(id(target), object, "MODIFIED"))
    }

    pub(super) fn cut_watches(&mut self) {
        self.muted = false;
        for (_, watcher) in self.watchers.drain(..) {
            let _ = watcher.send(Ok("{\"type\":\"ADD".to_owned()));
            let _ = watcher.send(Err("connection reset".into()));
        }
    }

    pub(super) const fn mute_watches(&mut self) {
        self.muted = true;
    }

    pub(super) fn compact(&mut self) {
        self.compacted = self.version;
        self.log.clear();
    }

    fn put(&mut self, id: Id, mut object: Value, what: &'static str) -> Value {
        self.version += 1;
        drop_nulls(&mut object);
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        self.objects.insert(id.clone(), object.clone());
        self.publish(what, id.0, object.clone());
        object
    }

    fn remove(&mut self, id: &Id) -> Value {
        self.version += 1;
        let mut object = self.objects.remove(id).unwrap_or_default();
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        self.publish("DELETED", id.0.clone(), object.clone());
        object
    }

    fn publish(&mut self, what: &'static str, collection: String, object: Value) {
        if !self.muted {
            self.watchers.retain(|(target, watcher)| {
                if target.collection != collection || !target.selects(&object) {
                    return !watcher.is_closed();
                }
                watcher.send(Ok(frame(what, &object))).is_ok()
            });
        }
        self.log.push((self.version, what, collection, object));
        if let Some(announce) = &self.announce {
            announce.send_replace(self.version);
        }
    }
}

/// Whether a deleted object has nothing left to wait for.
fn leaves(object: &Value) -> bool {
    let empty = |list: &Value| list.as_array().is_none_or(Vec::is_empty);
    let metadata = &object["metadata"];
    metadata["deletionTimestamp"].is_string()
        && empty(&metadata["finalizers"])
        && metadata["deletionGracePeriodSeconds"].as_i64().unwrap_or(0) == 0
        && empty(&object["spec"]["finalizers"])
}

fn id(target: &Target) -> Id {
    (target.collection.clone(), target.namespace.clone(), target.name.clone())
}

fn not_found(target: &Target) -> Refusal {
    refuse(404, "NotFound", format!("{} \"{}\" not found", target.plural, target.name))
}

fn frame(what: &str, object: &Value) -> String {
    format!("{}\n", json!({"type": what, "object": object}))
}

fn now() -> Value {
    let now = jiff::Timestamp::now();
    jiff::Timestamp::from_second(now.as_second()).unwrap_or(now).to_string().into()
}

/// Servers keep no nulls.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, field| !field.is_null());
            fields.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *target = patch.clone();
        // Lists are replaced whole: what a strategic patch says of their merging has been done by that.
        if let Some(items) = target.as_array_mut() {
            items.retain(|it| it.get("$patch").is_none());
        }
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in fields {
        if value.is_null() {
            if let Some(map) = target.as_object_mut() {
                map.remove(key);
            }
        } else {
            merge(&mut target[key], value);
        }
    }
}
