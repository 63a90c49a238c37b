use serde_json::{Value, json};

use super::*;
use crate::{lookup, yaml};

fn pod(text: &str, validation: FieldValidation) -> Result<Decoded, DecodeError> {
    decode(&lookup("", "v1", "Pod").unwrap(), text.as_bytes(), validation)
}

/// Reads the pod spec inside of `text` and shows it, or the error.
#[track_caller]
fn check(spec: &str, want: &str) {
    let text = format!(r#"{{"spec":{spec}}}"#);
    let got = match pod(&text, FieldValidation::Strict) {
        Ok(decoded) => decoded.value["spec"].to_string(),
        Err(err) => format!("error: {err}"),
    };
    assert_eq!(got, want);
}

#[test]
fn values_come_out_as_go_prints_them() {
    check(r#"{}"#, r#"{}"#);
    check(r#"{"restartPolicy":"","hostNetwork":false,"priority":0,"volumes":[]}"#, r#"{"priority":0}"#);
    check(r#"{"nodeSelector":{"a":null},"tolerations":null}"#, r#"{"nodeSelector":{"a":""}}"#);
    check(
        r#"{"containers":[{"name":"a","resources":{"limits":{"cpu":"0.1","memory":"1024Mi"},"requests":{"cpu":2}}}]}"#,
        r#"{"containers":[{"name":"a","resources":{"limits":{"cpu":"100m","memory":"1Gi"},"requests":{"cpu":"2"}}}]}"#,
    );
    check(
        r#"{"containers":[{"name":"a","livenessProbe":{"httpGet":{"port":"web"}}}]}"#,
        r#"{"containers":[{"livenessProbe":{"httpGet":{"port":"web"}},"name":"a","resources":{}}]}"#,
    );
    check(r#"{"containers":[null]}"#, r#"{"containers":[{"name":"","resources":{}}]}"#);
    check(r#"{"volumes":[{"name":"v","emptyDir":{}}]}"#, r#"{"volumes":[{"emptyDir":{},"name":"v"}]}"#);
}

#[test]
fn wrong_types_are_told_in_gos_words() {
    let spec = "error: json: cannot unmarshal";
    check(
        r#"{"priority":"x"}"#,
        &format!("{spec} string into Go struct field PodSpec.spec.priority of type int32"),
    );
    check(
        r#"{"priority":3000000000}"#,
        &format!("{spec} number 3000000000 into Go struct field PodSpec.spec.priority of type int32"),
    );
    check(
        r#"{"containers":[{"env":[{"name":"a","value":1}]}]}"#,
        &format!("{spec} number into Go struct field EnvVar.spec.containers.env.value of type string"),
    );
    check(
        r#"{"containers":{}}"#,
        &format!("{spec} object into Go struct field PodSpec.spec.containers of type []v1.Container"),
    );
    check(
        r#"{"containers":[7]}"#,
        &format!("{spec} number into Go struct field PodSpec.spec.containers of type v1.Container"),
    );
    check(
        r#"{"nodeSelector":[]}"#,
        &format!("{spec} array into Go struct field PodSpec.spec.nodeSelector of type map[string]string"),
    );
    check(
        r#"{"containers":[{"resources":{"limits":{"cpu":"x"}}}]}"#,
        "error: quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
    );
    check("7", "error: json: cannot unmarshal number into Go struct field Pod.spec of type v1.PodSpec");
}

#[test]
fn unknown_and_duplicate_fields() {
    let text = r#"{"metadata":{"labels":{"a":"1","a":"2"}},"spec":{"foo":1,"containers":[{"bar":{"x":[]},"name":"a","name":"b"}]}}"#;
    let complaints = [
        r#"duplicate field "metadata.labels.a""#,
        r#"unknown field "spec.foo""#,
        r#"unknown field "spec.containers[0].bar""#,
        r#"duplicate field "spec.containers[0].name""#,
    ];
    let warned = pod(text, FieldValidation::Warn).unwrap();
    assert_eq!(warned.warnings, complaints);
    assert_eq!(warned.value["spec"], json!({"containers": [{"name": "b", "resources": {}}]}));
    let strict = pod(text, FieldValidation::Strict).unwrap_err().to_string();
    assert_eq!(strict, format!("strict decoding error: {}", complaints.join(", ")));
    assert!(pod(text, FieldValidation::Ignore).unwrap().warnings.is_empty());
    assert!(matches!(pod("{\"spec\":", FieldValidation::Ignore), Err(DecodeError::Syntax(_))));
    assert!(matches!(pod("{} {}", FieldValidation::Ignore), Err(DecodeError::Syntax(_))));
}

#[test]
fn times_and_bytes() {
    let read = |group: &str, kind: &str, text: &str| -> Result<Value, String> {
        let ty = lookup(group, "v1", kind).unwrap();
        decode(&ty, text.as_bytes(), FieldValidation::Strict)
            .map(|it| it.value)
            .map_err(|err| err.to_string())
    };
    let secret = read("", "Secret", r#"{"data":{"a":"aGk="}}"#).unwrap();
    assert_eq!(secret, json!({"metadata": {}, "data": {"a": "aGk="}}));
    assert_eq!(
        read("", "Secret", r#"{"data":{"a":"a!"}}"#).unwrap_err(),
        "illegal base64 data at input byte 1"
    );
    let lease = r#"{"spec":{"renewTime":"2024-01-02T03:04:05.1Z","leaseDurationSeconds":0}}"#;
    assert_eq!(
        read("coordination.k8s.io", "Lease", lease).unwrap()["spec"],
        json!({"renewTime": "2024-01-02T03:04:05.100000Z", "leaseDurationSeconds": 0})
    );
    let meta = |time: &str| read("", "Pod", &format!(r#"{{"metadata":{{"creationTimestamp":{time}}}}}"#));
    assert_eq!(
        meta(r#""2024-01-02T03:04:05+01:00""#).unwrap()["metadata"]["creationTimestamp"],
        "2024-01-02T02:04:05Z"
    );
    assert_eq!(meta("null").unwrap()["metadata"], json!({}));
    assert_eq!(
        meta(r#""x""#).unwrap_err(),
        r#"parsing time "x" as "2006-01-02T15:04:05Z07:00": cannot parse "x" as "2006""#
    );
}

#[test]
fn json_schemas() {
    let ty = lookup("apiextensions.k8s.io", "v1", "CustomResourceDefinition").unwrap();
    let schema = json!({"type": "object", "properties": {"a": {"items": {"type": "string"}, "default": {"x": null}},
        "b": {"items": [{"type": "integer"}], "additionalProperties": false}}, "dependencies": {"a": ["b"]}});
    let crd = json!({"spec": {"versions": [{"name": "v1", "schema": {"openAPIV3Schema": schema.clone()}}]}});
    let read = conform(&ty, crd, FieldValidation::Strict).unwrap().value;
    assert_eq!(read["spec"]["versions"][0]["schema"]["openAPIV3Schema"], schema);
}

#[test]
fn yaml_is_read_by_the_same_rules() {
    let ty = lookup("apps", "v1", "Deployment").unwrap();
    let text = b"apiVersion: apps/v1\nkind: Deployment\nspec:\n  replicas: 2\n  replicas: 3\n  foo: yes\n";
    let read = yaml::decode(&ty, text, FieldValidation::Warn).unwrap();
    assert_eq!(read.warnings, [r#"duplicate field "spec.replicas""#, r#"unknown field "spec.foo""#]);
    assert_eq!(read.value["spec"]["replicas"], 3);
    let err = yaml::decode(&ty, b"spec: {replicas: x}", FieldValidation::Warn).unwrap_err().to_string();
    assert_eq!(
        err,
        "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32"
    );
    assert!(yaml::decode(&ty, b"a: [", FieldValidation::Warn).is_err());
}

#[test]
fn an_apply_configuration_stays_as_given() {
    let ty = lookup("", "v1", "Pod").unwrap();
    let text = br#"{"kind":"Pod","spec":{"volumes":[],"containers":[{"name":"a","resources":{"limits":{"cpu":"1000m"}}}]}}"#;
    let read = decode_applied(&ty, text, FieldValidation::Strict).unwrap().value;
    assert_eq!(
        read,
        json!({"kind":"Pod","spec":{"volumes":[],"containers":[{"name":"a","resources":{"limits":{"cpu":"1"}}}]}})
    );
}
