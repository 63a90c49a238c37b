use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};

use super::*;
use crate::json::{FieldValidation, conform};
use crate::testing::Values;
use crate::{lookup, table};

fn decoded(group: &str, kind: &str, value: Value) -> Value {
    conform(&lookup(group, "v1", kind).unwrap(), value, FieldValidation::Strict).unwrap().value
}

#[test]
fn every_kind_survives_the_way_through_protobuf() {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(ProptestConfig::default(), rng);
    for (group, version, kind) in table::roots() {
        let ty = lookup(group, version, kind).unwrap();
        for round in 0..12 {
            let raw = Values { rng: runner.rng(), tagged_only: true }.object(&ty, 2 + round % 4);
            let value = conform(&ty, raw.clone(), FieldValidation::Strict)
                .unwrap_or_else(|err| panic!("{}: {err}: {raw}", ty.name))
                .value;
            let again = conform(&ty, value.clone(), FieldValidation::Strict).unwrap().value;
            assert_eq!(again, value, "{}: reading twice", ty.name);

            let bytes = encode_with_version(&ty, &value);
            let mut back = decode(&ty, &bytes).unwrap();
            for key in ["kind", "apiVersion"] {
                if let Some(given) = value.get(key) {
                    back[key] = given.clone();
                }
            }
            assert_same(&ty.name, &back, &value);

            let splice = Splice {
                kind: value["kind"].as_str().unwrap_or_default(),
                api_version: value["apiVersion"].as_str().unwrap_or_default(),
                ..Splice::default()
            };
            let mut text = Vec::new();
            write_json(&ty, &bytes, splice, &mut text).unwrap();
            let printed: Value = serde_json::from_slice(&text).unwrap();
            let read = crate::json::decode(&ty, &text, FieldValidation::Strict).unwrap().value;
            assert_same(&ty.name, &read, &value);
            assert_eq!(encode_with_version(&ty, &printed), bytes, "{}: bytes of what was printed", ty.name);
        }
    }
}

#[track_caller]
fn assert_same(name: &str, got: &Value, want: &Value) {
    if let Some(path) = difference(got, want, String::new()) {
        panic!("{name}: {path}");
    }
}

#[test]
fn bytes_are_those_of_upstream() {
    // a pod as upstream's encoder lays it out, zero values left out
    let ty = lookup("", "v1", "Pod").unwrap();
    let pod = json!({"metadata": {"name": "a", "resourceVersion": "9"}, "spec": {"nodeName": "n", "hostNetwork": true}});
    assert_eq!(
        encode(&ty, &pod),
        [0x0a, 3, 0x0a, 1, b'a', 0x12, 5, 0x52, 1, b'n', 0x58, 1],
        "metadata{{name}}, spec{{nodeName, hostNetwork}}"
    );
    let inlined = json!({"spec": {"volumes": [{"name": "v", "hostPath": {"path": "/x"}}]}});
    assert_eq!(
        encode(&ty, &inlined),
        [0x12, 13, 0x0a, 11, 0x0a, 1, b'v', 0x12, 6, 0x0a, 4, 0x0a, 2, b'/', b'x']
    );
}

