//! What is there from the first start: namespaces, roles, priority classes, the `kubernetes` Service.

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use serde_json::{Value, json};

use crate::api::Api;
use crate::auth::{self, UserInfo};
use crate::call::{Call, Writer};
use crate::error::{ApiError, Outcome};
use crate::registry::WriteOptions;
use crate::registry::update::{Part, Target};

const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];
const MANAGER: &str = "kube-apiserver";

fn call() -> Call {
    Call { user: UserInfo::master("system:apiserver"), ..Call::default() }
}

fn options() -> WriteOptions {
    WriteOptions { manager: MANAGER.to_owned(), ..WriteOptions::default() }
}

/// Creates what is missing and completes what has lost something. Safe to run at every start.
pub async fn run(api: &Api) -> Outcome<()> {
    for name in NAMESPACES {
        ensure(api, "", "namespaces", object("v1", "Namespace", "", name, json!({}))).await?;
    }
    for (name, value, text) in [
        ("system-cluster-critical", 2_000_000_000, "Pods that the cluster needs, on whatever node."),
        ("system-node-critical", 2_000_001_000, "Pods that their node needs; never moved."),
    ] {
        let body = json!({ "value": value, "description": text, "preemptionPolicy": "PreemptLowerPriority" });
        let class = object("scheduling.k8s.io/v1", "PriorityClass", "", name, body);
        ensure(api, "scheduling.k8s.io", "priorityclasses", class).await?;
    }
    reconcile_roles(api).await?;
    let ranges: Vec<String> = api.config.service_cidrs.iter().map(ToString::to_string).collect();
    let range = object(
        "networking.k8s.io/v1",
        "ServiceCIDR",
        "",
        "kubernetes",
        json!({ "spec": { "cidrs": ranges } }),
    );
    ensure(api, "networking.k8s.io", "servicecidrs", range).await?;
    kubernetes_service(api).await
}

fn object(api_version: &str, kind: &str, namespace: &str, name: &str, body: Value) -> Value {
    let mut object = body;
    if let Some(map) = object.as_object_mut() {
        map.insert("apiVersion".to_owned(), api_version.into());
        map.insert("kind".to_owned(), kind.into());
        let meta = map.entry("metadata").or_insert_with(|| json!({}));
        if let Some(meta) = meta.as_object_mut() {
            meta.insert("name".to_owned(), name.into());
            if !namespace.is_empty() {
                meta.insert("namespace".to_owned(), namespace.into());
            }
        }
    }
    object
}

/// Creates it if it is not there.
async fn ensure(api: &Api, group: &str, resource: &str, object: Value) -> Outcome<()> {
    let Some(resource) = api.registry.find(group, "v1", resource).cloned() else { return Ok(()) };
    let (namespace, name) = (crate::value::namespace(&object), crate::value::name(&object));
    if api.registry.read(&resource, &resource.key(namespace, name)).await?.is_some() {
        return Ok(());
    }
    let (call, options) = (call(), options());
    match api.create_object(Writer { call: &call, options: &options }, &resource, object).await {
        Err(err) if err.code() == 409 => Ok(()),
        done => done.map(|_| ()),
    }
}

/// Brings an object to these fields, creating it if it is not there.
async fn put(api: &Api, group: &str, resource: &str, wanted: Value, fields: &[&str]) -> Outcome<()> {
    ensure(api, group, resource, wanted.clone()).await?;
    let Some(resource) = api.registry.find(group, "v1", resource).cloned() else { return Ok(()) };
    let (call, options) = (call(), options());
    let namespace = crate::value::namespace(&wanted).to_owned();
    let name = crate::value::name(&wanted).to_owned();
    let target = Target { resource: &resource, namespace: &namespace, name: &name, part: Part::Main };
    let make = |current: &Value| {
        let mut new = current.clone();
        if let Some(map) = new.as_object_mut() {
            for field in fields {
                crate::value::put(map, field, wanted.get(*field).cloned());
            }
        }
        let tree =
            coracle_schema::json::conform(&resource.ty, new, coracle_schema::json::FieldValidation::Ignore)
                .map_err(ApiError::internal)?;
        Ok(tree.value)
    };
    api.update_with(Writer { call: &call, options: &options }, target, &make).await.map(|_| ())
}

