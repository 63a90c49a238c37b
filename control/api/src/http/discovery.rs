//! Discovery: which groups, versions and resources there are, in the old form and in the aggregated one.

use serde_json::{Value, json};

use crate::api::Api;
use crate::resources::Info;

fn infos(api: &Api) -> impl Iterator<Item = &'static Info> {
    api.registry.all().iter().map(|resource| resource.info)
}

/// Groups with their versions, in order.
fn group_versions(api: &Api) -> Vec<(&'static str, Vec<&'static str>)> {
    let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
    for info in infos(api) {
        match groups.iter_mut().find(|(group, _)| *group == info.group) {
            None => groups.push((info.group, vec![info.version])),
            Some((_, versions)) if !versions.contains(&info.version) => versions.push(info.version),
            Some(_) => {}
        }
    }
    groups
}

fn group_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

/// `/api`.
pub fn legacy_versions(api: &Api) -> Value {
    json!({
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [
            { "clientCIDR": "0.0.0.0/0", "serverAddress": api.config.advertise.to_string() },
        ],
    })
}

fn group_json(group: &str, versions: &[&str]) -> Value {
    let versions: Vec<Value> = versions
        .iter()
        .map(|version| json!({ "groupVersion": group_version(group, version), "version": version }))
        .collect();
    json!({ "name": group, "versions": versions, "preferredVersion": versions[0] })
}

/// `/apis`.
pub fn groups(api: &Api) -> Value {
    let groups: Vec<Value> = group_versions(api)
        .iter()
        .filter(|(group, _)| !group.is_empty())
        .map(|(group, versions)| group_json(group, versions))
        .collect();
    json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups })
}

/// `/apis/<group>`.
pub fn group(api: &Api, name: &str) -> Option<Value> {
    let (group, versions) =
        group_versions(api).into_iter().find(|(group, _)| *group == name && !name.is_empty())?;
    let mut value = group_json(group, &versions);
    let map = value.as_object_mut()?;
    map.insert("kind".to_owned(), "APIGroup".into());
    map.insert("apiVersion".to_owned(), "v1".into());
    Some(value)
}

/// `/api/v1`, `/apis/<group>/<version>`.
pub fn resources(api: &Api, group: &str, version: &str) -> Option<Value> {
    let mut list: Vec<Value> = Vec::new();
    for info in infos(api).filter(|info| info.group == group && info.version == version) {
        let mut main = json!({
            "name": info.resource,
            "singularName": info.singular,
            "namespaced": info.namespaced,
            "kind": info.kind,
            "verbs": info.verbs,
        });
        let map = main.as_object_mut()?;
        if !info.short.is_empty() {
            map.insert("shortNames".to_owned(), json!(info.short));
        }
        if !info.categories.is_empty() {
            map.insert("categories".to_owned(), json!(info.categories));
        }
        list.push(main);
        for sub in info.subs {
            let mut entry = json!({
                "name": format!("{}/{}", info.resource, sub.name),
                "singularName": "",
                "namespaced": info.namespaced,
                "kind": sub.kind,
                "verbs": sub.verbs,
            });
            if !sub.version.is_empty() {
                let map = entry.as_object_mut()?;
                map.insert("group".to_owned(), sub.group.into());
                map.insert("version".to_owned(), sub.version.into());
            }
            list.push(entry);
        }
    }
    (!list.is_empty()).then(|| {
        json!({
            "kind": "APIResourceList",
            "apiVersion": "v1",
            "groupVersion": group_version(group, version),
            "resources": list,
        })
    })
}

/// The aggregated form, of the core group or of all others.
pub fn aggregated(api: &Api, core: bool) -> Value {
    let items: Vec<Value> = group_versions(api)
        .into_iter()
        .filter(|(group, _)| group.is_empty() == core)
        .map(|(group, versions)| {
            let versions: Vec<Value> = versions
                .into_iter()
                .map(|version| {
                    let resources: Vec<Value> = infos(api)
                        .filter(|info| info.group == group && info.version == version)
                        .map(aggregated_resource)
                        .collect();
                    json!({ "version": version, "resources": resources, "freshness": "Current" })
                })
                .collect();
            let metadata = if core {
                json!({ "creationTimestamp": null })
            } else {
                json!({ "name": group, "creationTimestamp": null })
            };
            json!({ "metadata": metadata, "versions": versions })
        })
        .collect();
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
        "items": items,
    })
}

fn aggregated_resource(info: &'static Info) -> Value {
    let kind =
        |group: &str, version: &str, kind: &str| json!({ "group": group, "version": version, "kind": kind });
    let subs: Vec<Value> = info
        .subs
        .iter()
        .map(|sub| {
            let (group, version) =
                if sub.version.is_empty() { (info.group, info.version) } else { (sub.group, sub.version) };
            json!({
                "subresource": sub.name,
                "responseKind": kind(group, version, sub.kind),
                "verbs": sub.verbs,
            })
        })
        .collect();
    let mut value = json!({
        "resource": info.resource,
        "responseKind": kind(info.group, info.version, info.kind),
        "scope": if info.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": info.singular,
        "verbs": info.verbs,
    });
    if let Some(map) = value.as_object_mut() {
        for (name, list) in [("shortNames", info.short), ("categories", info.categories)] {
            if !list.is_empty() {
                map.insert(name.to_owned(), json!(list));
            }
        }
        if !subs.is_empty() {
            map.insert("subresources".to_owned(), json!(subs));
        }
    }
    value
}
