//! The configuration as one document: files read strictly, merged, checked against the table, defaults filled in.

use std::path::{Path, PathBuf};

use coracle_apimachinery::GoDuration;
use serde_json::{Map, Value};

use super::ConfigurationError;
use super::fields::{FIELDS, Field, Kind, Use};

const API_VERSION: &str = "kubelet.config.k8s.io/v1beta1";
const KIND: &str = "KubeletConfiguration";

/// Reads `file`, then every `*.conf` below `dir` in the order of their paths, each over the ones before.
pub(super) fn read(file: Option<&Path>, dir: Option<&Path>) -> Result<Value, ConfigurationError> {
    let mut document = Value::Object(Map::new());
    for path in file.map(Path::to_owned).into_iter().chain(drop_ins(dir)?) {
        merge(&mut document, read_file(&path)?);
    }
    Ok(document)
}

fn read_file(path: &Path) -> Result<Value, ConfigurationError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigurationError::Read { path: path.to_owned(), source })?;
    let value: Value = serde_saphyr::from_str(&text)
        .map_err(|err| ConfigurationError::Syntax { path: path.to_owned(), message: err.to_string() })?;
    let text_of = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default();
    if (text_of("apiVersion"), text_of("kind")) != (API_VERSION, KIND) {
        let found = format!("{}/{}", text_of("apiVersion"), text_of("kind"));
        return Err(ConfigurationError::WrongKind { path: path.to_owned(), found });
    }
    let mut fields = Vec::new();
    unknown(&value, FIELDS, "", &mut fields);
    if fields.is_empty() {
        Ok(value)
    } else {
        Err(ConfigurationError::UnknownFields { path: path.to_owned(), fields })
    }
}

fn drop_ins(dir: Option<&Path>) -> Result<Vec<PathBuf>, ConfigurationError> {
    let mut found = Vec::new();
    let mut queue: Vec<PathBuf> = dir.map(Path::to_owned).into_iter().collect();
    while let Some(dir) = queue.pop() {
        let failed = |source| ConfigurationError::Read { path: dir.clone(), source };
        for entry in std::fs::read_dir(&dir).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.is_dir() {
                queue.push(path);
            } else if path.extension().is_some_and(|it| it == "conf") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Maps are merged, all else is replaced.
pub(super) fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (_, Value::Null) => {}
        (into, from) => *into = from,
    }
}

fn unknown(value: &Value, fields: &[Field], at: &str, found: &mut Vec<String>) {
    for (key, value) in value.as_object().into_iter().flatten() {
        let path = join(at, key);
        match fields.iter().find(|it| it.name == key).map(|it| it.kind) {
            None => found.push(path),
            Some(Kind::Object(inner)) => unknown(value, inner, &path, found),
            Some(Kind::Objects(inner)) => {
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    unknown(item, inner, &format!("{path}[{index}]"), found);
                }
            }
            Some(_) => {}
        }
    }
}

/// Checks types, fills in defaults, and says what is refused and what has no effect.
pub(super) fn complete(document: &mut Value) -> Result<Vec<String>, ConfigurationError> {
    let mut outcome = Outcome::default();
    complete_object(document, FIELDS, "", &mut outcome)?;
    if let Some(object) = document.as_object_mut() {
        object.insert("apiVersion".to_owned(), API_VERSION.into());
        object.insert("kind".to_owned(), KIND.into());
    }
    if outcome.refused.is_empty() {
        Ok(outcome.warnings)
    } else {
        Err(ConfigurationError::NotSupported(outcome.refused))
    }
}

#[derive(Default)]
struct Outcome {
    refused: Vec<(String, String)>,
    warnings: Vec<String>,
}