/// Many at once, so that they share the store's commits.
async fn reconcile_roles(api: &Api) -> Outcome<()> {
    let (bindings, roles): (Vec<_>, Vec<_>) =
        auth::bootstrap::objects().into_iter().partition(|default| default.resource.ends_with("bindings"));
    for objects in [roles, bindings] {
        let mut running: FuturesUnordered<_> =
            objects.into_iter().map(|default| reconcile_role(api, default)).collect();
        while let Some(done) = running.next().await {
            done?;
        }
    }
    Ok(())
}

async fn reconcile_role(api: &Api, default: auth::bootstrap::BootstrapObject) -> Outcome<()> {
    const GROUP: &str = "rbac.authorization.k8s.io";
    let Some(resource) = api.registry.find(GROUP, "v1", default.resource).cloned() else { return Ok(()) };
    let Some(existing) = api.registry.value(&resource, &default.namespace, &default.name).await? else {
        return ensure(api, GROUP, default.resource, default.object).await;
    };
    let Some(wanted) = auth::bootstrap::reconciled(&existing, &default.object) else { return Ok(()) };
    let (call, options) = (call(), options());
    let target =
        Target { resource: &resource, namespace: &default.namespace, name: &default.name, part: Part::Main };
    let writer = Writer { call: &call, options: &options };
    api.update_with(writer, target, &|_: &Value| Ok(wanted.clone())).await.map(|_| ())
}

/// The Service by which pods reach this server, and where it leads.
async fn kubernetes_service(api: &Api) -> Outcome<()> {
    let Some(address) = api.config.kubernetes_address() else { return Ok(()) };
    let advertise = api.config.advertise;
    let body = json!({
        "metadata": { "labels": { "component": "apiserver", "provider": "kubernetes" } },
        "spec": {
            "clusterIP": address.to_string(),
            "clusterIPs": [address.to_string()],
            "type": "ClusterIP",
            "sessionAffinity": "None",
            "ports": [{ "name": "https", "port": 443, "protocol": "TCP", "targetPort": advertise.port() }],
        },
    });
    ensure(api, "", "services", object("v1", "Service", "default", "kubernetes", body)).await?;
    if advertise.ip().is_loopback() || advertise.ip().is_unspecified() {
        // Endpoints may not lie on loopback; pods could not reach them.
        tracing::warn!(address = %advertise, "no endpoints for the kubernetes service: not an address for pods");
        return Ok(());
    }
    let port = json!({ "name": "https", "port": advertise.port(), "protocol": "TCP" });
    let endpoints = json!({
        "metadata": { "labels": { "endpointslice.kubernetes.io/skip-mirror": "true" } },
        "subsets": [{ "addresses": [{ "ip": advertise.ip().to_string() }], "ports": [port] }],
    });
    let endpoints = object("v1", "Endpoints", "default", "kubernetes", endpoints);
    put(api, "", "endpoints", endpoints, &["subsets"]).await?;
    let family = if advertise.is_ipv4() { "IPv4" } else { "IPv6" };
    let slice = json!({
        "metadata": { "labels": { "kubernetes.io/service-name": "kubernetes" } },
        "addressType": family,
        "endpoints": [{ "addresses": [advertise.ip().to_string()], "conditions": { "ready": true } }],
        "ports": [port],
    });
    let slice = object("discovery.k8s.io/v1", "EndpointSlice", "default", "kubernetes", slice);
    put(api, "discovery.k8s.io", "endpointslices", slice, &["endpoints", "ports"]).await
}
