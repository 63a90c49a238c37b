//! The roles and bindings that exist from the first start.
//!
//! `bootstrap.txt` is the table. [`objects`] makes whole objects of it, which the server creates when they are missing
//! and completes (see [`reconciled`]) when they have lost rules or subjects.

use serde_json::{Map, Value, json};

use super::rbac::{PolicyRule, Subject};

const TABLE: &str = include_str!("bootstrap.txt");
const GROUP: &str = "rbac.authorization.k8s.io";
const AGGREGATE: &str = "rbac.authorization.k8s.io/aggregate-to-";
/// Set to `false` on an object to keep the server from restoring it.
const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

/// A role of the table with its binding.
#[derive(Debug, Default)]
struct Entry {
    namespace: String,
    name: String,
    aggregates: Option<String>,
    part_of: Option<String>,
    rules: Vec<PolicyRule>,
    binding: Option<String>,
    subjects: Vec<Subject>,
}

/// An object to be there after start.
#[derive(Debug, Clone)]
pub struct BootstrapObject {
    /// Plural of its kind: `clusterroles`, `clusterrolebindings`, `roles`, `rolebindings`.
    pub resource: &'static str,
    /// Its namespace, or empty.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The object, with apiVersion and kind.
    pub object: Value,
}

/// Every default role and binding, roles before bindings.
pub fn objects() -> Vec<BootstrapObject> {
    let entries = parse(TABLE);
    let roles = entries.iter().map(|entry| role_object(entry, &entries));
    let bindings = entries.iter().filter_map(binding_object);
    roles.chain(bindings).collect()
}

/// The rules of a node, as the table has them for `system:node`.
pub(super) fn node_rules() -> Vec<PolicyRule> {
    parse(TABLE).into_iter().find(|entry| entry.name == "system:node").map(|it| it.rules).unwrap_or_default()
}

/// What an existing object has to become, when it lacks rules or subjects of the default one; `None` when nothing is
/// missing or the object opts out.
pub fn reconciled(existing: &Value, default: &Value) -> Option<Value> {
    let annotation =
        existing.get("metadata").and_then(|it| it.get("annotations")).and_then(|it| it.get(AUTOUPDATE));
    if annotation.and_then(Value::as_str) == Some("false") {
        return None;
    }
    let mut wanted = existing.clone();
    let list = if default.get("rules").is_some() { "rules" } else { "subjects" };
    // Rules of an aggregating role are computed from its parts.
    if default.get("aggregationRule").is_none() {
        let mut items = existing.get(list).and_then(Value::as_array).cloned().unwrap_or_default();
        for item in default.get(list).and_then(Value::as_array).into_iter().flatten() {
            if !items.contains(item) {
                items.push(item.clone());
            }
        }
        if !items.is_empty() {
            wanted[list] = Value::Array(items);
        }
    } else {
        wanted["aggregationRule"] = default["aggregationRule"].clone();
    }
    for key in ["labels", "annotations"] {
        for (name, value) in default["metadata"][key].as_object().into_iter().flatten() {
            wanted["metadata"][key][name] = value.clone();
        }
    }
    (wanted != *existing).then_some(wanted)
}

fn parse(table: &str) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    for line in table.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(head) = line.strip_prefix("role ") {
            entries.push(head_of(head));
        } else if let Some(entry) = entries.last_mut() {
            add_line(entry, line);
        }
    }
    entries
}

fn head_of(head: &str) -> Entry {
    let mut words = head.split(' ');
    let full = words.next().unwrap_or_default();
    let (namespace, name) = full.split_once('/').unwrap_or(("", full));
    let mut entry = Entry { namespace: namespace.to_owned(), name: name.to_owned(), ..Entry::default() };
    for word in words {
        if let Some(value) = word.strip_prefix("aggregates=") {
            entry.aggregates = Some(value.to_owned());
        } else if let Some(value) = word.strip_prefix("part-of=") {
            entry.part_of = Some(value.to_owned());
        }
    }
    entry
}

fn add_line(entry: &mut Entry, line: &str) {
    if let Some(name) = line.strip_prefix("=> ") {
        entry.binding = Some(name.to_owned());
    } else if let Some(subject) = line.strip_prefix("-> ") {
        entry.binding.get_or_insert_with(|| entry.name.clone());
        entry.subjects.extend(subject_of(subject));
    } else if let Some((verbs, paths)) = line.split_once(" @ ") {
        let rule =
            PolicyRule { verbs: split(verbs), non_resource_urls: split(paths), ..PolicyRule::default() };
        entry.rules.push(rule);
    } else if let Some((verbs, rest)) = line.split_once(' ')
        && let Some((groups, resources)) = rest.split_once(": ")
    {
        let (resources, names) = resources.split_once(" = ").unwrap_or((resources, ""));
        entry.rules.push(PolicyRule {
            verbs: split(verbs),
            api_groups: split(groups)
                .into_iter()
                .map(|it| if it == "core" { String::new() } else { it })
                .collect(),
            resources: split(resources),
            resource_names: split(names),
            non_resource_urls: Vec::new(),
        });
    }
}

fn split(list: &str) -> Vec<String> {
    list.split(',').filter(|it| !it.is_empty()).map(str::to_owned).collect()
}

