//! Updates: of whole objects and of their subresources, from a body or from a patch.

use std::sync::Arc;

use coracle_apimachinery::{FieldError, Path, Status};
use serde_json::Value;

use super::decode::{Expected, defaults};
use super::resource::Written;
use super::{Resource, fields, meta};
use crate::admission::{Attributes, Operation};
use crate::api::Api;
use crate::cache::Object;
use crate::call::{Call, Make, Writer};
use crate::error::{ApiError, Outcome};
use crate::value;

/// How often a patch is tried again when somebody else was faster.
const ATTEMPTS: usize = 10;

/// Which part of an object an update may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The object itself.
    Main,
    /// `/status`.
    Status,
    /// `/finalize` of namespaces.
    Finalize,
    /// `/approval` of certificate signing requests.
    Approval,
    /// `/ephemeralcontainers` of pods.
    Ephemeral,
    /// `/resize` of pods.
    Resize,
}

impl Part {
    /// Of a URL's subresource; `None`: not one that is updated this way.
    pub fn of(subresource: &str) -> Option<Self> {
        Some(match subresource {
            "" => Self::Main,
            "status" => Self::Status,
            "finalize" => Self::Finalize,
            "approval" => Self::Approval,
            "ephemeralcontainers" => Self::Ephemeral,
            "resize" => Self::Resize,
            _ => return None,
        })
    }

    /// Whether an update of it can change the spec, which is then counted by the generation.
    fn may_change_spec(self) -> bool {
        matches!(self, Self::Main | Self::Ephemeral | Self::Resize)
    }

    /// The subresource's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Main => "",
            Self::Status => "status",
            Self::Finalize => "finalize",
            Self::Approval => "approval",
            Self::Ephemeral => "ephemeralcontainers",
            Self::Resize => "resize",
        }
    }
}

/// Which object, and which part of it.
#[derive(Clone, Copy)]
pub struct Target<'a> {
    /// The resource.
    pub resource: &'a Arc<Resource>,
    /// Where.
    pub namespace: &'a str,
    /// Name.
    pub name: &'a str,
    /// Which part.
    pub part: Part,
}

impl Target<'_> {
    /// The key below the folder.
    pub fn key(&self) -> String {
        self.resource.key(self.namespace, self.name)
    }

    fn modified(&self) -> ApiError {
        Status::modified(self.resource.info.group, self.resource.info.resource, self.name).into()
    }
}

/// Where an update starts.
pub struct Current {
    /// As it rests.
    pub object: Arc<Object>,
    /// As a tree.
    pub tree: Value,
}

/// How an update ends.
enum Fate {
    /// It is written.
    Put(bytes::Bytes),
    /// It has lost its last finalizer and goes.
    Remove(bytes::Bytes),
    /// Nothing changed.
    Same,
}

impl Api {
    /// PUT.
    pub async fn update(&self, call: &Call, target: Target<'_>) -> Outcome<(Arc<Object>, bool)> {
        let options = call.write_options("UpdateOptions")?;
        let resource = target.resource;
        let mut object = Expected::of(resource).body(call, options.validation)?;
        meta::place(resource, target.namespace, target.name, &mut object)?;
        defaults(resource, &mut object);
        let writer = Writer { call, options: &options };
        let key = target.key();
        if target.part == Part::Main
            && resource.ops.create_on_update
            && self.registry.read(resource, &key).await?.is_none()
        {
            self.authorize_verb(call, "create")?;
            value::metadata(&mut object).remove("resourceVersion");
            return Ok((self.create_object(writer, resource, object).await?, true));
        }
        let unconditional = value::text(&object, "/metadata/resourceVersion").is_empty();
        if unconditional && !resource.ops.unconditional_update {
            let path = Path::new("metadata").child("resourceVersion");
            let error = FieldError::invalid(&path, 0, "must be specified for an update");
            meta::refuse(resource, target.name, &[error])?;
        }
        let stored = self.update_with(writer, target, &|_: &Value| Ok(object.clone())).await?;
        Ok((stored, false))
    }

