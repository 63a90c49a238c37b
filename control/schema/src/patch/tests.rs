use serde_json::{Value, json};

use super::*;
use crate::lookup;

/// Lays `patch` over a pod with this spec.
#[track_caller]
fn check(spec: Value, patch: Value, want: Value) {
    let ty = lookup("", "v1", "Pod").unwrap();
    let mut pod = json!({"spec": spec});
    match strategic_merge(&ty, &mut pod, &json!({"spec": patch})) {
        Ok(()) => assert_eq!(pod["spec"], want),
        Err(err) => assert_eq!(json!(err.to_string()), want),
    }
}

fn containers(names: &[&str]) -> Value {
    json!({"containers": names.iter().map(|name| json!({"name": name, "image": "i"})).collect::<Vec<_>>()})
}

#[test]
fn lists_are_merged_by_their_keys() {
    check(
        containers(&["a", "b"]),
        json!({"containers": [{"name": "b", "image": "j"}]}),
        json!({"containers": [{"name": "a", "image": "i"}, {"name": "b", "image": "j"}]}),
    );
    check(
        containers(&["a"]),
        json!({"containers": [{"name": "a", "image": null}]}),
        json!({"containers": [{"name": "a"}]}),
    );
    check(
        json!({"containers": [{"name": "a", "env": [{"name": "x", "value": "1"}]}]}),
        json!({"containers": [{"name": "a", "env": [{"name": "y", "value": "2"}]}]}),
        json!({"containers": [{"name": "a", "env": [{"name": "y", "value": "2"}, {"name": "x", "value": "1"}]}]}),
    );
    check(
        json!({"tolerations": [{"key": "a"}]}),
        json!({"tolerations": [{"key": "b"}]}),
        json!({"tolerations": [{"key": "b"}]}),
    );
    check(
        containers(&["a"]),
        json!({"containers": [{"image": "j"}]}),
        json!(r#"map: {"image":"j"} does not contain declared merge key: name"#),
    );
}

#[test]
fn directives() {
    check(
        containers(&["a", "b"]),
        json!({"containers": [{"$patch": "delete", "name": "a"}]}),
        containers(&["b"]),
    );
    check(
        containers(&["a", "b"]),
        json!({"containers": [{"$patch": "replace"}, {"name": "c", "image": "i"}]}),
        containers(&["c"]),
    );
    check(
        json!({"securityContext": {"runAsUser": 1, "fsGroup": 2}}),
        json!({"securityContext": {"$patch": "replace", "runAsUser": 3}}),
        json!({"securityContext": {"runAsUser": 3}}),
    );
    check(
        json!({"securityContext": {"runAsUser": 1}}),
        json!({"securityContext": {"$patch": "delete"}}),
        json!({"securityContext": {}}),
    );
    check(
        json!({"securityContext": {}}),
        json!({"securityContext": {"$patch": "x"}}),
        json!(r#"unknown patch type found: "x""#),
    );
    check(
        json!({"volumes": [{"name": "v", "emptyDir": {}}]}),
        json!({"volumes": [{"name": "v", "hostPath": {"path": "/x"}, "$retainKeys": ["name", "hostPath"]}]}),
        json!({"volumes": [{"name": "v", "hostPath": {"path": "/x"}}]}),
    );
}

#[test]
fn order_of_lists() {
    check(
        containers(&["a", "b", "c"]),
        json!({"$setElementOrder/containers": [{"name": "c"}, {"name": "a"}]}),
        containers(&["b", "c", "a"]),
    );
    check(
        containers(&["a", "b"]),
        json!({"$setElementOrder/containers": [{"name": "d"}, {"name": "a"}], "containers": [{"name": "d", "image": "i"}]}),
        containers(&["d", "a", "b"]),
    );
}

#[test]
fn primitive_lists() {
    let ty = lookup("", "v1", "Pod").unwrap();
    let mut pod = json!({"metadata": {"finalizers": ["a", "b"], "labels": {"x": "1", "y": "2"}}});
    let patch = json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"], "finalizers": ["c", "b"],
        "labels": {"x": null, "z": "3"}}});
    strategic_merge(&ty, &mut pod, &patch).unwrap();
    assert_eq!(pod, json!({"metadata": {"finalizers": ["c", "b"], "labels": {"y": "2", "z": "3"}}}));
}

#[test]
fn json_patches_and_merge_patches() {
    let mut doc = json!({"a": {"b": 1}, "list": [1]});
    json_patch(
        &mut doc,
        &json!([{"op": "add", "path": "/list/-", "value": 2}, {"op": "test", "path": "/a/b", "value": 1}]),
    )
    .unwrap();
    assert_eq!(doc, json!({"a": {"b": 1}, "list": [1, 2]}));
    for (operation, want) in [
        (json!({"op": "test", "path": "/a/b", "value": 2}), "testing value /a/b failed: test failed"),
        (
            json!({"op": "remove", "path": "/x/y"}),
            r#"remove operation does not apply: doc is missing path: "/x/y": missing value"#,
        ),
        (
            json!({"op": "replace", "path": "/x", "value": 1}),
            r#"replace operation does not apply: doc is missing path: "/x": missing value"#,
        ),
    ] {
        let before = doc.clone();
        assert_eq!(json_patch(&mut doc, &json!([operation])).unwrap_err().to_string(), want);
        assert_eq!(doc, before, "all or nothing");
    }
    let many = Value::Array(vec![json!({"op": "test", "path": "/a/b", "value": 1}); MAX_OPERATIONS + 1]);
    assert_eq!(json_patch(&mut doc, &many), Err(PatchError::TooMany(MAX_OPERATIONS + 1)));
    merge_patch(&mut doc, &json!({"a": null, "list": [3]})).unwrap();
    assert_eq!(doc, json!({"list": [3]}));
    assert!(merge_patch(&mut doc, &json!([])).is_err());
}

#[test]
fn an_object_laid_over_itself_is_itself() {
    use proptest::test_runner::{RngAlgorithm, TestRng};
    let mut rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[5; 32]);
    for (group, version, kind) in crate::table::roots() {
        let ty = lookup(group, version, kind).unwrap();
        for depth in 2..5 {
            let object = crate::testing::Values { rng: &mut rng, tagged_only: false }.object(&ty, depth);
            let mut same = object.clone();
            strategic_merge(&ty, &mut same, &json!({})).unwrap();
            assert_eq!(same, object, "{}: an empty patch", ty.name);
            let mut merged = object.clone();
            if strategic_merge(&ty, &mut merged, &object).is_ok() {
                let once = merged.clone();
                strategic_merge(&ty, &mut merged, &object).unwrap();
                assert_eq!(merged, once, "{}: twice is once", ty.name);
            }
        }
    }
}
