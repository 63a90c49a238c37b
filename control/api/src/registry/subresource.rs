//! Actions on objects that are no updates: binding, eviction, tokens.

use std::sync::Arc;

use coracle_apimachinery::{FieldError, Path, Status, time};
use serde_json::{Value, json};

use super::decode::Expected;
use super::delete::Deleted;
use super::options::DeleteOptions;
use super::update::{Part, Target};
use super::{Resource, meta};
use crate::admission::{Attributes, Operation};
use crate::api::Api;
use crate::auth::token::Reference;
use crate::auth::{TokenSubject, UserInfo};
use crate::call::{Call, Writer};
use crate::error::{ApiError, Outcome};
use crate::value::{self, text};

/// Seconds a token lives when nothing is said.
const TOKEN_SECONDS: i64 = 3600;
/// And at least.
const TOKEN_LEAST: i64 = 600;
/// And at most.
const TOKEN_MOST: i64 = 1 << 32;

impl Api {
    /// POST of a Binding: gives a pod its node.
    pub async fn bind(&self, call: &Call, name: &str) -> Outcome<Status> {
        let options = call.write_options("CreateOptions")?;
        let resource = self.registry.core("pods")?.clone();
        let mut binding = Expected::kind("", "v1", "Binding")?.body(call, options.validation)?;
        meta::place(&resource, &call.info.namespace, name, &mut binding)?;
        let name = value::name(&binding).to_owned();
        let node = text(&binding, "/target/name").to_owned();
        check_binding(&binding, &name, &node)?;
        let make = |current: &Value| -> Outcome<Value> {
            let conflict = |why: String| Err(Status::conflict("", "pods/binding", &name, &why).into());
            if value::is_deleting(current) {
                return conflict(format!("pod {name} is being deleted, cannot be assigned to a host"));
            }
            let bound = text(current, "/spec/nodeName");
            if !bound.is_empty() {
                return conflict(format!("pod {name} is already assigned to node \"{bound}\""));
            }
            let uid = text(&binding, "/metadata/uid");
            if !uid.is_empty() && uid != text(current, "/metadata/uid") {
                return conflict(format!(
                    "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
                    text(current, "/metadata/uid")
                ));
            }
            Ok(bound_pod(current, &binding, &node))
        };
        let target =
            Target { resource: &resource, namespace: &call.info.namespace, name: &name, part: Part::Main };
        let writer = Writer { call, options: &options };
        self.update_unchecked(writer, target, &make).await?;
        Ok(success(201))
    }

    /// Changes an object past the checks of its kind, for what only the server may change.
    async fn update_unchecked(
        &self,
        writer: Writer<'_>,
        target: Target<'_>,
        make: &crate::call::Make<'_>,
    ) -> Outcome<Arc<crate::cache::Object>> {
        use super::resource::Written;
        let resource = target.resource;
        let key = target.key();
        let mut object =
            self.registry.read(resource, &key).await?.ok_or_else(|| resource.not_found(target.name))?;
        for _ in 0..10 {
            let current = resource.view(&object)?;
            let mut new = make(&current)?;
            super::fields::track(resource, Some(&current), &mut new, writer.options, "");
            value::metadata(&mut new).remove("resourceVersion");
            if writer.options.dry_run {
                return Ok(object);
            }
            let bytes = resource.rest(&new);
            match self.registry.write(resource, &key, object.revision, Some(bytes.clone()), 0).await? {
                Written::At(revision) => {
                    return Ok(Arc::new(crate::cache::Object { key: key.into(), revision, bytes }));
                }
                Written::Lost(Some(newer)) => object = newer,
                Written::Lost(None) => return Err(resource.not_found(target.name)),
            }
        }
        Err(Status::modified(resource.info.group, resource.info.resource, target.name).into())
    }

    /// POST of an Eviction: deletes the pod if its disruption budgets allow it.
    pub async fn evict(&self, call: &Call, resource: &Arc<Resource>) -> Outcome<Status> {
        let (namespace, name) = (&call.info.namespace, &call.info.name);
        let write = call.write_options("CreateOptions")?;
        let eviction = Expected::kind("policy", "v1", "Eviction")?.body(call, write.validation)?;
        let given = value::name(&eviction);
        if !given.is_empty() && given != name {
            return Err(ApiError::bad_request("name in URL does not match name in Eviction object"));
        }
        let mut options = DeleteOptions::parse(&call.query, eviction.get("deleteOptions"))?;
        options.dry_run |= write.dry_run;
        let pod =
            self.registry.value(resource, namespace, name).await?.ok_or_else(|| resource.not_found(name))?;
        let may_go_anyway = value::is_deleting(&pod)
            || matches!(text(&pod, "/status/phase"), "Succeeded" | "Failed" | "Pending");
        if !may_go_anyway {
            self.spend_budget(call, &pod, &write).await?;
        }
        match self.delete(call, resource, namespace, name, &options).await? {
            Deleted::Gone(_) | Deleted::Pending(_) => Ok(success(201)),
        }
    }