    /// Changes an object by what `make` makes of it. When `make` leaves the revision as it was (or out), it is tried
    /// again on what somebody else has written meanwhile.
    pub async fn update_with(
        &self,
        writer: Writer<'_>,
        target: Target<'_>,
        make: &Make<'_>,
    ) -> Outcome<Arc<Object>> {
        let resource = target.resource;
        let key = target.key();
        let mut object =
            self.registry.read(resource, &key).await?.ok_or_else(|| resource.not_found(target.name))?;
        for _ in 0..ATTEMPTS {
            let current = Current { tree: resource.view(&object)?, object: object.clone() };
            let new = make(&current.tree)?;
            match self.attempt(writer, target, &current, new).await? {
                Ok(stored) => return Ok(stored),
                Err(None) => return Err(resource.not_found(target.name)),
                Err(Some(newer)) => object = newer,
            }
        }
        Err(target.modified())
    }

    async fn attempt(
        &self,
        writer: Writer<'_>,
        target: Target<'_>,
        current: &Current,
        mut new: Value,
    ) -> Outcome<Result<Arc<Object>, Option<Arc<Object>>>> {
        let resource = target.resource;
        check_identity(&target, current, &new)?;
        value::metadata(&mut new).remove("resourceVersion");
        let mut old = current.tree.clone();
        value::metadata(&mut old).remove("resourceVersion");
        meta::carry(&mut new, &old);
        confine(target, &mut new, &old);
        let at = Attributes {
            operation: Operation::Update,
            resource,
            subresource: target.part.name(),
            namespace: target.namespace,
            name: target.name,
            call: writer.call,
            old: Some(&old),
            dry_run: writer.options.dry_run,
        };
        // Before admission: what rules add belongs to nobody.
        fields::track(resource, Some(&old), &mut new, writer.options, target.part.name());
        self.admission.admit(self, &at, &mut new).await?;
        let claim = match target.part {
            Part::Main => Some(self.services.claim(self, resource, &mut new).await?),
            _ => None,
        };
        if target.part.may_change_spec() && resource.ops.generation {
            meta::count_generation(&mut new, &old);
        }
        check_change(target, &new, &old)?;
        for warning in (resource.ops.warnings)(&new) {
            writer.call.warn(warning);
        }
        self.admission.check(self, &at, Some(&new)).await?;
        let fate = fate(resource, current, &new, &old);
        let done = self.carry_out(writer, target, current, fate).await?;
        if let (Ok(_), Some(claim), false) = (&done, claim, writer.options.dry_run) {
            claim.keep();
        }
        Ok(done)
    }

    async fn carry_out(
        &self,
        writer: Writer<'_>,
        target: Target<'_>,
        current: &Current,
        fate: Fate,
    ) -> Outcome<Result<Arc<Object>, Option<Arc<Object>>>> {
        let (bytes, put) = match fate {
            Fate::Same => return Ok(Ok(current.object.clone())),
            Fate::Put(bytes) => (bytes.clone(), Some(bytes)),
            Fate::Remove(bytes) => (bytes, None),
        };
        let was = current.object.revision;
        let key = &current.object.key;
        if writer.options.dry_run {
            return Ok(Ok(Arc::new(Object { key: key.clone(), revision: was, bytes })));
        }
        let lease = self.event_lease.of(target.resource, &**self.feed().store()).await?;
        match self.registry.write(target.resource, key, was, put, lease).await? {
            Written::At(revision) => Ok(Ok(Arc::new(Object { key: key.clone(), revision, bytes }))),
            Written::Lost(newer) => Ok(Err(newer)),
        }
    }
}

fn fate(resource: &Resource, current: &Current, new: &Value, old: &Value) -> Fate {
    let bytes = resource.rest(new);
    let grace = old.pointer("/metadata/deletionGracePeriodSeconds").and_then(Value::as_i64);
    let spec_finalizers = resource.info.resource == "namespaces"
        && new.pointer("/spec/finalizers").and_then(Value::as_array).is_some_and(|list| !list.is_empty());
    if value::is_deleting(old)
        && (grace == Some(0) || resource.info.resource == "namespaces")
        && value::finalizers(new).is_empty()
        && !spec_finalizers
    {
        Fate::Remove(bytes)
    } else if bytes == current.object.bytes {
        Fate::Same
    } else {
        Fate::Put(bytes)
    }
}

