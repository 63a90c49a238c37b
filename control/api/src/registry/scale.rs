//! `/scale`: replicas of workloads, in one kind for all of them.

use std::sync::Arc;

use coracle_apimachinery::{FieldError, LabelSelector, Path, Status};
use serde_json::{Value, json};

use super::Resource;
use super::decode::{Expected, defaults};
use super::patch::{Patch, conform};
use super::update::{Part, Target};
use crate::api::Api;
use crate::call::{Call, Writer};
use crate::error::Outcome;
use crate::value::{self, text};

/// The Scale of a workload.
fn scale_of(object: &Value) -> Value {
    let selector = object.pointer("/spec/selector");
    let selector = match selector {
        Some(labels) if labels.get("matchLabels").is_some() || labels.get("matchExpressions").is_some() => {
            serde_json::from_value::<LabelSelector>(labels.clone())
                .ok()
                .and_then(|selector| selector.compile().ok())
                .map(|selector| selector.to_string())
        }
        Some(Value::Object(labels)) => {
            let pairs: Vec<String> =
                labels.iter().map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default())).collect();
            Some(pairs.join(","))
        }
        _ => None,
    };
    let number = |pointer: &str| object.pointer(pointer).and_then(Value::as_i64).unwrap_or(0);
    let mut status = json!({ "replicas": number("/status/replicas") });
    if let (Some(map), Some(selector)) = (status.as_object_mut(), selector) {
        map.insert("selector".to_owned(), selector.into());
    }
    let meta = |name: &str| object.pointer(&format!("/metadata/{name}")).cloned().unwrap_or_default();
    json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {
            "name": meta("name"),
            "namespace": meta("namespace"),
            "uid": meta("uid"),
            "resourceVersion": meta("resourceVersion"),
            "creationTimestamp": meta("creationTimestamp"),
        },
        "spec": { "replicas": number("/spec/replicas") },
        "status": status,
    })
}

impl Api {
    /// GET, PUT and PATCH of `/scale`; gives the Scale as it stands.
    pub async fn scale(&self, call: &Call, resource: &Arc<Resource>) -> Outcome<Value> {
        let (namespace, name) = (call.info.namespace.as_str(), call.info.name.as_str());
        if call.info.verb == "get" {
            let object = self.get(call, resource).await?;
            return Ok(scale_of(&resource.view(&object)?));
        }
        let options = call.write_options("UpdateOptions")?;
        let expected = Expected::kind("autoscaling", "v1", "Scale")?;
        let patch = if call.info.verb == "patch" { Some(Patch::parse(call)?) } else { None };
        let body = match &patch {
            None => Some(expected.body(call, options.validation)?),
            Some(_) => None,
        };
        let make = |current: &Value| -> Outcome<Value> {
            let wanted = match (&body, &patch) {
                (Some(body), _) => body.clone(),
                (None, Some(patch)) => {
                    conform(call, &expected, patch.apply(&expected.ty, &scale_of(current))?, &options)?
                }
                (None, None) => scale_of(current),
            };
            let given = value::name(&wanted);
            if given != name {
                return Err(Status::bad_request(format!(
                    "the name of the object ({given}) does not match the name on the URL ({name})"
                ))
                .into());
            }
            let replicas = wanted.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(0);
            if replicas < 0 {
                let path = Path::new("spec").child("replicas");
                let error = FieldError::invalid(&path, replicas, "must be greater than or equal to 0");
                return Err(Status::invalid("autoscaling", "Scale", name, &[error]).into());
            }
            let mut new = current.clone();
            value::child(&mut new, "spec").insert("replicas".to_owned(), replicas.into());
            let meta = value::metadata(&mut new);
            for field in ["resourceVersion", "uid"] {
                let given = text(&wanted, &format!("/metadata/{field}"));
                if !given.is_empty() {
                    meta.insert(field.to_owned(), given.into());
                }
            }
            defaults(resource, &mut new);
            Ok(new)
        };
        let target = Target { resource, namespace, name, part: Part::Main };
        let stored = self.update_with(Writer { call, options: &options }, target, &make).await?;
        Ok(scale_of(&resource.view(&stored)?))
    }
}
