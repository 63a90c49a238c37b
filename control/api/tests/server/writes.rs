//! Creating, reading, changing.

use serde_json::{Value, json};

use crate::harness::{MAPS, PODS, Server, request, version};

#[tokio::test]
async fn an_object_is_created_read_changed_and_kept_over_a_restart() {
    let server = Server::start().await;
    let made = server.config_map("a", r#"{"x":"y"}"#).await;
    assert_eq!(made["kind"], "ConfigMap");
    assert_eq!(made["metadata"]["uid"].as_str().unwrap().len(), 36);
    assert_eq!(made["metadata"]["managedFields"][0]["operation"], "Update");
    let read = server.get(&format!("{MAPS}/a")).await.ok();
    assert_eq!(read, made);
    let server = server.restart().await;
    assert_eq!(server.get(&format!("{MAPS}/a")).await.ok(), made);
    let again = server.post(MAPS, r#"{"metadata":{"name":"a"}}"#).await;
    assert_eq!(again.failure(), r#"409 AlreadyExists: configmaps "a" already exists"#);
    let none = server.get(&format!("{MAPS}/b")).await;
    assert_eq!(none.failure(), r#"404 NotFound: configmaps "b" not found"#);
}

#[tokio::test]
async fn a_generated_name_has_five_more_letters() {
    let server = Server::start().await;
    let one = server.post(MAPS, r#"{"metadata":{"generateName":"a-"}}"#).await.ok();
    let two = server.post(MAPS, r#"{"metadata":{"generateName":"a-"}}"#).await.ok();
    assert_eq!(one["metadata"]["name"].as_str().unwrap().len(), 7);
    assert_ne!(one["metadata"]["name"], two["metadata"]["name"]);
}

#[tokio::test]
async fn an_update_of_an_old_revision_conflicts_and_one_without_does_not() {
    let server = Server::start().await;
    let mut object = server.config_map("a", "{}").await;
    let path = format!("{MAPS}/a");
    object["data"]["k"] = json!("2");
    let newer = server.put(&path, &object.to_string()).await.ok();
    assert!(version(&newer) > version(&object));
    object["data"]["k"] = json!("3");
    assert_eq!(
        server.put(&path, &object.to_string()).await.failure(),
        "409 Conflict: Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply \
         your changes to the latest version and try again"
    );
    object["metadata"].as_object_mut().unwrap().remove("resourceVersion");
    let last = server.put(&path, &object.to_string()).await.ok();
    assert_eq!(last["data"]["k"], "3");
    object["metadata"]["uid"] = json!("other");
    assert!(server.put(&path, &object.to_string()).await.failure().contains("UID in precondition: other"));
}

#[tokio::test]
async fn a_write_that_changes_nothing_makes_no_revision() {
    let server = Server::start().await;
    let object = server.config_map("a", "{}").await;
    let same = server.put(&format!("{MAPS}/a"), &object.to_string()).await.ok();
    assert_eq!(version(&same), version(&object));
    let same = server.patch(&format!("{MAPS}/a"), "merge-patch+json", r#"{"data":{"k":"v"}}"#).await.ok();
    assert_eq!(version(&same), version(&object));
}

#[tokio::test]
async fn every_kind_of_patch_works() {
    let server = Server::start().await;
    server.config_map("a", "{}").await;
    let path = format!("{MAPS}/a?fieldManager=t");
    let check = async |kind: &str, patch: &str, want: Value| {
        assert_eq!(server.patch(&path, kind, patch).await.ok()["data"], want, "{kind} {patch}");
    };
    check("merge-patch+json", r#"{"data":{"a":"1"}}"#, json!({"k":"v","a":"1"})).await;
    check("merge-patch+json", r#"{"data":{"k":null}}"#, json!({"a":"1"})).await;
    check("json-patch+json", r#"[{"op":"add","path":"/data/b","value":"2"}]"#, json!({"a":"1","b":"2"}))
        .await;
    check("strategic-merge-patch+json", r#"{"data":{"$patch":"replace","c":"3"}}"#, json!({"c":"3"})).await;
    let applied = "apiVersion: v1\nkind: ConfigMap\ndata: {d: '4'}\n";
    check("apply-patch+yaml", applied, json!({"c":"3","d":"4"})).await;
    let failed =
        server.patch(&path, "json-patch+json", r#"[{"op":"test","path":"/data/c","value":"9"}]"#).await;
    assert_eq!(failed.code, 422, "{}", failed.failure());
    let stale = r#"{"metadata":{"resourceVersion":"1"},"data":{"x":"y"}}"#;
    assert_eq!(server.patch(&path, "merge-patch+json", stale).await.code, 409);
    assert_eq!(server.patch(&path, "made-up", "{}").await.code, 415);
}

#[tokio::test]
async fn appliers_conflict_unless_they_force() {
    let server = Server::start().await;
    server.config_map("a", "{}").await;
    let applied = r#"{"apiVersion":"v1","kind":"ConfigMap","data":{"k":"other"}}"#;
    let path = format!("{MAPS}/a?fieldManager=me");
    let refused = server.patch(&path, "apply-patch+yaml", applied).await;
    assert_eq!(refused.code, 409);
    assert_eq!(refused.json()["details"]["causes"][0]["field"], ".data.k");
    let forced = server.patch(&format!("{path}&force=true"), "apply-patch+yaml", applied).await.ok();
    assert_eq!(forced["data"]["k"], "other");
    let created = server.patch(&format!("{MAPS}/new?fieldManager=me"), "apply-patch+yaml", applied).await;
    assert_eq!((created.code, created.json()["metadata"]["name"].clone()), (201, json!("new")));
}

#[tokio::test]
async fn unknown_fields_are_refused_told_or_dropped() {
    let server = Server::start().await;
    let body = r#"{"metadata":{"generateName":"x"},"dat":{"a":"b"}}"#;
    assert_eq!(
        server.post(&format!("{MAPS}?fieldValidation=Strict"), body).await.failure(),
        "400 BadRequest: ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: unknown \
         field \"dat\""
    );
    let warned = server.post(MAPS, body).await;
    assert_eq!(warned.headers["warning"], r#"299 - "unknown field \"dat\"""#);
    let quiet = server.post(&format!("{MAPS}?fieldValidation=Ignore"), body).await;
    assert!(quiet.headers.get("warning").is_none());
    assert!(quiet.ok().get("dat").is_none());
}

#[tokio::test]
async fn what_is_wrong_is_named() {
    let server = Server::start().await;
    let check = async |path: &str, body: &str, want: &str| {
        let got = server.post(path, body).await.failure();
        assert!(got.contains(want), "{got}");
    };
    check(MAPS, r#"{"metadata":{"name":"A_"}}"#, "ConfigMap \"A_\" is invalid: metadata.name: Invalid value")
        .await;
    check(MAPS, r#"{}"#, "metadata.name: Required value: name or generateName is required").await;
    check(MAPS, r#"{"metadata":{"name":"a","namespace":"b"}}"#, "the namespace of the provided object").await;
    check(MAPS, r#"{"kind":"Secret","apiVersion":"v1"}"#, "cannot be handled as a ConfigMap").await;
    check(MAPS, "", "couldn't get version/kind").await;
    check(
        "/api/v1/namespaces/nope/configmaps",
        r#"{"metadata":{"name":"a"}}"#,
        "namespaces \"nope\" not found",
    )
    .await;
    check("/api/v1/configmaps", r#"{"metadata":{"name":"a"}}"#, "405 MethodNotAllowed").await;
    check("/api/v1/wrong", "{}", "404 NotFound: the server could not find the requested resource").await;
    let big = format!(r#"{{"metadata":{{"name":"a"}},"data":{{"k":"{}"}}}}"#, "x".repeat(4 << 20));
    check(MAPS, &big, "413 RequestEntityTooLarge").await;
}

#[tokio::test]
async fn a_dry_run_writes_nothing() {
    let server = Server::start().await;
    let made = server.post(&format!("{MAPS}?dryRun=All"), r#"{"metadata":{"name":"a"}}"#).await;
    assert_eq!(made.code, 201);
    assert_eq!(server.get(&format!("{MAPS}/a")).await.code, 404);
    server.config_map("b", "{}").await;
    let path = format!("{MAPS}/b?dryRun=All");
    server.patch(&path, "merge-patch+json", r#"{"data":{"k":"2"}}"#).await.ok();
    server.delete(&path, "").await.ok();
    assert_eq!(server.get(&format!("{MAPS}/b")).await.ok()["data"]["k"], "v");
    assert_eq!(server.post(&format!("{MAPS}?dryRun=Some"), "{}").await.code, 422);
}

#[tokio::test]
async fn protobuf_and_yaml_go_in_and_protobuf_comes_out() {
    let server = Server::start().await;
    let yaml = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: yam}\ndata: {k: \"yes\"}\n";
    let made = server.send(request("POST", MAPS, "application/yaml", yaml)).await.ok();
    assert_eq!(made["data"]["k"], "yes");
    let mut get = request("GET", &format!("{MAPS}/yam"), "", "");
    get.headers_mut().insert("accept", "application/vnd.kubernetes.protobuf".parse().unwrap());
    let answer = server.send(get).await;
    assert_eq!(answer.headers["content-type"], "application/vnd.kubernetes.protobuf");
    let envelope = coracle_schema::proto::split_envelope(&answer.bytes).unwrap();
    assert_eq!((envelope.api_version.as_str(), envelope.kind.as_str()), ("v1", "ConfigMap"));
    let ty = coracle_schema::lookup("", "v1", "ConfigMap").unwrap();
    let mut tree = coracle_schema::proto::decode(&ty, envelope.raw).unwrap();
    assert_eq!(tree["metadata"]["resourceVersion"], made["metadata"]["resourceVersion"]);
    tree["metadata"] = json!({ "name": "p" });
    let raw = coracle_schema::proto::encode(&ty, &tree);
    let body = coracle_schema::proto::join_envelope("v1", "ConfigMap", &raw, "");
    let mut post = request("POST", MAPS, "application/vnd.kubernetes.protobuf", "");
    *post.body_mut() = kube::client::Body::from(body);
    assert_eq!(server.send(post).await.ok()["data"]["k"], "yes");
}

#[tokio::test]
async fn the_status_is_its_own_door_and_generations_count_specs() {
    let server = Server::start().await;
    let path = "/apis/apps/v1/namespaces/default/deployments";
    let body = json!({
        "metadata": { "name": "d" },
        "spec": {
            "selector": { "matchLabels": { "a": "b" } },
            "template": {
                "metadata": { "labels": { "a": "b" } },
                "spec": { "containers": [{ "name": "c", "image": "i" }] },
            },
        },
        "status": { "replicas": 9 },
    });
    let made = server.post(path, &body.to_string()).await.ok();
    assert_eq!(made["metadata"]["generation"], 1);
    assert_eq!(made["status"].get("replicas"), None);
    let one = format!("{path}/d");
    let patch = r#"{"spec":{"replicas":3},"status":{"replicas":3}}"#;
    let main = server.patch(&one, "merge-patch+json", patch).await.ok();
    assert_eq!((&main["metadata"]["generation"], &main["spec"]["replicas"]), (&json!(2), &json!(3)));
    assert_eq!(main["status"].get("replicas"), None);
    let patch = r#"{"spec":{"replicas":5},"status":{"replicas":3}}"#;
    let status = server.patch(&format!("{one}/status"), "merge-patch+json", patch).await.ok();
    assert_eq!((&status["spec"]["replicas"], &status["status"]["replicas"]), (&json!(3), &json!(3)));
    assert_eq!(status["metadata"]["generation"], 2);
}

#[tokio::test]
async fn a_pod_gets_its_account_token_tolerations_and_priority() {
    let server = Server::start().await;
    let body = json!({
        "metadata": { "name": "p" },
        "spec": { "containers": [{ "name": "c", "image": "i" }], "priorityClassName": "system-node-critical" },
    });
    let pod = server.post(PODS, &body.to_string()).await.ok();
    assert_eq!(pod["spec"]["serviceAccountName"], "default");
    assert_eq!(pod["spec"]["priority"], 2_000_001_000);
    assert_eq!(pod["spec"]["tolerations"].as_array().unwrap().len(), 2);
    let volume = pod["spec"]["volumes"][0]["name"].as_str().unwrap();
    assert_eq!(pod["spec"]["containers"][0]["volumeMounts"][0]["name"], volume);
    assert!(!pod["metadata"]["managedFields"].to_string().contains("kube-api-access"));
}

#[tokio::test]
async fn limits_of_a_namespace_fill_in_and_refuse() {
    let server = Server::start().await;
    let range = json!({ "metadata": { "name": "l" }, "spec": { "limits": [
        { "type": "Container", "default": { "cpu": "1" }, "defaultRequest": { "cpu": "500m" }, "max": { "cpu": "1" } },
    ] } });
    server.post("/api/v1/namespaces/default/limitranges", &range.to_string()).await.ok();
    let pod = |name: &str, limit: Value| {
        json!({
            "metadata": { "name": name },
            "spec": { "containers": [{ "name": "c", "image": "i", "resources": { "limits": limit } }] },
        })
        .to_string()
    };
    let made = server.post(PODS, &pod("a", json!({}))).await.ok();
    assert_eq!(made["spec"]["containers"][0]["resources"]["requests"]["cpu"], "500m");
    let refused = server.post(PODS, &pod("b", json!({ "cpu": "2" }))).await;
    assert!(
        refused.failure().ends_with("maximum cpu usage per Container is 1, but limit is 2"),
        "{}",
        refused.failure()
    );
}

#[tokio::test]
async fn what_would_have_no_effect_is_refused_by_name() {
    let server = Server::start().await;
    let quota = json!({ "metadata": { "name": "q" }, "spec": { "hard": { "pods": "1" } } });
    let refused = server.post("/api/v1/namespaces/default/resourcequotas", &quota.to_string()).await;
    assert_eq!(
        refused.failure(),
        "403 Forbidden: resourcequotas \"q\" is forbidden: not available on this server yet: quotas are not enforced"
    );
}
