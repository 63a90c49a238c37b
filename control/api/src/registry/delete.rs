//! Deletion: at once, gracefully, or when the last finalizer is gone.

use std::sync::Arc;

use coracle_apimachinery::{Status, time};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use serde_json::{Value, json};

use super::Resource;
use super::decode::Expected;
use super::options::{DeleteOptions, Propagation};
use super::resource::Written;
use super::select::Selection;
use crate::admission::{Attributes, Operation};
use crate::api::Api;
use crate::cache::Object;
use crate::call::Call;
use crate::error::Outcome;
use crate::value;
use coracle_schema::json::FieldValidation;

const ATTEMPTS: usize = 10;
/// Deletions of one deletecollection under way at once.
const PARALLEL: usize = 16;
const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";
/// Kinds whose DELETE answers with the object even when it is gone.
const SHOWN_WHEN_GONE: &[&str] = &[
    "pods",
    "podtemplates",
    "serviceaccounts",
    "services",
    "persistentvolumes",
    "persistentvolumeclaims",
    "resourcequotas",
];

/// How a deletion ended.
pub enum Deleted {
    /// The object is gone.
    Gone(Arc<Object>),
    /// It will go; as it stands now.
    Pending(Arc<Object>),
}

impl Deleted {
    /// The object.
    pub fn object(&self) -> &Arc<Object> {
        match self {
            Self::Gone(object) | Self::Pending(object) => object,
        }
    }

    /// Whether the client is shown the object rather than a Status.
    pub fn is_shown(&self, resource: &Resource) -> bool {
        matches!(self, Self::Pending(_)) || SHOWN_WHEN_GONE.contains(&resource.info.resource)
    }
}

/// What is to be done to the object.
#[derive(Debug, PartialEq)]
enum Plan {
    /// Remove it.
    Remove,
    /// Write this.
    Mark(Box<Value>),
    /// Nothing: it is on its way.
    Wait,
}

impl Api {
    /// DELETE's options: from the query and from a body of DeleteOptions.
    pub fn delete_options(call: &Call) -> Outcome<DeleteOptions> {
        let body = if call.body.is_empty() {
            None
        } else {
            let mut expected = Expected::kind("", "v1", "DeleteOptions")?;
            // Any group's version will do, as upstream registers the kind in all of them.
            if let Some(given) = api_version_of(call) {
                expected.api_version = given;
            }
            Some(expected.body(call, FieldValidation::Ignore)?)
        };
        DeleteOptions::parse(&call.query, body.as_ref())
    }

    /// Deletes one object.
    pub async fn delete(
        &self,
        call: &Call,
        resource: &Arc<Resource>,
        namespace: &str,
        name: &str,
        options: &DeleteOptions,
    ) -> Outcome<Deleted> {
        let key = resource.key(namespace, name);
        let mut object = self.registry.read(resource, &key).await?.ok_or_else(|| resource.not_found(name))?;
        for _ in 0..ATTEMPTS {
            let tree = resource.view(&object)?;
            check_preconditions(resource, name, &object, &tree, options)?;
            let at = Attributes {
                operation: Operation::Delete,
                resource,
                subresource: "",
                namespace,
                name,
                call,
                old: Some(&tree),
                dry_run: options.dry_run,
            };
            self.admission.check(self, &at, None).await?;
            let plan = plan(resource, &tree, options);
            match self.carry_out_delete(resource, &object, plan, options.dry_run).await? {
                Ok(deleted) => return Ok(deleted),
                Err(None) => return Err(resource.not_found(name)),
                Err(Some(newer)) => object = newer,
            }
        }
        Err(Status::modified(resource.info.group, resource.info.resource, name).into())
    }

