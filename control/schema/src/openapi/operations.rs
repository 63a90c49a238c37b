//! The paths of a resource, and what can be done there.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::schemas::Definitions;
use super::{Flavor, Resource};

const JSON: &str = "application/json";
const OBJECTS: [&str; 3] = [JSON, "application/yaml", "application/vnd.kubernetes.protobuf"];
const STREAMS: [&str; 2] =
    ["application/json;stream=watch", "application/vnd.kubernetes.protobuf;stream=watch"];
const PATCHES: [&str; 4] = [
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];

/// Name, type, what it says.
type Parameter = (&'static str, &'static str, &'static str);

const PRETTY: Parameter = ("pretty", "string", "Print the output for people.");
const DRY_RUN: Parameter = ("dryRun", "string", "All: do everything but keep nothing.");
const MANAGER: Parameter = ("fieldManager", "string", "The name under which changed fields are managed.");
const VALIDATION: Parameter =
    ("fieldValidation", "string", "Ignore, Warn or Strict: what to do with unknown and duplicate fields.");
const FORCE: Parameter = ("force", "boolean", "Take over fields that others manage. Apply patches only.");
const DELETE: [Parameter; 5] = [
    DRY_RUN,
    ("gracePeriodSeconds", "integer", "How long the object may take to end."),
    ("ignoreStoreReadErrorWithClusterBreakingPotential", "boolean", "Delete also what can not be read."),
    ("orphanDependents", "boolean", "Deprecated: use propagationPolicy."),
    ("propagationPolicy", "string", "Orphan, Background or Foreground: what becomes of dependents."),
];
const LIST: [Parameter; 10] = [
    ("allowWatchBookmarks", "boolean", "Take BOOKMARK events."),
    ("continue", "string", "Where the last page ended."),
    ("fieldSelector", "string", "Only objects whose fields match."),
    ("labelSelector", "string", "Only objects whose labels match."),
    ("limit", "integer", "At most so many objects."),
    ("resourceVersion", "string", "How fresh the answer must be."),
    ("resourceVersionMatch", "string", "How resourceVersion is meant."),
    ("sendInitialEvents", "boolean", "Begin a watch with what is there."),
    ("timeoutSeconds", "integer", "End after so long."),
    ("watch", "boolean", "Follow changes instead of listing."),
];

/// Adds the paths of a resource.
pub(super) fn add(
    flavor: Flavor,
    resource: &Resource,
    definitions: &mut Definitions<'_>,
    paths: &mut BTreeMap<String, Value>,
) {
    let (name, sub) =
        resource.name.split_once('/').map_or((resource.name.as_ref(), ""), |(name, sub)| (name, sub));
    let base = if resource.namespaced {
        format!("/{}/namespaces/{{namespace}}/{name}", resource.root())
    } else {
        format!("/{}/{name}", resource.root())
    };
    let one = if sub.is_empty() { format!("{base}/{{name}}") } else { format!("{base}/{{name}}/{sub}") };
    let mut writer = Writer { flavor, resource, sub, definitions };
    for verb in resource.verbs.iter() {
        // a subresource is of one object, also when it is created
        let (path, method) = match *verb {
            "get" => (&one, "get"),
            "update" => (&one, "put"),
            "patch" => (&one, "patch"),
            "delete" => (&one, "delete"),
            "list" => (&base, "get"),
            "create" if sub.is_empty() => (&base, "post"),
            "create" => (&one, "post"),
            "deletecollection" => (&base, "delete"),
            _ => continue,
        };
        let Some(operation) = writer.operation(verb, resource.namespaced) else { continue };
        put(paths, flavor, path, method, operation);
    }
    if resource.namespaced && resource.verbs.contains(&"list") {
        let path = format!("/{}/{name}", resource.root());
        if let Some(operation) = writer.operation("list", false) {
            put(paths, flavor, &path, "get", operation);
        }
    }
}

fn put(paths: &mut BTreeMap<String, Value>, flavor: Flavor, path: &str, method: &str, operation: Value) {
    let entry = paths.entry(path.to_owned()).or_insert_with(|| {
        let mut parameters = Vec::new();
        for name in ["name", "namespace"] {
            if path.contains(&format!("{{{name}}}")) {
                let said = if name == "name" { "The object's name." } else { "The object's namespace." };
                let mut parameter = query(flavor, (name, "string", said));
                parameter["in"] = json!("path");
                parameter["required"] = json!(true);
                parameters.push(parameter);
            }
        }
        parameters.push(query(flavor, PRETTY));
        json!({ "parameters": parameters })
    });
    entry[method] = operation;
}

fn query(flavor: Flavor, (name, kind, said): Parameter) -> Value {
    let mut schema =
        Map::from_iter([("type".to_owned(), json!(kind)), ("uniqueItems".to_owned(), json!(true))]);
    let mut parameter = json!({"name": name, "in": "query", "description": said});
    match (flavor, parameter.as_object_mut()) {
        (Flavor::V2, Some(parameter)) => parameter.append(&mut schema),
        _ => parameter["schema"] = Value::Object(schema),
    }
    parameter
}

struct Writer<'w, 'd> {
    flavor: Flavor,
    resource: &'w Resource,
    sub: &'w str,
    definitions: &'w mut Definitions<'d>,
}

impl Writer<'_, '_> {
    fn operation(&mut self, verb: &str, namespaced: bool) -> Option<Value> {
        let Resource { kind, kind_group, kind_version, .. } = self.resource;
        let mut connects = false;
        let answer = match verb {
            "list" => self.definitions.kind(kind_group, kind_version, &format!("{kind}List"))?,
            "deletecollection" => self.definitions.kind(kind_group, kind_version, "Status")?,
            "delete" if kind != "Pod" => self.definitions.kind(kind_group, kind_version, "Status")?,
            _ if kind.ends_with("Options") => {
                connects = true;
                json!({"type": "string"})
            }
            _ => self.definitions.kind(kind_group, kind_version, kind)?,
        };
        let body = match verb {
            _ if connects => None,
            "create" | "update" => Some(answer.clone()),
            "patch" => {
                self.definitions.kind("meta.k8s.io", "v1", "Patch").or(Some(json!({"type": "object"})))
            }
            "delete" | "deletecollection" => self.definitions.kind("meta.k8s.io", "v1", "DeleteOptions"),
            _ => None,
        };
        let mut operation = json!({
            "tags": [self.tag()],
            "description": self.describe(verb),
            "operationId": self.id(verb, namespaced),
            "x-kubernetes-action": action(verb, connects),
            "x-kubernetes-group-version-kind": {"group": kind_group, "kind": kind, "version": kind_version},
        });
        let mut parameters: Vec<Value> = if connects {
            Vec::new()
        } else {
            parameters(verb).iter().map(|it| query(self.flavor, *it)).collect()
        };
        self.finish(&mut operation, verb, answer, body, &mut parameters);
        if !parameters.is_empty() {
            operation["parameters"] = Value::Array(parameters);
        }
        Some(operation)
    }

    fn finish(
        &self,
        operation: &mut Value,
        verb: &str,
        answer: Value,
        body: Option<Value>,
        parameters: &mut Vec<Value>,
    ) {
        let mut kinds = OBJECTS.to_vec();
        if verb == "list" {
            kinds.extend(STREAMS);
        }
        let takes: &[&str] = if verb == "patch" { &PATCHES } else { &["*/*"] };
        let mut responses = Map::new();
        let mut respond = |code: &str, said: &str| {
            let response = match self.flavor {
                Flavor::V2 => json!({"description": said, "schema": answer}),
                Flavor::V3 => {
                    let content: Map<String, Value> =
                        kinds.iter().map(|kind| ((*kind).to_owned(), json!({"schema": answer}))).collect();
                    json!({"description": said, "content": content})
                }
            };
            responses.insert(code.to_owned(), response);
        };
        respond("200", "OK");
        if matches!(verb, "create" | "update" | "patch") {
            respond("201", "Created");
        }
        if matches!(verb, "create" | "delete") {
            respond("202", "Accepted");
        }
        responses.insert("401".into(), json!({"description": "Unauthorized"}));
        operation["responses"] = Value::Object(responses);
        match (self.flavor, body) {
            (Flavor::V2, body) => {
                operation["consumes"] = json!(takes);
                operation["produces"] = json!(kinds);
                operation["schemes"] = json!(["https"]);
                if let Some(body) = body {
                    let needed = matches!(verb, "create" | "update" | "patch");
                    parameters
                        .insert(0, json!({"name": "body", "in": "body", "required": needed, "schema": body}));
                }
            }
            (Flavor::V3, Some(body)) => {
                let content: Map<String, Value> =
                    takes.iter().map(|kind| ((*kind).to_owned(), json!({"schema": body}))).collect();
                operation["requestBody"] = json!({ "content": content });
            }
            (Flavor::V3, None) => {}
        }
    }

    fn tag(&self) -> String {
        let group = self.resource.group.split('.').next().filter(|it| !it.is_empty()).unwrap_or("core");
        format!("{group}_{}", self.resource.version)
    }

    fn describe(&self, verb: &str) -> String {
        let of = if self.sub.is_empty() { String::new() } else { format!(" ({})", self.sub) };
        let kind = &self.resource.kind;
        match verb {
            "list" => format!("List or watch objects of kind {kind}."),
            "deletecollection" => format!("Delete objects of kind {kind}."),
            "get" => format!("Read one {kind}{of}."),
            "create" => format!("Create one {kind}{of}."),
            "update" => format!("Replace one {kind}{of}."),
            "patch" => format!("Patch one {kind}{of}."),
            _ => format!("Delete one {kind}{of}."),
        }
    }

    /// `createCoreV1NamespacedPod`, as client generators name their functions.
    fn id(&self, verb: &str, namespaced: bool) -> String {
        let verb = match verb {
            "get" => "read",
            "update" => "replace",
            "deletecollection" => "deleteCollection",
            other => other,
        };
        let group = self.resource.group.split('.').next().filter(|it| !it.is_empty()).unwrap_or("core");
        let scope = if namespaced { "Namespaced" } else { "" };
        let everywhere = if self.resource.namespaced && !namespaced { "ForAllNamespaces" } else { "" };
        let kind = &self.resource.kind;
        let of = if self.sub.is_empty() { String::new() } else { capital(self.sub) };
        format!("{verb}{}{}{scope}{kind}{of}{everywhere}", capital(group), capital(&self.resource.version))
    }
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

fn parameters(verb: &str) -> Vec<Parameter> {
    match verb {
        "create" | "update" => vec![DRY_RUN, MANAGER, VALIDATION],
        "patch" => vec![DRY_RUN, MANAGER, VALIDATION, FORCE],
        "delete" => DELETE.to_vec(),
        "deletecollection" => DELETE.iter().chain(&LIST[1..9]).copied().collect(),
        "list" => LIST.to_vec(),
        _ => Vec::new(),
    }
}

fn action(verb: &str, connects: bool) -> &str {
    match verb {
        _ if connects => "connect",
        "create" => "post",
        "update" => "put",
        other => other,
    }
}
