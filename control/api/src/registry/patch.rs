//! Patches: JSON patch, merge patch, strategic merge patch, server-side apply.

use std::sync::Arc;

use coracle_apimachinery::status::Cause;
use coracle_apimachinery::{Status, time};
use coracle_schema::{apply, json, patch, yaml};
use serde_json::Value;

use super::Resource;
use super::decode::{Expected, defaults};
use super::options::WriteOptions;
use super::update::{Part, Target};
use crate::api::Api;
use crate::cache::Object;
use crate::call::{Call, Writer};
use crate::error::{ApiError, Outcome};
use crate::value;

/// Media types of patches.
const MEDIA: [&str; 4] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];
/// Operations that one JSON patch may have.
const MAX_OPERATIONS: usize = 10_000;

/// A patch that has been read.
pub enum Patch {
    /// RFC 6902.
    Json(Value),
    /// RFC 7396.
    Merge(Value),
    /// Kubernetes's own.
    Strategic(Value),
}

impl Patch {
    /// Reads the body of a PATCH that is not an apply.
    pub fn parse(call: &Call) -> Outcome<Self> {
        let parsed = || {
            serde_json::from_slice::<Value>(&call.body)
                .map_err(|err| ApiError::bad_request(format!("error decoding patch: {err}")))
        };
        match call.content_type.as_str() {
            "application/json-patch+json" => {
                let operations = parsed()?;
                let count = operations.as_array().map(Vec::len).ok_or_else(|| {
                    ApiError::bad_request(
                        "error decoding patch: json: cannot unmarshal object into a list of operations",
                    )
                })?;
                if count > MAX_OPERATIONS {
                    return Err(Status::request_entity_too_large(&format!(
                        "The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {count}"
                    ))
                    .into());
                }
                Ok(Self::Json(operations))
            }
            "application/merge-patch+json" => Ok(Self::Merge(parsed()?)),
            "application/strategic-merge-patch+json" => Ok(Self::Strategic(parsed()?)),
            _ => Err(Status::unsupported_media_type(&MEDIA).into()),
        }
    }

    /// The patched tree, not yet checked.
    pub fn apply(&self, ty: &coracle_schema::TypeRef, current: &Value) -> Outcome<Value> {
        let mut tree = current.clone();
        let patched = match self {
            Self::Json(operations) => patch::json_patch(&mut tree, operations),
            Self::Merge(merge) => patch::merge_patch(&mut tree, merge),
            Self::Strategic(merge) => patch::strategic_merge(ty, &mut tree, merge),
        };
        patched.map_err(|err| match self {
            Self::Json(_) => Status::failure(
                422,
                "Invalid",
                format!("the server rejected our request due to an error in our request: {err}"),
            )
            .into(),
            Self::Merge(_) | Self::Strategic(_) => ApiError::bad_request(err.to_string()),
        })?;
        Ok(tree)
    }
}

/// Brings a patched tree into canonical form: types checked, unknown fields dropped or refused, defaults set.
pub fn conform(call: &Call, expected: &Expected, tree: Value, options: &WriteOptions) -> Outcome<Value> {
    let decoded = json::conform(&expected.ty, tree, options.validation)
        .map_err(|err| ApiError::from(Status::failure(422, "Invalid", err.to_string())))?;
    for warning in decoded.warnings {
        call.warn(warning);
    }
    let mut value = decoded.value;
    expected.check_kind(&mut value)?;
    Ok(value)
}

impl Api {
    /// PATCH. Tells whether the object was created.
    pub async fn patch(&self, call: &Call, target: Target<'_>) -> Outcome<(Arc<Object>, bool)> {
        let mut options = call.write_options("PatchOptions")?;
        if call.content_type == "application/apply-patch+yaml" {
            return self.apply(call, target, options).await;
        }
        if options.force {
            let path = coracle_apimachinery::Path::new("force");
            let error = coracle_apimachinery::FieldError::forbidden(
                &path,
                "may not be specified for non-apply patch",
            );
            return Err(Status::invalid("meta.k8s.io", "PatchOptions", "", &[error]).into());
        }
        options.applied = false;
        let resource = target.resource;
        let patch = Patch::parse(call)?;
        let expected = Expected::of(resource);
        let writer = Writer { call, options: &options };
        let make = |current: &Value| {
            let mut new = conform(call, &expected, patch.apply(&resource.ty, current)?, &options)?;
            check_name(target.name, &new)?;
            defaults(resource, &mut new);
            Ok(new)
        };
        Ok((self.update_with(writer, target, &make).await?, false))
    }

    async fn apply(
        &self,
        call: &Call,
        target: Target<'_>,
        mut options: WriteOptions,
    ) -> Outcome<(Arc<Object>, bool)> {
        let resource = target.resource;
        if call.query.get("fieldManager").is_none() {
            let path = coracle_apimachinery::Path::new("fieldManager");
            let error = coracle_apimachinery::FieldError::required(&path, "is required for apply patch");
            return Err(Status::invalid("meta.k8s.io", "PatchOptions", "", &[error]).into());
        }
        options.applied = true;
        let applied = yaml::decode_applied(&resource.ty, &call.body, options.validation)
            .map_err(|err| ApiError::bad_request(format!("error decoding YAML: {err}")))?;
        for warning in applied.warnings {
            call.warn(warning);
        }
        let mut intent = applied.value;
        Expected::of(resource).check_kind(&mut intent)?;
        super::meta::place(resource, target.namespace, target.name, &mut intent)?;
        let writer = Writer { call, options: &options };
        let make = |current: &Value| self.merged(resource, Some(current), &intent, &options, target.part);
        if target.part == Part::Main && self.registry.read(resource, &target.key()).await?.is_none() {
            self.authorize_verb(call, "create")?;
            let object = self.merged(resource, None, &intent, &options, target.part)?;
            match self.create_object(writer, resource, object).await {
                Err(err) if err.code() == 409 => {} // somebody was faster: apply to theirs
                created => return Ok((created?, true)),
            }
        }
        Ok((self.update_with(writer, target, &make).await?, false))
    }

    fn merged(
        &self,
        resource: &Resource,
        live: Option<&Value>,
        intent: &Value,
        options: &WriteOptions,
        part: Part,
    ) -> Outcome<Value> {
        let request = apply::Request {
            manager: &options.manager,
            force: options.force,
            api_version: &resource.info.api_version(),
            subresource: part.name(),
            now: &time::now_rfc3339(),
        };
        let merged = apply::server_side_apply(&resource.ty, live, intent, &request)
            .map_err(|err| apply_error(&err))?;
        let mut value = json::conform(&resource.ty, merged, json::FieldValidation::Ignore)
            .map_err(|err| ApiError::bad_request(err.to_string()))?
            .value;
        defaults(resource, &mut value);
        Ok(value)
    }
}

fn apply_error(err: &apply::ApplyError) -> ApiError {
    match err {
        apply::ApplyError::Invalid(why) => ApiError::bad_request(why.clone()),
        apply::ApplyError::Conflicts(conflicts) => {
            let causes = conflicts.iter().map(|conflict| Cause {
                reason: "FieldManagerConflict".to_owned(),
                message: conflict.cause(),
                field: conflict.field.clone(),
            });
            Status::failure(409, "Conflict", err.to_string()).with_causes(causes.collect()).into()
        }
    }
}

fn check_name(name: &str, new: &Value) -> Outcome<()> {
    let given = value::name(new);
    if given == name {
        return Ok(());
    }
    Err(ApiError::bad_request(format!(
        "the name of the object ({given}) does not match the name on the URL ({name})"
    )))
}