    async fn carry_out_delete(
        &self,
        resource: &Arc<Resource>,
        object: &Arc<Object>,
        plan: Plan,
        dry_run: bool,
    ) -> Outcome<Result<Deleted, Option<Arc<Object>>>> {
        let bytes = match plan {
            Plan::Wait => return Ok(Ok(Deleted::Pending(object.clone()))),
            Plan::Remove if dry_run => return Ok(Ok(Deleted::Gone(object.clone()))),
            Plan::Remove => None,
            Plan::Mark(mut tree) => {
                value::metadata(&mut tree).remove("resourceVersion");
                Some(resource.rest(&tree))
            }
        };
        let marked = bytes.clone();
        let after = |revision| {
            Arc::new(Object {
                key: object.key.clone(),
                revision,
                bytes: marked.clone().unwrap_or_else(|| object.bytes.clone()),
            })
        };
        if dry_run {
            return Ok(Ok(Deleted::Pending(after(object.revision))));
        }
        match self.registry.write(resource, &object.key, object.revision, bytes, 0).await? {
            Written::At(revision) if marked.is_some() => Ok(Ok(Deleted::Pending(after(revision)))),
            Written::At(revision) => Ok(Ok(Deleted::Gone(after(revision)))),
            Written::Lost(newer) => Ok(Err(newer)),
        }
    }

    /// Deletes everything that is selected; gives what was deleted.
    pub async fn delete_collection(
        &self,
        call: &Call,
        resource: &Arc<Resource>,
    ) -> Outcome<Vec<Arc<Object>>> {
        let options = Self::delete_options(call)?;
        let selection = Selection::parse(resource, &call.query)?;
        let cache = resource.cache()?;
        self.feed().ensure(cache).await?;
        let revision = self.feed().caught_up().await?;
        let snapshot = cache.snapshot(&resource.scope(&call.info.namespace), "", revision);
        let mut wanted = snapshot.objects;
        wanted.retain(|object| selection.matches(resource, object));
        let mut wanted = wanted.into_iter();
        let mut running = FuturesUnordered::new();
        let mut gone = Vec::new();
        loop {
            while running.len() < PARALLEL
                && let Some(object) = wanted.next()
            {
                running.push(self.delete_listed(call, resource, object, &options));
            }
            match running.next().await {
                Some(done) => gone.extend(done?),
                None => return Ok(gone),
            }
        }
    }

    async fn delete_listed(
        &self,
        call: &Call,
        resource: &Arc<Resource>,
        object: Arc<Object>,
        options: &DeleteOptions,
    ) -> Outcome<Option<Arc<Object>>> {
        match self.delete(call, resource, object.namespace(), object.name(), options).await {
            Err(err) if err.is_not_found() => Ok(None),
            Ok(deleted) => Ok(Some(deleted.object().clone())),
            Err(err) => Err(err),
        }
    }
}

fn api_version_of(call: &Call) -> Option<String> {
    if call.content_type.contains("protobuf") {
        let envelope = coracle_schema::proto::split_envelope(&call.body).ok()?;
        return Some(envelope.api_version.to_string()).filter(|text| !text.is_empty());
    }
    let peek: Value = serde_json::from_slice(&call.body).ok()?;
    peek.get("apiVersion").and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
}

fn check_preconditions(
    resource: &Resource,
    name: &str,
    object: &Object,
    tree: &Value,
    options: &DeleteOptions,
) -> Outcome<()> {
    let conflict =
        |why: String| Err(Status::conflict(resource.info.group, resource.info.resource, name, &why).into());
    let uid = value::text(tree, "/metadata/uid");
    if let Some(want) = options.uid.as_deref().filter(|want| *want != uid) {
        return conflict(format!(
            "Precondition failed: UID in precondition: {want}, UID in object meta: {uid}"
        ));
    }
    let revision = object.revision.to_string();
    if let Some(want) = options.resource_version.as_deref().filter(|want| *want != revision) {
        return conflict(format!(
            "Precondition failed: ResourceVersion in precondition: {want}, ResourceVersion in object meta: {revision}"
        ));
    }
    Ok(())
}

