//! Server-side apply, and the bookkeeping of who manages which fields.
//!
//! Who applies owns the fields of what it sent; who updates owns what it changed. Owned fields are sets of paths
//! ([`set`]), kept in `metadata.managedFields`. Sets of other versions of a kind are taken as they are: fields that
//! have one name in both are the same field.

mod conflict; // who else manages a field, in upstream's words
mod managed; // the entries of metadata.managedFields
mod merge; // what is applied laid over what is there, and what is no longer applied taken away
mod path; // one step of a path
mod set; // sets of paths
mod shape; // how a place in an object is owned
mod walk; // the paths of an object, and of a change

use serde_json::{Map, Value};

use crate::json::{self, FieldValidation};
use crate::types::Type;
use managed::{Entry, Managed};
use set::Set;

pub use conflict::{ApplyError, Conflict};

/// The annotation in which client-side apply keeps what it sent.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Who applies, and how.
#[derive(Debug, Clone, Copy)]
pub struct Request<'r> {
    /// The field manager.
    pub manager: &'r str,
    /// Take over what others manage.
    pub force: bool,
    /// The version of the API that is spoken.
    pub api_version: &'r str,
    /// `status`, say; empty for the object itself.
    pub subresource: &'r str,
    /// The time to stamp changes with.
    pub now: &'r str,
}

/// The object after applying `intent` (in the form of [`json::decode_applied`]) to `live`, its managedFields brought
/// up to date. It equals `live` when nothing changes. Defaults are not set.
pub fn server_side_apply(
    ty: &Type,
    live: Option<&Value>,
    intent: &Value,
    request: &Request<'_>,
) -> Result<Value, ApplyError> {
    if intent.pointer("/metadata/managedFields").is_some_and(|it| !it.is_null()) {
        return Err(ApplyError::Invalid("metadata.managedFields must be nil".into()));
    }
    let mut live_object = live.cloned().unwrap_or_else(|| Value::Object(Map::new()));
    let entries = managed::take(&mut live_object);
    let mut managed = Managed::read(&entries).unwrap_or_default();
    if live.is_some() && managed.is_empty() {
        own_before_first_apply(ty, &live_object, request, &mut managed);
    }

    let mut intent = intent.clone();
    reset(&mut intent, request.subresource);
    let set = stripped(walk::paths(ty, &intent)?, request.subresource);
    let applier = Entry::new(request.manager, "Apply", request.api_version, request.subresource, request.now);
    let last = managed.set(&applier).cloned();
    let mut merged = merge::merge(ty, &live_object, &intent)?;
    managed.replace(applier.clone(), set);
    if let Some(last) = &last {
        merge::prune(ty, &mut merged, last, &managed.union());
    }
    let said = walk::compare(ty, &live_object, &merged).set_or_added();
    let mut merged = json::conform(ty, merged, FieldValidation::Ignore)
        .map_err(|err| ApplyError::Invalid(err.to_string()))?
        .value;
    // an empty value where there is none says something, but changes nothing
    let change = walk::compare(ty, &live_object, &merged);
    let changed = said.intersection(&change.set_or_added().union(&change.removed));
    let conflicts = managed.others(&applier, &changed);
    if !request.force && !conflicts.is_empty() {
        return Err(ApplyError::Conflicts(conflict::list(conflicts)));
    }
    managed.give_up(&applier, &changed);
    managed.forget(&applier, &change.removed.difference(&said));
    refresh_last_applied(request.manager, &mut merged, &intent);
    if let (Some(live), true) = (live, merged == live_object && last.as_ref() == managed.set(&applier)) {
        return Ok(live.clone());
    }
    managed.stamp(&applier, request.now);
    managed::put(&mut merged, managed.write());
    Ok(merged)
}