    /// Takes one disruption from the budget that covers the pod.
    async fn spend_budget(&self, call: &Call, pod: &Value, options: &super::WriteOptions) -> Outcome<()> {
        let Some(budgets) = self.registry.find("policy", "v1", "poddisruptionbudgets").cloned() else {
            return Ok(());
        };
        let namespace = value::namespace(pod);
        let snapshot =
            self.moment(&budgets, &budgets.scope(namespace), super::options::Moment::Latest).await?;
        let mut covering = Vec::new();
        for object in &snapshot.objects {
            let budget = budgets.view(object)?;
            let selects = budget
                .pointer("/spec/selector")
                .and_then(|s| serde_json::from_value::<coracle_apimachinery::LabelSelector>(s.clone()).ok())
                .and_then(|s| s.compile().ok())
                .is_some_and(|s| s.matches(|key| pod.pointer("/metadata/labels")?.get(key)?.as_str()));
            if selects {
                covering.push(budget);
            }
        }
        let budget = match covering.as_slice() {
            [] => return Ok(()),
            [one] => one,
            _ => {
                return Err(ApiError::internal(
                    "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
                ));
            }
        };
        let name = value::name(budget).to_owned();
        let pod_name = value::name(pod).to_owned();
        let make = |current: &Value| -> Outcome<Value> {
            let number = |p: &str| current.pointer(p).and_then(Value::as_i64).unwrap_or(0);
            if number("/status/disruptionsAllowed") < 1 {
                let cause = coracle_apimachinery::status::Cause {
                    reason: "DisruptionBudget".to_owned(),
                    message: format!(
                        "The disruption budget {name} needs {} healthy pods and has {} currently",
                        number("/status/desiredHealthy"),
                        number("/status/currentHealthy")
                    ),
                    field: String::new(),
                };
                return Err(Status::too_many_requests(
                    "Cannot evict pod as it would violate the pod's disruption budget.",
                    0,
                )
                .with_causes(vec![cause])
                .into());
            }
            let mut new = current.clone();
            let status = value::child(&mut new, "status");
            let left = number("/status/disruptionsAllowed") - 1;
            status.insert("disruptionsAllowed".to_owned(), left.into());
            let disrupted = status.entry("disruptedPods").or_insert_with(|| json!({}));
            if let Some(map) = disrupted.as_object_mut() {
                map.insert(pod_name.clone(), time::now_rfc3339().into());
            }
            Ok(new)
        };
        let target = Target { resource: &budgets, namespace, name: value::name(budget), part: Part::Status };
        self.update_with(Writer { call, options }, target, &make).await?;
        Ok(())
    }

    /// POST of a TokenRequest for a service account.
    pub async fn request_token(&self, call: &Call, resource: &Arc<Resource>) -> Outcome<Value> {
        let options = call.write_options("CreateOptions")?;
        let (namespace, name) = (&call.info.namespace, &call.info.name);
        let mut request =
            Expected::kind("authentication.k8s.io", "v1", "TokenRequest")?.body(call, options.validation)?;
        let account =
            self.registry.value(resource, namespace, name).await?.ok_or_else(|| resource.not_found(name))?;
        let seconds =
            request.pointer("/spec/expirationSeconds").and_then(Value::as_i64).unwrap_or(TOKEN_SECONDS);
        if seconds < TOKEN_LEAST {
            let path = Path::new("spec").child("expirationSeconds");
            let error =
                FieldError::invalid(&path, seconds, "may not specify a duration less than 10 minutes");
            return Err(Status::invalid("authentication.k8s.io", "TokenRequest", "", &[error]).into());
        }
        if seconds > TOKEN_MOST {
            let path = Path::new("spec").child("expirationSeconds");
            let error =
                FieldError::invalid(&path, seconds, "may not specify a duration larger than 2^32 seconds");
            return Err(Status::invalid("authentication.k8s.io", "TokenRequest", "", &[error]).into());
        }
        let at = Attributes {
            operation: Operation::Create,
            resource,
            subresource: "token",
            namespace,
            name,
            call,
            old: None,
            dry_run: options.dry_run,
        };
        self.admission.check(self, &at, Some(&request)).await?;
        let mut subject = TokenSubject {
            namespace: namespace.clone(),
            serviceaccount: Reference { name: name.clone(), uid: text(&account, "/metadata/uid").to_owned() },
            ..TokenSubject::default()
        };
        if let Some(bound) = request.pointer("/spec/boundObjectRef").filter(|v| !v.is_null()) {
            self.bind_token(namespace, bound, &mut subject).await?;
        }
        let audiences: Vec<String> = request
            .pointer("/spec/audiences")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(|a| a.as_str().map(str::to_owned))
            .collect();
        let now = jiff::Timestamp::now();
        let (token, ends) = self
            .tokens
            .issue(subject, &audiences, seconds, now.as_second())
            .map_err(|err| ApiError::internal(format!("failed to generate token: {err}")))?;
        let shown = if audiences.is_empty() { self.tokens.audiences().to_vec() } else { audiences };
        let ends = jiff::Timestamp::from_second(ends).unwrap_or(now);
        value::child(&mut request, "spec").insert("audiences".to_owned(), json!(shown));
        value::child(&mut request, "spec").insert("expirationSeconds".to_owned(), seconds.into());
        let status = json!({ "token": token, "expirationTimestamp": time::rfc3339(ends) });
        if let Some(map) = request.as_object_mut() {
            map.insert("status".to_owned(), status);
        }
        let meta = value::metadata(&mut request);
        meta.insert("name".to_owned(), name.clone().into());
        meta.insert("namespace".to_owned(), namespace.clone().into());
        meta.insert("creationTimestamp".to_owned(), time::rfc3339(now).into());
        Ok(request)
    }

