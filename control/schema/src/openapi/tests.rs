use serde_json::{Value, json};

use super::*;

const ALL: &[&str] = &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

fn resource(
    group: &'static str,
    name: &'static str,
    kind: &'static str,
    verbs: &'static [&'static str],
) -> Resource {
    Resource {
        group: group.into(),
        version: "v1".into(),
        name: name.into(),
        kind_group: group.into(),
        kind_version: "v1".into(),
        kind: kind.into(),
        namespaced: kind != "CustomResourceDefinition",
        verbs: verbs.into(),
    }
}

fn documents() -> OpenApi {
    OpenApi::new(
        "v1.36.0",
        vec![
            resource("", "pods", "Pod", ALL),
            resource("", "pods/status", "Pod", &["get", "patch", "update"]),
            resource("", "pods/exec", "PodExecOptions", &["create", "get"]),
            resource("apps", "deployments", "Deployment", ALL),
            resource("apiextensions.k8s.io", "customresourcedefinitions", "CustomResourceDefinition", ALL),
        ],
    )
}

fn v3(root: &str) -> Value {
    serde_json::from_slice(&documents().v3(root).unwrap().json()).unwrap()
}

#[test]
fn every_reference_leads_somewhere() {
    let docs = documents();
    for (document, place) in [
        (docs.v3("api/v1").unwrap(), "/components/schemas"),
        (docs.v3("apis/apps/v1").unwrap(), "/components/schemas"),
        (docs.v3("apis/apiextensions.k8s.io/v1").unwrap(), "/components/schemas"),
        (docs.v2(), "/definitions"),
    ] {
        let document: Value = serde_json::from_slice(&document.json()).unwrap();
        let known = document.pointer(place).unwrap().as_object().unwrap();
        let mut references = 0;
        each_reference(&document, &mut |reference| {
            let name = reference.rsplit('/').next().unwrap();
            assert!(known.contains_key(name), "{reference}");
            references += 1;
        });
        assert!(references > 50);
    }
}

fn each_reference(value: &Value, visit: &mut dyn FnMut(&str)) {
    match value {
        Value::Object(map) => {
            if let Some(Value::String(reference)) = map.get("$ref") {
                visit(reference);
            }
            map.values().for_each(|value| each_reference(value, visit));
        }
        Value::Array(list) => list.iter().for_each(|value| each_reference(value, visit)),
        _ => {}
    }
}

#[test]
fn marks_and_defaults_are_shown() {
    let document = v3("apis/apps/v1");
    let schema = |name: &str| document["components"]["schemas"][format!("io.k8s.api.{name}")].clone();
    let deployment = schema("apps.v1.Deployment");
    assert_eq!(
        deployment["x-kubernetes-group-version-kind"],
        json!([{"group": "apps", "kind": "Deployment", "version": "v1"}])
    );
    let mut containers = schema("core.v1.PodSpec")["properties"]["containers"].clone();
    containers.as_object_mut().unwrap().remove("description");
    assert_eq!(
        containers,
        json!({"type": "array", "items": {"allOf": [{"$ref": "#/components/schemas/io.k8s.api.core.v1.Container"}],
            "default": {}}, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
            "x-kubernetes-patch-merge-key": "name", "x-kubernetes-patch-strategy": "merge"})
    );
    assert_eq!(schema("core.v1.PodSpec")["required"], json!(["containers"]));
    assert_eq!(
        schema("core.v1.PodSpec")["properties"]["volumes"]["x-kubernetes-patch-strategy"],
        "merge,retainKeys"
    );
    assert_eq!(schema("core.v1.ContainerPort")["properties"]["protocol"]["default"], "TCP");
    assert!(schema("core.v1.Volume")["properties"]["hostPath"].is_object(), "inlined fields are shown");
}

#[test]
fn operations_tell_what_clients_ask_for() {
    let document = v3("api/v1");
    let patch = &document["paths"]["/api/v1/namespaces/{namespace}/pods/{name}"]["patch"];
    assert_eq!(
        patch["x-kubernetes-group-version-kind"],
        json!({"group": "", "kind": "Pod", "version": "v1"})
    );
    assert_eq!(
        (&patch["x-kubernetes-action"], &patch["operationId"]),
        (&json!("patch"), &json!("patchCoreV1NamespacedPod"))
    );
    let names: Vec<&str> =
        patch["parameters"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["dryRun", "fieldManager", "fieldValidation", "force"]);
    assert_eq!(document["paths"]["/api/v1/pods"]["get"]["operationId"], "listCoreV1PodForAllNamespaces");
    assert_eq!(
        document["paths"]["/api/v1/namespaces/{namespace}/pods/{name}/exec"]["post"]["x-kubernetes-action"],
        "connect"
    );
    assert!(documents().v3("apis/batch/v1").is_none());
}

#[test]
fn the_index_names_every_group_version() {
    let docs = documents();
    let index: Value = serde_json::from_slice(&docs.v3_index()).unwrap();
    let paths = index["paths"].as_object().unwrap();
    assert_eq!(paths.keys().collect::<Vec<_>>(), ["api/v1", "apis/apiextensions.k8s.io/v1", "apis/apps/v1"]);
    let etag = docs.v3("apis/apps/v1").unwrap().etag;
    assert_eq!(paths["apis/apps/v1"]["serverRelativeURL"], format!("/openapi/v3/apis/apps/v1?hash={etag}"));
    assert_ne!(etag, docs.v3("api/v1").unwrap().etag);
}

#[cfg(feature = "descriptions")]
#[test]
fn fields_are_described() {
    let document = v3("api/v1");
    let pod = &document["components"]["schemas"]["io.k8s.api.core.v1.Pod"];
    for text in [&pod["description"], &pod["properties"]["spec"]["description"]] {
        assert!(text.as_str().is_some_and(|text| text.len() > 20), "{text}");
    }
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let (mut with, mut without) = (0, Vec::new());
    for (name, schema) in schemas {
        for (field, property) in schema["properties"].as_object().into_iter().flatten() {
            if property.get("description").is_some() {
                with += 1;
            } else {
                without.push(format!("{name}.{field}"));
            }
        }
    }
    assert!(without.len() * 20 < with, "{with} fields described, not so {without:?}");
}
