use serde_json::{Value, json};

use super::*;
use crate::lookup;

const NOW: &str = "2024-01-01T00:00:00Z";
const LATER: &str = "2024-01-02T00:00:00Z";

fn request<'r>(manager: &'r str, now: &'r str) -> Request<'r> {
    Request { manager, force: false, api_version: "apps/v1", subresource: "", now }
}

fn deployment(spec: Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": spec})
}

fn apply(
    live: Option<&Value>,
    manager: &str,
    spec: Value,
    now: &str,
    force: bool,
) -> Result<Value, ApplyError> {
    let ty = lookup("apps", "v1", "Deployment").unwrap();
    server_side_apply(&ty, live, &deployment(spec), &Request { force, ..request(manager, now) })
}

fn update(old: Option<&Value>, new: &Value, manager: &str, now: &str) -> Value {
    let ty = lookup("apps", "v1", "Deployment").unwrap();
    let mut new = json::conform(&ty, new.clone(), FieldValidation::Strict).unwrap().value;
    track_update(&ty, old, &mut new, manager, "Update", "", now);
    new
}

fn containers(list: Value) -> Value {
    json!({"template": {"spec": {"containers": list}}})
}

/// The fields of one manager.
fn fields<'v>(object: &'v Value, manager: &str) -> &'v Value {
    let entries = managed::get(object);
    entries.iter().find(|entry| entry["manager"] == manager).map_or(&Value::Null, |entry| &entry["fieldsV1"])
}