/// Brings the managedFields of `new` up to date with what an update by `manager` changed since `old` (`None`: it was
/// created). When nothing changed they are those of `old`, so that equal objects stay equal.
#[expect(clippy::too_many_arguments, reason = "who did what to which object, and when: none of it groups")]
pub fn track_update(
    ty: &Type,
    old: Option<&Value>,
    new: &mut Value,
    manager: &str,
    operation: &str,
    subresource: &str,
    now: &str,
) {
    let empty = if old.is_none() { nothing(ty) } else { Value::Null };
    let old = old.unwrap_or(&empty);
    let given = managed::take(new);
    let kept = managed::get(old);
    let mut managed = chosen(&given, kept, subresource);
    let api_version = new.get("apiVersion").and_then(Value::as_str);
    let api_version = api_version.map_or_else(|| ty.api_version(), str::to_owned);
    let writer = Entry::new(manager, operation, &api_version, subresource, now);
    let change = walk::compare(ty, old, new);
    let changed = change.set_or_added();
    managed.give_up(&writer, &changed);
    managed.forget(&writer, &change.removed);

    let before = managed.set(&writer).cloned().unwrap_or_default();
    let after = before.difference(&change.removed).union(&stripped(changed, subresource));
    if after != before {
        managed.replace(writer.clone(), after);
        managed.stamp(&writer, now);
    }
    managed.cap_updates();
    managed::put(new, managed.write());
}

/// The entries to start from. A request may set them itself, but not through a subresource; leaving them out is no
/// wish to lose them; one empty entry is the wish to start afresh.
fn chosen(given: &[Value], kept: &[Value], subresource: &str) -> Managed {
    let kept = || Managed::read(kept).unwrap_or_default();
    if !subresource.is_empty() {
        return kept();
    }
    if let [Value::Object(only)] = given
        && only.is_empty()
    {
        return Managed::default();
    }
    match Managed::read(given) {
        Some(managed) if !managed.is_empty() => managed,
        _ => kept(),
    }
}

/// The object of which nothing was ever said: what Go shows of an empty one.
fn nothing(ty: &Type) -> Value {
    let mut map = Map::new();
    json::fill(ty, &mut map);
    Value::Object(map)
}

/// Before anything was applied, everything was somebody's.
fn own_before_first_apply(ty: &Type, live: &Value, request: &Request<'_>, managed: &mut Managed) {
    let everything = walk::compare(ty, &nothing(ty), live).set_or_added();
    let entry = Entry::new("before-first-apply", "Update", request.api_version, "", request.now);
    managed.replace(entry, stripped(everything, ""));
}

/// Fields that nobody owns: names and what the server itself writes.
fn stripped(mut set: Set, subresource: &str) -> Set {
    for name in ["apiVersion", "kind", "metadata"] {
        set.remove_member(&[name]);
    }
    for name in [
        "name",
        "namespace",
        "creationTimestamp",
        "selfLink",
        "uid",
        "clusterName",
        "generation",
        "managedFields",
        "resourceVersion",
    ] {
        set.remove(&["metadata", name]);
    }
    if let Some(name) = out_of_reach(subresource) {
        set.remove(&[name]);
    }
    set
}

/// What a write through this door can not change: the status of an object, or the spec by its status.
fn out_of_reach(subresource: &str) -> Option<&'static str> {
    match subresource {
        "" => Some("status"),
        "status" => Some("spec"),
        _ => None,
    }
}

fn reset(intent: &mut Value, subresource: &str) {
    if let (Value::Object(map), Some(name)) = (intent, out_of_reach(subresource)) {
        map.remove(name);
    }
}

/// Keeps client-side apply's annotation in step while kubectl applies on the server, so that one can go back.
fn refresh_last_applied(manager: &str, merged: &mut Value, intent: &Value) {
    if manager != "kubectl" {
        return;
    }
    let Some(Value::Object(annotations)) = merged.pointer_mut("/metadata/annotations") else { return };
    let mut sent = intent.clone();
    if let Some(Value::Object(given)) = sent.pointer_mut("/metadata/annotations") {
        given.remove(LAST_APPLIED);
    }
    if let Some(annotation) = annotations.get_mut(LAST_APPLIED) {
        *annotation = Value::String(format!("{sent}\n"));
    }
}

#[cfg(test)]
mod tests;
