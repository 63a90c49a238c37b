//! Classes that objects are given, and what the class of a pod's runtime brings.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};

use super::{Attributes, Operation, Rule};
use crate::api::Api;
use crate::error::Outcome;
use crate::registry::{Moment, Resource};
use crate::value::{self, text};

/// The newest object that is marked as default, by name where several are equally new.
async fn default_of(api: &Api, resource: &Arc<Resource>, mark: &str) -> Outcome<Option<Value>> {
    let mut found: Option<Value> = None;
    for object in api.moment(resource, "", Moment::Any).await?.objects {
        let class = resource.view(&object)?;
        let marked =
            class.pointer("/metadata/annotations").and_then(|all| all.get(mark)?.as_str()) == Some("true");
        let newer = |old: &Value| {
            text(&class, "/metadata/creationTimestamp") > text(old, "/metadata/creationTimestamp")
        };
        if marked && found.as_ref().is_none_or(newer) {
            found = Some(class);
        }
    }
    Ok(found)
}

/// DefaultStorageClass: a claim that names no class gets the default one.
pub struct DefaultStorageClass;

#[async_trait]
impl Rule for DefaultStorageClass {
    fn name(&self) -> &'static str {
        "DefaultStorageClass"
    }

    async fn admit(&self, api: &Api, at: &Attributes<'_>, object: &mut Value) -> Outcome<()> {
        const MARK: &str = "storageclass.kubernetes.io/is-default-class";
        if at.operation != Operation::Create || !at.is("", "persistentvolumeclaims") {
            return Ok(());
        }
        let old = object.pointer("/metadata/annotations/volume.beta.kubernetes.io~1storage-class");
        if old.is_some() || object.pointer("/spec/storageClassName").is_some() {
            return Ok(());
        }
        let Some(classes) = api.registry.find("storage.k8s.io", "v1", "storageclasses") else {
            return Ok(());
        };
        if let Some(class) = default_of(api, classes, MARK).await? {
            value::child(object, "spec").insert("storageClassName".to_owned(), value::name(&class).into());
        }
        Ok(())
    }
}

/// DefaultIngressClass: an ingress that names no class gets the default one.
pub struct DefaultIngressClass;

#[async_trait]
impl Rule for DefaultIngressClass {
    fn name(&self) -> &'static str {
        "DefaultIngressClass"
    }

    async fn admit(&self, api: &Api, at: &Attributes<'_>, object: &mut Value) -> Outcome<()> {
        const MARK: &str = "ingressclass.kubernetes.io/is-default-class";
        if at.operation != Operation::Create || !at.is("networking.k8s.io", "ingresses") {
            return Ok(());
        }
        let old = object.pointer("/metadata/annotations/kubernetes.io~1ingress.class");
        if old.is_some() || object.pointer("/spec/ingressClassName").is_some() {
            return Ok(());
        }
        let Some(classes) = api.registry.find("networking.k8s.io", "v1", "ingressclasses") else {
            return Ok(());
        };
        if let Some(class) = default_of(api, classes, MARK).await? {
            value::child(object, "spec").insert("ingressClassName".to_owned(), value::name(&class).into());
        }
        Ok(())
    }
}

/// RuntimeClass: the class must exist; its overhead, node selector and tolerations become the pod's.
pub struct RuntimeClass;

#[async_trait]
impl Rule for RuntimeClass {
    fn name(&self) -> &'static str {
        "RuntimeClass"
    }

    async fn admit(&self, api: &Api, at: &Attributes<'_>, object: &mut Value) -> Outcome<()> {
        let name = text(object, "/spec/runtimeClassName").to_owned();
        if at.operation != Operation::Create || !at.is("", "pods") || name.is_empty() {
            return Ok(());
        }
        let Some(classes) = api.registry.find("node.k8s.io", "v1", "runtimeclasses") else { return Ok(()) };
        let Some(class) = api.registry.value(classes, "", &name).await? else {
            return Err(at.forbid(format!("pod rejected: RuntimeClass \"{name}\" not found")));
        };
        take_over(&class, object).map_err(|why| at.forbid(why))
    }
}

fn take_over(class: &Value, pod: &mut Value) -> Result<(), String> {
    let spec = value::child(pod, "spec");
    if let Some(overhead) = class.pointer("/overhead/podFixed") {
        match spec.get("overhead") {
            Some(own) if own != overhead => {
                return Err(
                    "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead".to_owned()
                );
            }
            _ => {
                spec.insert("overhead".to_owned(), overhead.clone());
            }
        }
    }
    if let Some(selector) = class.pointer("/scheduling/nodeSelector").and_then(Value::as_object) {
        let own = spec.entry("nodeSelector").or_insert_with(|| json!({}));
        for (key, wanted) in selector {
            let Some(own) = own.as_object_mut() else { break };
            if own.get(key).is_some_and(|has| has != wanted) {
                return Err(format!("conflict: runtimeClass.scheduling.nodeSelector[{key}] = {wanted}"));
            }
            own.insert(key.clone(), wanted.clone());
        }
    }
    if let Some(more) = class.pointer("/scheduling/tolerations").and_then(Value::as_array) {
        let own = spec.entry("tolerations").or_insert_with(|| json!([]));
        if let Some(own) = own.as_array_mut() {
            let new: Vec<Value> = more.iter().filter(|it| !own.contains(it)).cloned().collect();
            own.extend(new);
        }
    }
    Ok(())
}