    async fn bind_token(&self, namespace: &str, bound: &Value, subject: &mut TokenSubject) -> Outcome<()> {
        let (kind, name, uid) = (text(bound, "/kind"), text(bound, "/name"), text(bound, "/uid"));
        let resource = match kind {
            "Pod" => "pods",
            "Node" => "nodes",
            _ => {
                return Err(ApiError::bad_request(format!(
                    "cannot bind token for serviceaccount to object of type {} {kind}: only pods and nodes",
                    text(bound, "/apiVersion")
                )));
            }
        };
        let resource = self.registry.core(resource)?;
        let object =
            self.registry.value(resource, namespace, name).await?.ok_or_else(|| resource.not_found(name))?;
        let own = text(&object, "/metadata/uid");
        if !uid.is_empty() && uid != own {
            let why = format!(
                "the UID in the bound object reference ({uid}) does not match the UID in record. The object might \
                 have been deleted and then recreated"
            );
            return Err(Status::conflict("", resource.info.resource, name, &why).into());
        }
        let reference = Reference { name: name.to_owned(), uid: own.to_owned() };
        match kind {
            "Pod" => {
                let account = text(&object, "/spec/serviceAccountName");
                if account != subject.serviceaccount.name {
                    return Err(ApiError::bad_request(format!(
                        "cannot bind token for serviceaccount \"{}\" to pod running with different serviceaccount name.",
                        subject.serviceaccount.name
                    )));
                }
                let node = text(&object, "/spec/nodeName");
                if !node.is_empty() {
                    let nodes = self.registry.core("nodes")?;
                    let known = self.registry.value(nodes, "", node).await?;
                    let uid = known.map(|n| text(&n, "/metadata/uid").to_owned()).unwrap_or_default();
                    subject.node = Some(Reference { name: node.to_owned(), uid });
                }
                subject.pod = Some(reference);
            }
            _ => subject.node = Some(reference),
        }
        Ok(())
    }
}

/// A bare success.
pub fn success(code: i32) -> Status {
    let mut status = Status::failure(code, "", "");
    "Success".clone_into(&mut status.status);
    status
}

fn check_binding(binding: &Value, name: &str, node: &str) -> Outcome<()> {
    let mut errors = Vec::new();
    let target = Path::new("target");
    let kind = text(binding, "/target/kind");
    if !kind.is_empty() && kind != "Node" {
        errors.push(FieldError::not_supported(&target.child("kind"), kind, &["Node", "<empty>"]));
    }
    if node.is_empty() {
        errors.push(FieldError::required(&target.child("name"), ""));
    }
    if errors.is_empty() { Ok(()) } else { Err(Status::invalid("", "Binding", name, &errors).into()) }
}

fn bound_pod(pod: &Value, binding: &Value, node: &str) -> Value {
    let mut new = pod.clone();
    value::child(&mut new, "spec").insert("nodeName".to_owned(), node.into());
    if let Some(extra) = binding.pointer("/metadata/annotations").and_then(Value::as_object) {
        let annotations = value::metadata(&mut new).entry("annotations").or_insert_with(|| json!({}));
        if let Some(map) = annotations.as_object_mut() {
            map.extend(extra.clone());
        }
    }
    let scheduled = json!({
        "type": "PodScheduled",
        "status": "True",
        "lastProbeTime": null,
        "lastTransitionTime": time::now_rfc3339(),
    });
    let conditions = value::child(&mut new, "status").entry("conditions").or_insert_with(|| json!([]));
    if let Some(list) = conditions.as_array_mut() {
        match list.iter_mut().find(|c| c.get("type").and_then(Value::as_str) == Some("PodScheduled")) {
            Some(old) if old.get("status").and_then(Value::as_str) == Some("True") => {}
            Some(old) => *old = scheduled,
            None => list.push(scheduled),
        }
    }
    new
}

/// Whether a user is who an internal writer claims to be; used by callers without a request of their own.
pub fn internal_user() -> UserInfo {
    UserInfo::master("system:apiserver")
}
