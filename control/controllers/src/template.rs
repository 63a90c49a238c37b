//! Pod templates: compared, hashed, made into pods. Controllers look at nothing else inside them.

use coracle_apimachinery::hash::fnv64a;
use coracle_client::views::OwnerRef;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The label that tells the pods of one ReplicaSet of a Deployment from those of another.
pub(crate) const HASH_LABEL: &str = "pod-template-hash";

/// A pod template as the text it came as, with a fingerprint that ignores [`HASH_LABEL`].
#[derive(Debug, Clone)]
pub(crate) struct Template {
    raw: Box<RawValue>,
    fingerprint: u64,
    labels: BTreeMap<String, String>,
}

impl Default for Template {
    fn default() -> Self {
        Self::of(&json!({}))
    }
}

impl<'de> Deserialize<'de> for Template {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        Ok(Self::new(raw))
    }
}

impl Template {
    pub(crate) fn of(value: &Value) -> Self {
        let raw = serde_json::value::to_raw_value(value).expect("a Value is always valid JSON");
        Self::new(raw)
    }

    fn new(raw: Box<RawValue>) -> Self {
        let value: Value = serde_json::from_str(raw.get()).unwrap_or_default();
        let labels = value["metadata"]["labels"].as_object();
        let labels =
            labels.into_iter().flatten().filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned())));
        Self { fingerprint: fnv64a(canonical(&value).as_bytes()), labels: labels.collect(), raw }
    }

    /// The template as a tree.
    pub(crate) fn value(&self) -> Value {
        serde_json::from_str(self.raw.get()).unwrap_or_default()
    }

    /// Labels of the pods made of it.
    pub(crate) const fn labels(&self) -> &BTreeMap<String, String> {
        &self.labels
    }

    /// Whether both make the same pods, [`HASH_LABEL`] aside.
    pub(crate) fn same_as(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint && canonical(&self.value()) == canonical(&other.value())
    }

    /// The value of [`HASH_LABEL`] for it.
    pub(crate) fn hash(&self, collision_count: Option<i32>) -> String {
        coracle_apimachinery::pod_template_hash(canonical(&self.value()).as_bytes(), collision_count)
    }

    /// The template with [`HASH_LABEL`] set, and with it alone changed.
    pub(crate) fn with_hash(&self, hash: &str) -> Value {
        let mut value = self.value();
        value["metadata"]["labels"][HASH_LABEL] = hash.into();
        value
    }

    /// A pod of `owner`, with a name the server completes.
    pub(crate) fn pod(&self, name_prefix: &str, owner: &OwnerRef) -> Value {
        let mut value = self.value();
        let mut metadata = Map::new();
        for field in ["labels", "annotations", "finalizers"] {
            if let Some(it) = value["metadata"].get_mut(field).filter(|it| !it.is_null()) {
                metadata.insert(field.to_owned(), it.take());
            }
        }
        metadata.insert("generateName".to_owned(), name_prefix.into());
        metadata.insert("ownerReferences".to_owned(), json!([owner]));
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": value["spec"].take()})
    }
}

/// A text that is equal for equal templates whatever their order of fields: sorted, without nulls, empty
/// metadata and [`HASH_LABEL`]. It goes into names of objects, so it must not depend on how a Value is stored.
fn canonical(template: &Value) -> String {
    let mut out = String::new();
    let metadata = &template["metadata"];
    for part in ["annotations", "finalizers"] {
        write(&metadata[part], &mut out);
    }
    let labels: BTreeMap<_, _> =
        metadata["labels"].as_object().into_iter().flatten().filter(|(key, _)| *key != HASH_LABEL).collect();
    for (key, value) in labels {
        let _ = write!(out, "{key:?}={value};");
    }
    write(&template["spec"], &mut out);
    out
}

fn write(value: &Value, out: &mut String) {
    match value {
        Value::Object(fields) => {
            let sorted: BTreeMap<_, _> = fields.iter().filter(|(_, value)| !value.is_null()).collect();
            out.push('{');
            for (key, value) in sorted {
                let _ = write!(out, "{key:?}:");
                write(value, out);
                out.push(',');
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for item in items {
                write(item, out);
                out.push(',');
            }
            out.push(']');
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            let _ = write!(out, "{value}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(text: &str) -> Template {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn sameness_ignores_the_hash_label_order_and_nulls() {
        let a = template(r#"{"metadata":{"labels":{"app":"x"}},"spec":{"a":1,"b":[1,2]}}"#);
        let check = |other: &str, same: bool| assert_eq!(a.same_as(&template(other)), same, "{other}");
        check(
            r#"{"spec":{"b":[1,2],"a":1},"metadata":{"labels":{"pod-template-hash":"h","app":"x"}}}"#,
            true,
        );
        check(
            r#"{"metadata":{"labels":{"app":"x"},"creationTimestamp":null},"spec":{"a":1,"b":[1,2],"c":null}}"#,
            true,
        );
        check(r#"{"metadata":{"labels":{"app":"x"}},"spec":{"a":1,"b":[2,1]}}"#, false);
        check(r#"{"metadata":{"labels":{"app":"y"}},"spec":{"a":1,"b":[1,2]}}"#, false);
    }

    #[test]
    fn the_hash_is_stable_over_releases() {
        let a = template(r#"{"metadata":{"labels":{"app":"x"}},"spec":{"a":1}}"#);
        assert_eq!(a.hash(None), template(&a.with_hash("q").to_string()).hash(None));
        assert_ne!(a.hash(None), a.hash(Some(1)));
        // Changing this value would roll every Deployment out again after an update of ours.
        assert_eq!(a.hash(None), "b9db89dcb");
    }

    #[test]
    fn a_pod_has_the_templates_metadata_and_its_owner() {
        let a = template(r#"{"metadata":{"labels":{"app":"x"},"name":"no"},"spec":{"nodeName":"n"}}"#);
        let pod = a.pod("web-", &OwnerRef { uid: "u".into(), ..OwnerRef::default() });
        assert_eq!(pod["metadata"]["generateName"], "web-");
        assert_eq!(pod["metadata"]["labels"]["app"], "x");
        assert_eq!(pod["metadata"]["ownerReferences"][0]["uid"], "u");
        assert!(pod["metadata"].get("name").is_none());
        assert_eq!(pod["spec"]["nodeName"], "n");
    }
}