fn complete_object(
    document: &mut Value,
    fields: &[Field],
    at: &str,
    outcome: &mut Outcome,
) -> Result<(), ConfigurationError> {
    if document.is_null() {
        *document = Value::Object(Map::new());
    }
    let found = document.to_string();
    let Some(object) = document.as_object_mut() else {
        return Err(ConfigurationError::WrongType { field: at.to_owned(), want: "object", found });
    };
    for field in fields {
        let path = join(at, field.name);
        let default: Option<Value> = serde_json::from_str(field.default).ok();
        let given = object.get(field.name).filter(|it| !it.is_null()).cloned();
        let given = given.filter(|it| !is_zero_duration(field.kind, it) && !is_unsaid(field, it));
        let Some(mut value) = given.clone().or_else(|| default.clone()) else {
            object.remove(field.name);
            continue;
        };
        check_type(&mut value, field.kind, &path, outcome)?;
        if let (Some(given), false) = (&given, field.then == Use::Honoured) {
            let told = default.as_ref().is_none_or(|it| !same(it, given)) && !is_empty(given);
            match field.then {
                Use::Refused if told && !matches!(field.kind, Kind::Object(_)) => {
                    outcome.refused.push((path.clone(), given.to_string()));
                }
                Use::Legacy if told && !says_nothing(given) => {
                    outcome.warnings.push(format!("{path} has no effect on this kubelet"))
                }
                Use::Refused | Use::Legacy | Use::Honoured => {}
            }
        }
        object.insert(field.name.to_owned(), value);
    }
    Ok(())
}

