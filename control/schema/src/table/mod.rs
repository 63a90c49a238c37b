//! The built-in types: a text, indexed on first use, each type read when it is first asked for.
//!
//! `api.txt` is written by `hack/gen-schema`. A line that starts at the margin opens a message: its name, then marks
//! (`k`: a root with kind and apiVersion, `a`: atomic). The indented lines after it are its fields: JSON name (empty:
//! inlined), protobuf number, flags (`o`mitempty, `p`ointer, omit`z`ero, `r`equired, `i`nline), type (`[]x` list,
//! `{}x` map), then attributes.

mod groups; // packages of the table and the API groups they stand for
mod parse; // one message out of its lines

use std::sync::{LazyLock, OnceLock};

use crate::types::{Field, Kind, Shape, Type, TypeRef};

pub use groups::{definition_name, group_of, package_of};

static TEXT: &str = include_str!("api.txt");

/// The table as it is written.
pub(crate) fn text() -> &'static str {
    TEXT
}

struct Entry {
    name: &'static str,
    marks: &'static str,
    fields: &'static str,
    built: OnceLock<Type>,
}

static INDEX: LazyLock<Box<[Entry]>> = LazyLock::new(index);

fn index() -> Box<[Entry]> {
    let mut entries: Vec<Entry> = Vec::with_capacity(1024);
    let mut rest = TEXT;
    while !rest.is_empty() {
        let (head, tail) = rest.split_once('\n').unwrap_or((rest, ""));
        let mut end = 0;
        while tail[end..].starts_with('\t') {
            end += tail[end..].find('\n').map_or(tail.len() - end, |at| at + 1);
        }
        let (name, marks) = head.split_once('\t').unwrap_or((head, ""));
        entries.push(Entry { name, marks, fields: &tail[..end], built: OnceLock::new() });
        rest = &tail[end..];
    }
    entries.into_boxed_slice()
}

/// The type at a place of the table.
pub(crate) fn at(place: u16) -> &'static Type {
    let entry = &INDEX[usize::from(place)];
    entry.built.get_or_init(|| parse::message(entry.name, entry.marks, entry.fields))
}

/// The place of the message of this name.
fn place(name: &str) -> Option<u16> {
    let at = INDEX.binary_search_by(|entry| entry.name.cmp(name)).ok()?;
    u16::try_from(at).ok()
}

/// The message of this table name (`core/v1.PodSpec`).
pub fn message(name: &str) -> Option<TypeRef> {
    place(name).map(TypeRef::Builtin)
}

/// The message of a JSON schema, which the `JSONSchemaPropsOr...` kinds hold.
pub(crate) fn json_schema() -> &'static Type {
    static PLACE: LazyLock<u16> = LazyLock::new(|| place(JSON_SCHEMA).unwrap_or_default());
    at(*PLACE)
}

const JSON_SCHEMA: &str = "apiextensions/v1.JSONSchemaProps";

/// A field that holds a list of JSON schemas.
pub(crate) fn json_schema_list() -> &'static Field {
    static FIELD: LazyLock<Field> = LazyLock::new(|| Field {
        tag: 2,
        shape: Shape::List,
        kind: message(JSON_SCHEMA).map(Kind::Message).unwrap_or_default(),
        ..Field::default()
    });
    &FIELD
}

/// Every root kind of the table as (group, version, kind), in the table's order.
pub fn roots() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    INDEX.iter().filter(|entry| entry.marks.contains('k')).filter_map(|entry| {
        let (package, rest) = entry.name.split_once('/')?;
        let (version, kind) = rest.split_once('.')?;
        Some((group_of(package), version, kind))
    })
}

/// The type of a kind. Options, Status and the like, which every group has, are found under any group.
pub fn lookup(group: &str, version: &str, kind: &str) -> Option<TypeRef> {
    let found = package_of(group).and_then(|package| message(&format!("{package}/{version}.{kind}")));
    found
        .or_else(|| groups::is_everywhere(kind).then(|| message(&format!("meta/v1.{kind}"))).flatten())
        .filter(|ty| ty.is_root || groups::is_everywhere(kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_can_be_read_and_knows_its_types() {
        for (place, entry) in INDEX.iter().enumerate() {
            let ty = at(u16::try_from(place).unwrap());
            assert_eq!(ty.name, entry.name);
            let mut fields = 0;
            ty.each_field(&mut |_| fields += 1);
            assert_eq!(fields, ty.width, "{}", ty.name);
            assert!(ty.width <= 64, "{}: more fields than the writers keep count of", ty.name);
        }
        assert!(INDEX.windows(2).all(|pair| pair[0].name < pair[1].name), "sorted");
        assert!(INDEX.len() > 900);
    }

    #[test]
    fn kinds_are_found() {
        for (group, version, kind) in [
            ("", "v1", "Pod"),
            ("apps", "v1", "Deployment"),
            ("rbac.authorization.k8s.io", "v1", "ClusterRole"),
            ("apiregistration.k8s.io", "v1", "APIService"),
            ("apiextensions.k8s.io", "v1", "CustomResourceDefinition"),
            ("flowcontrol.apiserver.k8s.io", "v1", "FlowSchema"),
            ("apps", "v1", "DeleteOptions"),
            ("", "v1", "Status"),
            ("", "v1", "List"),
            ("policy", "v1", "Eviction"),
            ("autoscaling", "v2", "HorizontalPodAutoscaler"),
            ("meta.k8s.io", "v1", "Table"),
        ] {
            assert!(lookup(group, version, kind).is_some(), "{group}/{version} {kind}");
        }
        assert!(lookup("", "v1", "PodSpec").is_none());
        assert!(lookup("apps", "v1", "Pod").is_none());
        assert!(lookup("no", "v1", "Pod").is_none());
    }

    #[test]
    fn marks_are_read() {
        let pod = lookup("", "v1", "Pod").unwrap();
        let spec = pod.field("spec").unwrap().message().unwrap();
        let containers = spec.field("containers").unwrap();
        assert_eq!((containers.shape, containers.tag), (Shape::List, 2));
        assert_eq!(containers.keys.as_ref(), ["name"]);
        assert_eq!(containers.merge_key.as_deref(), Some("name"));
        let volumes = spec.field("volumes").unwrap();
        assert!(volumes.patch.merge && volumes.patch.retain_keys);
        let volume = volumes.message().unwrap();
        assert!(volume.field("hostPath").is_some(), "inlined fields are found");
        assert!(matches!(volume.field("name").unwrap().kind, Kind::String));
        assert!(spec.field("nodeSelector").unwrap().is_atomic());
        assert_eq!(pod.items().map(|ty| ty.name.clone()), None);
        assert_eq!(lookup("", "v1", "PodList").unwrap().items().unwrap().name, "core/v1.Pod");
    }
}