fn check_identity(target: &Target<'_>, current: &Current, new: &Value) -> Outcome<()> {
    let (group, plural) = (target.resource.info.group, target.resource.info.resource);
    let uid = value::text(new, "/metadata/uid");
    let was = value::text(&current.tree, "/metadata/uid");
    if !uid.is_empty() && uid != was {
        let why = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {was}");
        return Err(Status::conflict(group, plural, target.name, &why).into());
    }
    let version = value::text(new, "/metadata/resourceVersion");
    if !version.is_empty() && version != current.object.revision.to_string() {
        return Err(target.modified());
    }
    Ok(())
}

fn check_change(target: Target<'_>, new: &Value, old: &Value) -> Outcome<()> {
    let ops = target.resource.ops;
    let mut errors = meta::check_update(new, old);
    errors.extend(match target.part {
        Part::Main => (ops.validate_update)(new, old),
        Part::Resize => (ops.validate_resize)(new, old),
        Part::Ephemeral | Part::Finalize => Vec::new(),
        Part::Status | Part::Approval => (ops.validate_status)(new, old),
    });
    meta::refuse(target.resource, target.name, &errors)
}

/// Puts back everything that this part may not change.
fn confine(target: Target<'_>, new: &mut Value, old: &Value) {
    let ops = target.resource.ops;
    let take = |new: &Value, pointer: &str| new.pointer(pointer).cloned();
    match target.part {
        Part::Main => {
            if target.resource.info.sub("status").is_some() {
                restore(new, old, "status");
            }
            (ops.prepare_update)(new, old);
        }
        Part::Status => {
            let keep: Vec<String> = [new, old]
                .iter()
                .filter_map(|value| value.as_object())
                .flat_map(|map| map.keys().cloned())
                .filter(|key| key != "metadata" && key != "status")
                .collect();
            for field in keep {
                restore(new, old, &field);
            }
            (ops.prepare_status)(new, old);
        }
        Part::Finalize => {
            let spec = take(new, "/spec");
            *new = old.clone();
            if let Some(map) = new.as_object_mut() {
                value::put(map, "spec", spec);
            }
        }
        Part::Approval => {
            let conditions = take(new, "/status/conditions");
            *new = old.clone();
            value::put(value::child(new, "status"), "conditions", conditions);
        }
        Part::Ephemeral => {
            let containers = take(new, "/spec/ephemeralContainers");
            *new = old.clone();
            value::put(value::child(new, "spec"), "ephemeralContainers", containers);
        }
        Part::Resize => {
            let wanted = take(new, "/spec").unwrap_or_default();
            *new = old.clone();
            for field in ["containers", "initContainers"] {
                resize(new, field, wanted.get(field));
            }
            if let Some(spec) = new.get_mut("spec").and_then(Value::as_object_mut) {
                value::put(spec, "resources", wanted.get("resources").cloned());
            }
        }
    }
}

fn resize(pod: &mut Value, field: &str, wanted: Option<&Value>) {
    let wanted = wanted.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let containers = pod.pointer_mut(&format!("/spec/{field}")).and_then(Value::as_array_mut);
    for container in containers.into_iter().flatten() {
        let name = container.get("name").cloned();
        let Some(new) = wanted.iter().find(|c| c.get("name") == name.as_ref()) else { continue };
        if let Some(map) = container.as_object_mut() {
            value::put(map, "resources", new.get("resources").cloned());
            value::put(map, "resizePolicy", new.get("resizePolicy").cloned());
        }
    }
}

fn restore(new: &mut Value, old: &Value, field: &str) {
    if let Some(map) = new.as_object_mut() {
        value::put(map, field, old.get(field).cloned());
    }
}