/// Decides what a DELETE does to an object.
fn plan(resource: &Resource, tree: &Value, options: &DeleteOptions) -> Plan {
    let now = jiff::Timestamp::now();
    let mut new = tree.clone();
    let finalizers = finalizers_after(resource, tree, options);
    let changed = finalizers != value::finalizers(tree);
    value::put(value::metadata(&mut new), "finalizers", (!finalizers.is_empty()).then(|| json!(finalizers)));
    let deleting = value::is_deleting(tree);
    if resource.info.folder == "namespaces" {
        let emptied =
            tree.pointer("/spec/finalizers").and_then(Value::as_array).is_none_or(|list| list.is_empty());
        return match (deleting, emptied && finalizers.is_empty()) {
            (_, true) => Plan::Remove,
            (true, false) => Plan::Wait,
            (false, false) => {
                mark(&mut new, now, 0);
                value::child(&mut new, "status").insert("phase".to_owned(), "Terminating".into());
                Plan::Mark(Box::new(new))
            }
        };
    }
    let grace = if resource.info.folder == "pods" { pod_grace(tree, options.grace) } else { 0 };
    if grace == 0 && finalizers.is_empty() {
        return Plan::Remove;
    }
    let running = tree.pointer("/metadata/deletionGracePeriodSeconds").and_then(Value::as_i64).unwrap_or(0);
    if !deleting {
        mark(&mut new, now, grace);
    } else if grace < running && (options.grace.is_some() || grace == 0) {
        // A shorter grace moves the end nearer, counted from when deletion began.
        let end = time::parse(value::text(tree, "/metadata/deletionTimestamp")).unwrap_or(now);
        let began = end - jiff::SignedDuration::from_secs(running);
        let meta = value::metadata(&mut new);
        let end = began + jiff::SignedDuration::from_secs(grace);
        meta.insert("deletionTimestamp".to_owned(), time::rfc3339(end).into());
        meta.insert("deletionGracePeriodSeconds".to_owned(), grace.into());
    } else if !changed {
        return Plan::Wait;
    }
    Plan::Mark(Box::new(new))
}

fn mark(new: &mut Value, now: jiff::Timestamp, grace: i64) {
    let meta = value::metadata(new);
    let end = now + jiff::SignedDuration::from_secs(grace);
    meta.insert("deletionTimestamp".to_owned(), time::rfc3339(end).into());
    meta.insert("deletionGracePeriodSeconds".to_owned(), grace.into());
    if let Some(generation) = meta.get("generation").and_then(Value::as_i64).filter(|n| *n > 0) {
        meta.insert("generation".to_owned(), (generation + 1).into());
    }
}

/// Seconds a pod is given: none when nothing of it can run.
fn pod_grace(pod: &Value, asked: Option<i64>) -> i64 {
    let own = pod.pointer("/spec/terminationGracePeriodSeconds").and_then(Value::as_i64).unwrap_or(30);
    let grace = asked.unwrap_or(own);
    let grace = if grace < 0 { 1 } else { grace };
    let unscheduled = value::text(pod, "/spec/nodeName").is_empty();
    let finished = matches!(value::text(pod, "/status/phase"), "Failed" | "Succeeded");
    if unscheduled || finished { 0 } else { grace }
}

fn finalizers_after(resource: &Resource, tree: &Value, options: &DeleteOptions) -> Vec<String> {
    let is = value::finalizers(tree);
    let has = |name: &str| is.contains(&name);
    let (orphan, foreground) = match options.propagation {
        Some(Propagation::Orphan) => (true, false),
        Some(Propagation::Background) => (false, false),
        Some(Propagation::Foreground) => (false, true),
        None if has(ORPHAN) => (true, false),
        None if has(FOREGROUND) => (false, true),
        None => (resource.ops.orphan_by_default, false),
    };
    let mut list: Vec<String> =
        is.into_iter().filter(|f| *f != ORPHAN && *f != FOREGROUND).map(str::to_owned).collect();
    if orphan {
        list.push(ORPHAN.to_owned());
    }
    if foreground {
        list.push(FOREGROUND.to_owned());
    }
    list
}

/// The answer to a deletion that left nothing to show.
pub fn gone_status(resource: &Resource, tree: &Value) -> Status {
    let uid = value::text(tree, "/metadata/uid");
    Status::deleted(resource.info.group, resource.info.resource, value::name(tree), uid)
}