#[test]
fn an_applier_owns_what_it_sent() {
    let made = apply(
        None,
        "me",
        json!({"replicas": 2, "template": {"metadata": {"labels": {"a": "b"}},
        "spec": {"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80}]}]}}}),
        NOW,
        false,
    )
    .unwrap();
    assert_eq!(
        fields(&made, "me"),
        &json!({"f:spec": {"f:replicas": {}, "f:template": {"f:metadata": {"f:labels": {"f:a": {}}},
            "f:spec": {"f:containers": {r#"k:{"name":"c"}"#: {".": {}, "f:name": {}, "f:image": {}, "f:ports":
                {r#"k:{"containerPort":80,"protocol":"TCP"}"#: {".": {}, "f:containerPort": {}}}}}}}}})
    );
    let entry = &managed::get(&made)[0];
    assert_eq!(
        (&entry["operation"], &entry["time"], &entry["apiVersion"]),
        (&json!("Apply"), &json!(NOW), &json!("apps/v1"))
    );
    assert_eq!(made["spec"]["replicas"], 2);
    let again = apply(
        Some(&made),
        "me",
        json!({"replicas": 2, "template": {"metadata": {"labels": {"a": "b"}},
        "spec": {"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80}]}]}}}),
        LATER,
        false,
    )
    .unwrap();
    assert_eq!(again, made, "applying the same again changes nothing, not even the time");
}

#[test]
fn conflicts_name_the_other_manager() {
    let live =
        update(None, &deployment(json!({"replicas": 1, "paused": true})), "kubectl-client-side-apply", NOW);
    let err = apply(Some(&live), "me", json!({"replicas": 2}), LATER, false).unwrap_err();
    assert_eq!(
        err.to_string(),
        r#"Apply failed with 1 conflict: conflict with "kubectl-client-side-apply" using apps/v1: .spec.replicas"#
    );
    let ApplyError::Conflicts(conflicts) = err else { panic!("conflicts") };
    assert_eq!(conflicts[0].cause(), r#"conflict with "kubectl-client-side-apply" using apps/v1"#);
    let err = apply(Some(&live), "me", json!({"replicas": 2, "paused": false}), LATER, false).unwrap_err();
    assert_eq!(
        err.to_string(),
        "Apply failed with 2 conflicts: conflicts with \"kubectl-client-side-apply\" using apps/v1:\n- .spec.paused\n- .spec.replicas"
    );
    let taken = apply(Some(&live), "me", json!({"replicas": 2}), LATER, true).unwrap();
    assert_eq!(taken["spec"]["replicas"], 2);
    assert_eq!(fields(&taken, "kubectl-client-side-apply"), &json!({"f:spec": {"f:paused": {}}}));
    let shared = apply(Some(&live), "me", json!({"replicas": 1}), LATER, false).unwrap();
    assert_eq!(fields(&shared, "me"), &json!({"f:spec": {"f:replicas": {}}}), "equal values are shared");
}

#[test]
fn what_is_no_longer_applied_goes_unless_others_want_it() {
    let both = containers(json!([{"name": "a", "image": "i"}, {"name": "b", "image": "i"}]));
    let one = containers(json!([{"name": "a", "image": "i"}]));
    let made = apply(None, "me", both.clone(), NOW, false).unwrap();
    let less = apply(Some(&made), "me", one.clone(), LATER, false).unwrap();
    assert_eq!(less["spec"]["template"]["spec"]["containers"].as_array().unwrap().len(), 1);
    assert_eq!(managed::get(&less)[0]["time"], LATER);

    let shared = apply(Some(&made), "other", both, NOW, false).unwrap();
    let kept = apply(Some(&shared), "me", one, LATER, false).unwrap();
    assert_eq!(kept["spec"]["template"]["spec"]["containers"].as_array().unwrap().len(), 2);

    let ty = lookup("", "v1", "ConfigMap").unwrap();
    let map = |data: Value| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": data});
    let made = server_side_apply(&ty, None, &map(json!({"a": "1", "b": "2"})), &request("me", NOW)).unwrap();
    let less = server_side_apply(&ty, Some(&made), &map(json!({"a": "1"})), &request("me", NOW)).unwrap();
    assert_eq!(less["data"], json!({"a": "1"}));
    let none = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}});
    let none = server_side_apply(&ty, Some(&less), &none, &request("me", NOW)).unwrap();
    assert_eq!(none.get("data"), None);
    assert_eq!(none["metadata"], json!({"name": "c"}), "nothing owned, no entry");
}

#[test]
fn an_updater_owns_what_it_changed() {
    let made = update(
        None,
        &deployment(
            json!({"replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "strategy": {"type": "Recreate"},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}],
                "securityContext": {}}}}),
        ),
        "kubectl-create",
        NOW,
    );
    assert_eq!(
        fields(&made, "kubectl-create"),
        &json!({"f:spec": {"f:replicas": {}, "f:selector": {}, "f:strategy": {"f:type": {}}, "f:template":
            {"f:metadata": {"f:labels": {".": {}, "f:a": {}}}, "f:spec": {"f:containers": {r#"k:{"name":"c"}"#:
                {".": {}, "f:image": {}, "f:name": {}, "f:resources": {}}}, "f:securityContext": {}}}}})
    );
    let mut next = made.clone();
    next["spec"]["replicas"] = json!(5);
    next["metadata"]["labels"] = json!({"x": "y"});
    let scaled = update(Some(&made), &next, "hpa", LATER);
    assert_eq!(
        fields(&scaled, "hpa"),
        &json!({"f:metadata": {"f:labels": {".": {}, "f:x": {}}}, "f:spec": {"f:replicas": {}}})
    );
    assert_eq!(fields(&scaled, "kubectl-create")["f:spec"].get("f:replicas"), None);
    let same = update(Some(&scaled), &scaled, "somebody", "2024-01-03T00:00:00Z");
    assert_eq!(same, scaled, "an update that changes nothing changes nothing");
    let mut bare = scaled.clone();
    bare["metadata"].as_object_mut().unwrap().remove("managedFields");
    assert_eq!(
        update(Some(&scaled), &bare, "somebody", LATER),
        scaled,
        "leaving managedFields out loses nothing"
    );
}

#[test]
fn status_and_spec_are_owned_through_their_doors() {
    let ty = lookup("apps", "v1", "Deployment").unwrap();
    let made = update(None, &deployment(json!({"replicas": 1})), "a", NOW);
    let mut next = made.clone();
    next["status"]["readyReplicas"] = json!(1);
    next["status"]["conditions"] = json!([{"type": "Available", "status": "True"}]);
    track_update(&ty, Some(&made), &mut next, "kcm", "Update", "status", LATER);
    assert_eq!(managed::get(&next)[1]["subresource"], "status");
    assert_eq!(
        fields(&next, "kcm"),
        &json!({"f:status": {"f:readyReplicas": {}, "f:conditions": {".": {}, r#"k:{"type":"Available"}"#:
            {".": {}, "f:type": {}, "f:status": {}}}}})
    );
}

#[test]
fn managed_fields_can_be_edited_and_reset() {
    let made = update(None, &deployment(json!({"replicas": 1})), "kubectl-client-side-apply", NOW);
    let mut moved = made.clone();
    moved["metadata"]["managedFields"][0]["manager"] = json!("kubectl");
    moved["metadata"]["managedFields"][0]["operation"] = json!("Apply");
    let migrated = update(Some(&made), &moved, "kubectl", LATER);
    assert_eq!(fields(&migrated, "kubectl"), &json!({"f:spec": {"f:replicas": {}}}));
    assert_eq!(managed::get(&migrated).len(), 1);
    let mut reset = made.clone();
    reset["metadata"]["managedFields"] = json!([{}]);
    assert_eq!(managed::get(&update(Some(&made), &reset, "x", LATER)).len(), 0);
}

#[test]
fn what_was_there_before_the_first_apply_is_somebodys() {
    let live = deployment(json!({"replicas": 1}));
    let err = apply(Some(&live), "me", json!({"replicas": 2}), NOW, false).unwrap_err().to_string();
    assert_eq!(
        err,
        r#"Apply failed with 1 conflict: conflict with "before-first-apply" using apps/v1: .spec.replicas"#
    );
}

#[test]
fn wrong_intents_are_refused() {
    let refused = |spec: Value| apply(None, "me", spec, NOW, false).unwrap_err().to_string();
    assert_eq!(
        refused(containers(json!([{"image": "i"}]))),
        ".spec.template.spec.containers: element 0: associative list with keys has an element that omits key field \
         \"name\" (and doesn't have default value)"
    );
    assert_eq!(
        refused(containers(json!([{"name": "a"}, {"name": "a"}]))),
        r#".spec.template.spec.containers: duplicate entries for key [name="a"]"#
    );
    assert_eq!(
        refused(json!({"template": {"spec": {"topologySpreadConstraints": [{"maxSkew": 1}]}}})),
        ".spec.template.spec.topologySpreadConstraints: element 0: associative list with keys has an element that omits \
         all key fields [\"topologyKey\" \"whenUnsatisfiable\"] (and doesn't have default values for any key fields)"
    );
    let ty = lookup("apps", "v1", "Deployment").unwrap();
    let owned = json!({"metadata": {"managedFields": [{}]}});
    let err = server_side_apply(&ty, None, &owned, &request("me", NOW)).unwrap_err().to_string();
    assert_eq!(err, "metadata.managedFields must be nil");
}

#[test]
fn old_updaters_are_folded_into_one() {
    let mut object = update(None, &deployment(json!({})), "first", NOW);
    for at in 0..15 {
        let mut next = object.clone();
        next["metadata"]["labels"][format!("l{at:02}")] = json!("x");
        object = update(Some(&object), &next, &format!("m{at:02}"), &format!("2024-01-01T00:00:{at:02}Z"));
    }
    let managers: Vec<_> = managed::get(&object).iter().map(|it| it["manager"].as_str().unwrap()).collect();
    assert_eq!(managers.len(), 10);
    assert!(managers.contains(&"ancient-changes") && managers.contains(&"m14"));
}

#[test]
fn items_stand_in_the_appliers_order() {
    let names =
        |list: &[&str]| containers(list.iter().map(|name| json!({"name": name, "image": "i"})).collect());
    let live = update(None, &deployment(names(&["a", "x", "b"])), "other", NOW);
    let merged = apply(Some(&live), "me", names(&["b", "a", "c"]), LATER, false).unwrap();
    let list = merged["spec"]["template"]["spec"]["containers"].as_array().unwrap();
    let got: Vec<_> = list.iter().map(|it| it["name"].as_str().unwrap()).collect();
    assert_eq!(got, ["x", "b", "a", "c"]);
}

/// Random objects of every kind: applying twice is applying once, an update with nothing new tracks nothing, and two
/// appliers of the same do not fight.
#[test]
fn applying_twice_is_applying_once() {
    use proptest::test_runner::{RngAlgorithm, TestRng};
    let mut rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[3; 32]);
    let mut applied = 0;
    for (group, version, kind) in crate::table::roots() {
        let ty = lookup(group, version, kind).unwrap();
        if ty.items().is_some()
            || ty
                .field("metadata")
                .and_then(|it| it.message())
                .is_none_or(|it| it.name != "meta/v1.ObjectMeta")
        {
            continue;
        }
        for depth in 2..6 {
            let raw = crate::testing::Values { rng: &mut rng, tagged_only: false }.object(&ty, depth);
            let mut intent =
                json::decode_applied(&ty, raw.to_string().as_bytes(), FieldValidation::Strict).unwrap().value;
            managed::take(&mut intent);
            let first = match server_side_apply(&ty, None, &intent, &request("a", NOW)) {
                Ok(first) => first,
                Err(ApplyError::Invalid(_)) => continue, // items that share their keys
                Err(err) => panic!("{}: {err}", ty.name),
            };
            let again = server_side_apply(&ty, Some(&first), &intent, &request("a", LATER)).unwrap();
            assert_eq!(again, first, "{}: {intent}", ty.name);
            let other = server_side_apply(&ty, Some(&first), &intent, &request("b", LATER)).unwrap();
            assert_eq!(other.get("spec"), first.get("spec"), "{}: two of one mind", ty.name);
            let mut same = first.clone();
            track_update(&ty, Some(&first), &mut same, "c", "Update", "", LATER);
            assert_eq!(same, first, "{}: nothing new", ty.name);
            let rest = crate::proto::decode(&ty, &crate::proto::encode_with_version(&ty, &first)).unwrap();
            let mut rest_again = rest.clone();
            track_update(&ty, Some(&rest), &mut rest_again, "c", "Update", "", LATER);
            assert_eq!(rest_again, rest, "{}: nothing new after rest", ty.name);
            let nothing = json!({"metadata": {}});
            let gone = server_side_apply(&ty, Some(&first), &nothing, &request("a", LATER)).unwrap();
            assert_eq!(managed::get(&gone), &[] as &[Value], "{}: nothing applied, nothing owned", ty.name);
            applied += 1;
        }
    }
    assert!(applied > 100, "{applied}");
}