fn check_type(
    value: &mut Value,
    kind: Kind,
    path: &str,
    outcome: &mut Outcome,
) -> Result<(), ConfigurationError> {
    let wrong = |want: &'static str, found: &Value| {
        Err(ConfigurationError::WrongType { field: path.to_owned(), want, found: found.to_string() })
    };
    let strings = |it: &Value| it.as_array().is_some_and(|it| it.iter().all(Value::is_string));
    let map_of =
        |it: &Value, of: &dyn Fn(&Value) -> bool| it.as_object().is_some_and(|it| it.values().all(of));
    match kind {
        Kind::Bool if !value.is_boolean() => wrong("a boolean", value),
        Kind::Int if value.as_i64().is_none() => wrong("a whole number", value),
        Kind::Float if !value.is_number() => wrong("a number", value),
        Kind::Text if !value.is_string() => wrong("a string", value),
        Kind::Texts if !strings(value) => wrong("a list of strings", value),
        Kind::Ints if !value.as_array().is_some_and(|it| it.iter().all(Value::is_i64)) => {
            wrong("a list of numbers", value)
        }
        Kind::Map if !map_of(value, &Value::is_string) => wrong("a map of strings", value),
        Kind::Switches if !map_of(value, &Value::is_boolean) => wrong("a map of booleans", value),
        Kind::ListMap if !map_of(value, &strings) => wrong("a map of lists of strings", value),
        Kind::Duration => match value.as_str().map(GoDuration::parse) {
            Some(Ok(_)) => Ok(()),
            _ => wrong("a duration such as 1m30s", value),
        },
        Kind::Object(inner) => complete_object(value, inner, path, outcome),
        Kind::Objects(inner) => {
            let found = value.to_string();
            let Some(items) = value.as_array_mut() else {
                return Err(ConfigurationError::WrongType { field: path.to_owned(), want: "a list", found });
            };
            for (index, item) in items.iter_mut().enumerate() {
                complete_object(item, inner, &format!("{path}[{index}]"), outcome)?;
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Nor can it tell an empty text from an absent one; of `resolvConf` it can, where empty says that there is none.
fn is_unsaid(field: &Field, value: &Value) -> bool {
    matches!(field.kind, Kind::Text) && field.name != "resolvConf" && value.as_str() == Some("")
}

/// Go cannot tell a zero duration from an absent one, and tools write it for "default".
fn is_zero_duration(kind: Kind, value: &Value) -> bool {
    matches!(kind, Kind::Duration)
        && value
            .as_str()
            .and_then(|it| GoDuration::parse(it).ok())
            .is_some_and(|it| it.as_duration().is_zero())
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// Whether it is only zeros all the way down, as Go programs write what nobody has set.
fn says_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.iter().all(says_nothing),
        Value::Object(map) => map.values().all(says_nothing),
        Value::Bool(it) => !it,
        Value::Number(it) => it.as_f64() == Some(0.0),
        Value::String(it) => matches!(it.as_str(), "" | "0" | "0s"),
    }
}

fn same(a: &Value, b: &Value) -> bool {
    let nanos = |it: &Value| it.as_str().and_then(|it| GoDuration::parse(it).ok()).map(|it| it.as_duration());
    a == b || (nanos(a).is_some() && nanos(a) == nanos(b))
}

fn join(at: &str, name: &str) -> String {
    if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(files: &[(&str, &str)]) -> Result<Value, ConfigurationError> {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join("conf").join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            let head = format!("apiVersion: {API_VERSION}\nkind: {KIND}\n");
            std::fs::write(path, head + text).unwrap();
        }
        let mut document = read(None, Some(&dir.path().join("conf")))?;
        complete(&mut document)?;
        Ok(document)
    }

    #[test]
    fn what_kubeadm_writes_of_logging_is_no_news() {
        let warned = |text: &str| complete(&mut serde_saphyr::from_str(text).unwrap()).unwrap();
        let zeros = "logging: {flushFrequency: 0, options: {json: {infoBufferSize: \"0\"}}, verbosity: 0}";
        assert_eq!(warned(zeros), Vec::<String>::new());
        assert_eq!(warned("logging: {verbosity: 4}"), ["logging has no effect on this kubelet"]);
    }

    fn refuse(text: &str, want: &str) {
        let got = load(&[("a.conf", text)]).unwrap_err().to_string();
        assert!(got.ends_with(want), "{text:?}: {got}");
    }

    #[test]
    fn every_field_has_a_default_of_its_own_type() {
        let mut document = Value::Null;
        assert_eq!(complete(&mut document).unwrap(), Vec::<String>::new());
        assert_eq!(document["authorization"]["webhook"]["cacheUnauthorizedTTL"], "30s");
        assert_eq!(FIELDS.len(), 2 + 125);
    }

    #[test]
    fn what_is_not_known_or_not_done_is_refused_by_name() {
        refuse("maxPodz: 3", r#"strict decoding error: unknown field "maxPodz""#);
        refuse("authentication: {x509: {ca: 1}}", r#"unknown field "authentication.x509.ca""#);
        refuse("registerWithTaints: [{keey: a}]", r#"unknown field "registerWithTaints[0].keey""#);
        refuse("maxPods: many", r#"maxPods: expected a whole number, found "many""#);
        refuse("syncFrequency: 10", "syncFrequency: expected a duration such as 1m30s, found 10");
        refuse("cpuManagerPolicy: static", r#"cpuManagerPolicy: "static" is not supported by this kubelet"#);
        refuse(
            "memorySwap: {swapBehavior: LimitedSwap}",
            r#"memorySwap.swapBehavior: "LimitedSwap" is not supported by this kubelet"#,
        );
        refuse("tracing: {endpoint: x}", r#"tracing: {"endpoint":"x"} is not supported by this kubelet"#);
        refuse("maxPods: 1\nmaxPods: 2", "");
    }

    #[test]
    fn drop_ins_go_over_each_other_in_the_order_of_their_names() {
        let document = load(&[
            (
                "10.conf",
                "maxPods: 1\nsystemReserved: {cpu: 100m, memory: 1Gi}\nclusterDNS: [10.0.0.1, 10.0.0.2]",
            ),
            ("20/a.conf", "maxPods: 2\nsystemReserved: {cpu: 200m}\nclusterDNS: [10.0.0.3]"),
            ("30.txt", "maxPods: 3"),
        ])
        .unwrap();
        assert_eq!(document["maxPods"], 2);
        assert_eq!(document["systemReserved"], serde_json::json!({"cpu": "200m", "memory": "1Gi"}));
        assert_eq!(document["clusterDNS"], serde_json::json!(["10.0.0.3"]));
    }

    #[test]
    fn zero_durations_and_defaults_spelt_out_are_accepted() {
        let text = "syncFrequency: 0s\nshutdownGracePeriod: 0s\ncpuManagerReconcilePeriod: 0s\nmemorySwap: {}\n\
                    cpuManagerPolicy: none\nimageMaximumGCAge: 0s\nevictionSoft: {}\nreadOnlyPort: 0";
        assert_eq!(load(&[("a.conf", text)]).unwrap()["syncFrequency"], "1m0s");
    }
}