fn subject_of(text: &str) -> Option<Subject> {
    let (kind, name) = text.split_once(' ')?;
    let account = (kind == "ServiceAccount").then(|| name.split_once('/')).flatten();
    let (namespace, name) = account.unwrap_or(("", name));
    Some(Subject {
        kind: kind.to_owned(),
        api_group: if account.is_some() { String::new() } else { GROUP.to_owned() },
        name: name.to_owned(),
        namespace: namespace.to_owned(),
    })
}

fn metadata(entry: &Entry, name: &str) -> Map<String, Value> {
    let mut metadata = Map::new();
    metadata.insert("name".to_owned(), json!(name));
    if !entry.namespace.is_empty() {
        metadata.insert("namespace".to_owned(), json!(entry.namespace));
    }
    metadata.insert("labels".to_owned(), json!({"kubernetes.io/bootstrapping": "rbac-defaults"}));
    metadata.insert("annotations".to_owned(), json!({ AUTOUPDATE: "true" }));
    metadata
}

fn role_object(entry: &Entry, all: &[Entry]) -> BootstrapObject {
    let (resource, kind) =
        if entry.namespace.is_empty() { ("clusterroles", "ClusterRole") } else { ("roles", "Role") };
    let mut metadata = metadata(entry, &entry.name);
    if let Some(part_of) = &entry.part_of
        && let Some(labels) = metadata.get_mut("labels")
    {
        labels[format!("{AGGREGATE}{part_of}")] = json!("true");
    }
    let mut object = json!({
        "apiVersion": format!("{GROUP}/v1"), "kind": kind, "metadata": metadata, "rules": entry.rules,
    });
    if let Some(target) = &entry.aggregates {
        object["aggregationRule"] =
            json!({"clusterRoleSelectors": [{"matchLabels": {format!("{AGGREGATE}{target}"): "true"}}]});
        object["rules"] = json!(aggregated(target, all));
    }
    let (namespace, name) = (entry.namespace.clone(), entry.name.clone());
    BootstrapObject { resource, namespace, name, object }
}

fn aggregated(target: &str, all: &[Entry]) -> Vec<PolicyRule> {
    let mut rules: Vec<PolicyRule> = Vec::new();
    for part in all.iter().filter(|it| it.part_of.as_deref() == Some(target)) {
        let nested = part.aggregates.as_deref().map(|target| aggregated(target, all));
        for rule in nested.as_ref().unwrap_or(&part.rules) {
            if !rules.contains(rule) {
                rules.push(rule.clone());
            }
        }
    }
    rules
}

fn binding_object(entry: &Entry) -> Option<BootstrapObject> {
    let name = entry.binding.clone()?;
    let cluster = entry.namespace.is_empty();
    let (resource, kind) =
        if cluster { ("clusterrolebindings", "ClusterRoleBinding") } else { ("rolebindings", "RoleBinding") };
    let mut object = json!({
        "apiVersion": format!("{GROUP}/v1"),
        "kind": kind,
        "metadata": metadata(entry, &name),
        "roleRef": {
            "apiGroup": GROUP, "kind": if cluster { "ClusterRole" } else { "Role" }, "name": entry.name,
        },
    });
    if !entry.subjects.is_empty() {
        object["subjects"] = json!(entry.subjects);
    }
    Some(BootstrapObject { resource, namespace: entry.namespace.clone(), name, object })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_every_default_role_and_binding() {
        let objects = objects();
        let count = |resource| objects.iter().filter(|it| it.resource == resource).count();
        assert_eq!(
            ["clusterroles", "clusterrolebindings", "roles", "rolebindings"].map(count),
            [70, 52, 7, 7]
        );
        for it in &objects {
            let rules = it.object.get("rules").and_then(Value::as_array);
            assert!(rules.is_none_or(|rules| !rules.is_empty()), "{} has no rules", it.name);
        }
    }

    #[test]
    fn admin_aggregates_edit_and_view() {
        let objects = objects();
        let rules = |name: &str| {
            let role = objects.iter().find(|it| it.resource == "clusterroles" && it.name == name).unwrap();
            role.object["rules"].as_array().unwrap().clone()
        };
        let admin = rules("admin");
        for part in ["edit", "view", "system:aggregate-to-admin", "system:aggregate-to-edit"] {
            assert!(rules(part).iter().all(|rule| admin.contains(rule)), "{part}");
        }
        assert_eq!(admin.len(), 29);
    }

    #[test]
    fn a_lost_subject_comes_back_unless_the_object_opts_out() {
        let default = objects()
            .into_iter()
            .find(|it| it.name == "system:discovery" && it.resource == "clusterrolebindings")
            .unwrap()
            .object;
        assert_eq!(reconciled(&default, &default), None);
        let mut lost = default.clone();
        lost["subjects"] = json!([{"kind": "User", "name": "extra"}]);
        let fixed = reconciled(&lost, &default).unwrap();
        assert_eq!(fixed["subjects"].as_array().unwrap().len(), 2);
        lost["metadata"]["annotations"][AUTOUPDATE] = json!("false");
        assert_eq!(reconciled(&lost, &default), None);
    }
}
