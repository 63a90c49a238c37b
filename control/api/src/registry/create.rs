//! Creation.

use std::sync::Arc;

use coracle_apimachinery::Status;
use serde_json::Value;

use super::decode::{Expected, defaults};
use super::resource::Written;
use super::{Resource, fields, meta};
use crate::admission::{Attributes, Operation};
use crate::api::Api;
use crate::cache::Object;
use crate::call::{Call, Writer};
use crate::error::Outcome;
use crate::value;

/// Names tried for one generateName.
const ATTEMPTS: usize = 8;

impl Api {
    /// POST to a collection.
    pub async fn create(&self, call: &Call, resource: &Arc<Resource>) -> Outcome<Arc<Object>> {
        let options = call.write_options("CreateOptions")?;
        let mut object = Expected::of(resource).body(call, options.validation)?;
        meta::place(resource, &call.info.namespace, "", &mut object)?;
        if !value::text(&object, "/metadata/resourceVersion").is_empty() {
            return Err(crate::error::ApiError::internal(
                "resourceVersion should not be set on objects to be created",
            ));
        }
        self.create_object(Writer { call, options: &options }, resource, object).await
    }

    /// Creates an object that has been decoded and placed.
    pub async fn create_object(
        &self,
        writer: Writer<'_>,
        resource: &Arc<Resource>,
        mut object: Value,
    ) -> Outcome<Arc<Object>> {
        let namespace =
            if resource.info.namespaced { value::namespace(&object).to_owned() } else { String::new() };
        defaults(resource, &mut object);
        meta::begin(&mut object);
        let generate = value::text(&object, "/metadata/generateName").to_owned();
        let generated = value::name(&object).is_empty() && !generate.is_empty();
        if generated {
            value::metadata(&mut object).insert("name".to_owned(), meta::generate(&generate).into());
        }
        let name = value::name(&object).to_owned();
        let at = Attributes {
            operation: Operation::Create,
            resource,
            subresource: "",
            namespace: &namespace,
            name: &name,
            call: writer.call,
            old: None,
            dry_run: writer.options.dry_run,
        };
        // Before admission: what rules add belongs to nobody.
        fields::track(resource, None, &mut object, writer.options, "");
        self.admission.admit(self, &at, &mut object).await?;
        prepare(resource, &mut object);
        let claim = self.services.claim(self, resource, &mut object).await?;
        let mut errors = meta::check_new(resource, &object);
        errors.extend((resource.ops.validate_create)(&object));
        meta::refuse(resource, value::name(&object), &errors)?;
        for warning in (resource.ops.warnings)(&object) {
            writer.call.warn(warning);
        }
        self.admission.check(self, &at, Some(&object)).await?;
        let stored = self.insert(writer, resource, &mut object, generated.then_some(&*generate)).await?;
        if !writer.options.dry_run {
            claim.keep();
        }
        Ok(stored)
    }

    async fn insert(
        &self,
        writer: Writer<'_>,
        resource: &Arc<Resource>,
        object: &mut Value,
        generate: Option<&str>,
    ) -> Outcome<Arc<Object>> {
        let (group, plural) = (resource.info.group, resource.info.resource);
        let namespace = value::namespace(object).to_owned();
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                let Some(base) = generate else { break };
                value::metadata(object).insert("name".to_owned(), meta::generate(base).into());
            }
            let key = resource.key(&namespace, value::name(object));
            let bytes = resource.rest(object);
            if writer.options.dry_run {
                if self.registry.read(resource, &key).await?.is_some() {
                    continue;
                }
                return Ok(Arc::new(Object { key: key.into(), revision: 0, bytes }));
            }
            let lease = self.event_lease.of(resource, &**self.feed().store()).await?;
            match self.registry.write(resource, &key, 0, Some(bytes.clone()), lease).await? {
                Written::At(revision) => return Ok(Arc::new(Object { key: key.into(), revision, bytes })),
                Written::Lost(_) => {}
            }
        }
        let name = value::name(object);
        Err(if generate.is_some() {
            Status::generate_name_conflict(group, plural, name).into()
        } else {
            Status::already_exists(group, plural, name).into()
        })
    }
}

/// Clears what a client may not set and begins the count of generations.
fn prepare(resource: &Resource, object: &mut Value) {
    if resource.info.sub("status").is_some()
        && resource.info.resource != "nodes"
        && let Some(map) = object.as_object_mut()
    {
        map.remove("status");
    }
    if resource.ops.generation {
        value::metadata(object).insert("generation".to_owned(), 1.into());
    }
    (resource.ops.prepare_create)(object);
}