#[test]
fn json_shows_what_is_spliced_in() {
    let ty = lookup("apps", "v1", "StatefulSet").unwrap();
    let set = decoded(
        "apps",
        "StatefulSet",
        json!({"metadata": {"name": "a"}, "spec": {"volumeClaimTemplates": [{}]}}),
    );
    let splice = Splice { api_version: "apps/v1", kind: "StatefulSet", resource_version: "42" };
    let mut text = Vec::new();
    write_json(&ty, &encode(&ty, &set), splice, &mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    assert!(text.starts_with(
        r#"{"kind":"StatefulSet","apiVersion":"apps/v1","metadata":{"resourceVersion":"42","name":"a"},"#
    ));
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["spec"]["selector"], Value::Null);
    assert_eq!(value["spec"]["volumeClaimTemplates"][0]["kind"], "PersistentVolumeClaim");
    assert_eq!(value["status"], json!({"replicas": 0, "availableReplicas": 0}));
    let mut empty = Vec::new();
    write_json(&lookup("", "v1", "PodList").unwrap(), &[], Splice::default(), &mut empty).unwrap();
    assert_eq!(String::from_utf8(empty).unwrap(), r#"{"metadata":{},"items":[]}"#);
}

#[test]
fn fields_are_read_without_decoding() {
    let ty = lookup("", "v1", "Pod").unwrap();
    let bytes = encode(
        &ty,
        &json!({"metadata": {"name": "a", "namespace": "b", "uid": "u", "generation": 3, "labels": {"x": "1", "y": ""},
            "annotations": {"k": "v"}}, "spec": {"nodeName": "n", "hostNetwork": true, "priority": 7}}),
    );
    for (path, want) in [
        ("metadata.name", Some("a")),
        ("spec.nodeName", Some("n")),
        ("spec.hostNetwork", Some("true")),
        ("spec.priority", Some("7")),
        ("status.phase", None),
        ("spec", None),
        ("spec.nothing", None),
    ] {
        assert_eq!(read_str(&ty, &bytes, path).as_deref(), want, "{path}");
    }
    assert_eq!(labels(&bytes).collect::<Vec<_>>(), [("x", "1"), ("y", "")]);
    assert_eq!(annotations(&bytes).collect::<Vec<_>>(), [("k", "v")]);
    let meta = read_meta(&bytes);
    assert_eq!((meta.name, meta.namespace, meta.uid, meta.generation), ("a", "b", "u", 3));
    for (group, version, kind) in table::roots() {
        let ty = lookup(group, version, kind).unwrap();
        if let Some(meta) = ty.field("metadata").filter(|it| it.tag != 0) {
            assert_eq!(meta.tag, 1, "{}: metadata is field 1", ty.name);
        }
    }
}

#[test]
fn envelopes() {
    let ty = lookup("", "v1", "ConfigMap").unwrap();
    let raw = encode(&ty, &json!({"metadata": {"name": "a"}, "data": {"k": "v"}}));
    let framed = join_envelope("v1", "ConfigMap", &raw, "12");
    let envelope = split_envelope(&framed).unwrap();
    assert_eq!((envelope.api_version.as_str(), envelope.kind.as_str()), ("v1", "ConfigMap"));
    let value = decode(&ty, envelope.raw).unwrap();
    assert_eq!(value, json!({"metadata": {"name": "a", "resourceVersion": "12"}, "data": {"k": "v"}}));
    assert_eq!(split_envelope(b"{}"), Err(ProtoError::NoEnvelope));
    let frame = watch_frame("ADDED", &framed);
    assert_eq!(frame[..4], u32::try_from(frame.len() - 4).unwrap().to_be_bytes());
}

proptest! {
    #[test]
    fn garbage_is_refused_not_fatal(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let ty = lookup("", "v1", "Pod").unwrap();
        _ = decode(&ty, &bytes);
        _ = write_json(&ty, &bytes, Splice::default(), &mut Vec::new());
        _ = split_envelope(&bytes);
        _ = read_str(&ty, &bytes, "spec.nodeName");
        _ = labels(&bytes).count();
    }
}

/// Where two values first differ.
fn difference(got: &Value, want: &Value, path: String) -> Option<String> {
    match (got, want) {
        (Value::Object(left), Value::Object(right)) => left.keys().chain(right.keys()).find_map(|key| {
            difference(
                left.get(key).unwrap_or(&Value::Null),
                right.get(key).unwrap_or(&Value::Null),
                format!("{path}.{key}"),
            )
        }),
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => left
            .iter()
            .zip(right)
            .enumerate()
            .find_map(|(at, (left, right))| difference(left, right, format!("{path}[{at}]"))),
        _ => (got != want).then(|| format!("{path}: {got}, wanted {want}")),
    }
}
