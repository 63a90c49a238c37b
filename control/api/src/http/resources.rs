//! From a request for a resource to the verb that answers it.

use std::sync::Arc;

use coracle_apimachinery::Status;
use http::{Request, Response, StatusCode};
use serde_json::{Value, json};

use super::body::{Body, RequestBody};
use super::info::Info;
use crate::api::Api;
use crate::call::Call;
use crate::error::{ApiError, Outcome};
use crate::registry::delete::gone_status;
use crate::registry::list::Page;
use crate::registry::update::{Part, Target};
use crate::registry::{Resource, output};

/// Whether a request is carried to a kubelet, pod or service.
pub fn is_connect(info: &Info) -> bool {
    matches!(
        (info.resource.as_str(), info.subresource.as_str()),
        ("pods", "exec" | "attach" | "portforward" | "log" | "proxy") | ("nodes" | "services", "proxy")
    )
}

/// Carries a request there.
pub async fn connect(api: &Arc<Api>, call: &Call, request: Request<RequestBody>) -> Outcome<Response<Body>> {
    let info = &call.info;
    resource_of(api, info)?;
    // A WebSocket begins with a GET: whoever may only read must not run anything through one.
    let runs = matches!(info.subresource.as_str(), "exec" | "attach" | "portforward");
    if info.resource == "pods" && runs && info.verb == "get" {
        api.authorize_verb(call, "create")?;
    }
    match &api.connect {
        Some(connect) => connect.connect(api, call, request).await,
        None => Err(Status::unavailable(format!(
            "{}/{} is not available: this server knows no way to kubelets",
            info.resource, info.subresource
        ))
        .into()),
    }
}

fn resource_of<'a>(api: &'a Api, info: &Info) -> Outcome<&'a Arc<Resource>> {
    let resource = api
        .registry
        .find(&info.group, &info.version, &info.resource)
        .ok_or_else(|| ApiError::from(Status::no_such_path()))?;
    if !resource.info.namespaced && !info.namespace.is_empty() && info.resource != "namespaces" {
        return Err(Status::no_such_path().into());
    }
    Ok(resource)
}

/// Answers a request whose body has been read.
pub async fn serve(api: &Arc<Api>, call: &Call) -> Outcome<Response<Body>> {
    let info = &call.info;
    let resource = resource_of(api, info)?;
    if !info.subresource.is_empty() {
        return subresource(api, call, resource).await;
    }
    if !resource.info.has_verb(info.verb) {
        return Err(Status::method_not_supported().into());
    }
    let needs_namespace = resource.info.namespaced && info.namespace.is_empty();
    if needs_namespace && !matches!(info.verb, "list" | "watch") {
        return Err(Status::method_not_supported().into());
    }
    if resource.cache.is_none() {
        return virtual_resource(api, call, resource).await;
    }
    match info.verb {
        "get" => output::object(call, StatusCode::OK, resource, &*api.get(call, resource).await?),
        "list" => {
            let page = api.list(call, resource).await?;
            output::list(call, resource, page)
        }
        "watch" => api.watch(call, resource).await,
        "create" => {
            let object = api.create(call, resource).await?;
            output::object(call, StatusCode::CREATED, resource, &object)
        }
        "update" | "patch" => change(api, call, resource, Part::Main).await,
        "delete" => delete(api, call, resource).await,
        "deletecollection" => {
            let objects = api.delete_collection(call, resource).await?;
            let revision = api.feed().applied();
            output::list(call, resource, Page { objects, revision, token: None, remaining: None })
        }
        _ => Err(Status::method_not_supported().into()),
    }
}

async fn change(api: &Api, call: &Call, resource: &Arc<Resource>, part: Part) -> Outcome<Response<Body>> {
    let info = &call.info;
    // A namespace's own requests name it twice.
    let namespace = if resource.info.namespaced { info.namespace.as_str() } else { "" };
    let target = Target { resource, namespace, name: &info.name, part };
    let (object, created) = match info.verb {
        "patch" => api.patch(call, target).await?,
        _ => api.update(call, target).await?,
    };
    let code = if created { StatusCode::CREATED } else { StatusCode::OK };
    output::object(call, code, resource, &object)
}

async fn delete(api: &Api, call: &Call, resource: &Arc<Resource>) -> Outcome<Response<Body>> {
    let options = Api::delete_options(call)?;
    let namespace = if resource.info.namespaced { call.info.namespace.as_str() } else { "" };
    let deleted = api.delete(call, resource, namespace, &call.info.name, &options).await?;
    if deleted.is_shown(resource) {
        return output::object(call, StatusCode::OK, resource, deleted.object());
    }
    let tree = resource.view(deleted.object())?;
    Ok(output::status(call, &gone_status(resource, &tree)))
}

async fn subresource(api: &Arc<Api>, call: &Call, resource: &Arc<Resource>) -> Outcome<Response<Body>> {
    let info = &call.info;
    let sub = resource.info.sub(&info.subresource).ok_or_else(|| ApiError::from(Status::no_such_path()))?;
    if !sub.verbs.contains(&info.verb) {
        return Err(Status::method_not_supported().into());
    }
    let created = |status: Status| Ok(output::status(call, &status));
    match (resource.info.resource, sub.name) {
        (_, "scale") => {
            let scale = api.scale(call, resource).await?;
            typed(call, StatusCode::OK, ("autoscaling", "v1", "Scale"), &scale)
        }
        ("pods", "binding") => created(api.bind(call, &info.name).await?),
        ("pods", "eviction") => created(api.evict(call, resource).await?),
        ("serviceaccounts", "token") => {
            let request = api.request_token(call, resource).await?;
            typed(call, StatusCode::CREATED, ("authentication.k8s.io", "v1", "TokenRequest"), &request)
        }
        (_, name) => {
            let part = Part::of(name).ok_or_else(|| ApiError::from(Status::no_such_path()))?;
            if info.verb == "get" {
                return output::object(call, StatusCode::OK, resource, &*api.get(call, resource).await?);
            }
            change(api, call, resource, part).await
        }
    }
}

fn typed(call: &Call, code: StatusCode, kind: (&str, &str, &str), value: &Value) -> Outcome<Response<Body>> {
    let ty = coracle_schema::lookup(kind.0, kind.1, kind.2)
        .ok_or_else(|| ApiError::internal(format!("kind {} is not in the schema", kind.2)))?;
    Ok(output::typed(call, code, &ty, value))
}

async fn virtual_resource(api: &Api, call: &Call, resource: &Arc<Resource>) -> Outcome<Response<Body>> {
    let info = &call.info;
    match (resource.info.resource, info.verb) {
        ("bindings", "create") => Ok(output::status(call, &api.bind(call, "").await?)),
        ("componentstatuses", "list") => component_list(api, call, resource),
        ("componentstatuses", "get") => {
            let found =
                api.component_statuses().into_iter().find(|status| crate::value::name(status) == info.name);
            let status = found.ok_or_else(|| resource.not_found(&info.name))?;
            output::tree(call, StatusCode::OK, resource, &status)
        }
        (_, "create") => {
            let review = api.review(call, resource).await?;
            Ok(output::typed(call, StatusCode::CREATED, &resource.ty, &review))
        }
        _ => Err(Status::method_not_supported().into()),
    }
}

fn component_list(api: &Api, call: &Call, resource: &Arc<Resource>) -> Outcome<Response<Body>> {
    call.warn("v1 ComponentStatus is deprecated in v1.19+");
    output::trees(call, resource, json!({}), api.component_statuses())
}
