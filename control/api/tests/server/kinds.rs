//! What users are told about bad objects, and what they may select by.

use serde_json::{Value, json};

use crate::harness::{PODS, Server, names};

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const SERVICES: &str = "/api/v1/namespaces/default/services";

fn deployment(name: &str, replicas: i64, label: &str) -> String {
    json!({"metadata": {"name": name}, "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": {"labels": {"app": label}}, "spec": {"containers": [{"name": "a", "image": "x"}]}}}})
    .to_string()
}

/// `field reason: message` of each cause.
fn causes(status: &Value) -> Vec<String> {
    let all = status["details"]["causes"].as_array().expect("causes");
    let text = |cause: &Value, field: &str| cause[field].as_str().unwrap_or_default().to_owned();
    all.iter()
        .map(|c| format!("{} {}: {}", text(c, "field"), text(c, "reason"), text(c, "message")))
        .collect()
}

#[tokio::test]
async fn bad_objects_are_refused_with_a_cause_per_field() {
    let server = Server::start().await;
    let answer = server.post(DEPLOYMENTS, &deployment("web", -1, "other")).await;
    assert_eq!(
        causes(&answer.json()),
        [
            "spec.replicas FieldValueInvalid: Invalid value: -1: must be greater than or equal to 0",
            "spec.template.metadata.labels FieldValueInvalid: Invalid value: {\"app\":\"other\"}: `selector` does not \
             match template `labels`",
        ]
    );
    assert_eq!(answer.code, 422);
    let answer = server.post(PODS, r#"{"metadata":{"name":"p"},"spec":{"containers":[]}}"#).await;
    assert_eq!(answer.failure(), "422 Invalid: Pod \"p\" is invalid: spec.containers: Required value");
    let answer = server.post(DEPLOYMENTS, &deployment("Web_1", 1, "web")).await;
    assert!(
        answer.failure().starts_with("422 Invalid: Deployment.apps \"Web_1\" is invalid: metadata.name: ")
    );
}

#[tokio::test]
async fn what_may_not_change_stays() {
    let server = Server::start().await;
    server.post(DEPLOYMENTS, &deployment("web", 1, "web")).await.ok();
    let patch =
        r#"{"spec":{"selector":{"matchLabels":{"app":"x"}},"template":{"metadata":{"labels":{"app":"x"}}}}}"#;
    let answer = server.patch(&format!("{DEPLOYMENTS}/web"), "merge-patch+json", patch).await;
    assert_eq!(
        answer.failure(),
        "422 Invalid: Deployment.apps \"web\" is invalid: spec.selector: Invalid value: \
         {\"matchLabels\":{\"app\":\"x\"}}: field is immutable"
    );
    server.post(SERVICES, r#"{"metadata":{"name":"s"},"spec":{"ports":[{"port":80}]}}"#).await.ok();
    let patch = r#"{"spec":{"clusterIP":"10.96.0.77"}}"#;
    let answer = server.patch(&format!("{SERVICES}/s"), "merge-patch+json", patch).await;
    assert_eq!(
        answer.failure(),
        "422 Invalid: Service \"s\" is invalid: spec.clusterIPs[0]: Invalid value: [\"10.96.0.77\"]: may not change \
         once set"
    );
    // The address that was refused is free again.
    let other = r#"{"metadata":{"name":"t"},"spec":{"clusterIP":"10.96.0.77","ports":[{"port":80}]}}"#;
    server.post(SERVICES, other).await.ok();
}

#[tokio::test]
async fn fields_to_select_by() {
    let server = Server::start().await;
    let pod = |name: &str, more: Value| {
        let mut pod =
            json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "a", "image": "x"}]}});
        for (field, value) in more.as_object().unwrap() {
            pod["spec"][field] = value.clone();
        }
        pod.to_string()
    };
    server.post(PODS, &pod("a", json!({}))).await.ok();
    server.post(PODS, &pod("b", json!({"hostNetwork": true, "restartPolicy": "Never"}))).await.ok();
    for (selector, expected) in [
        ("spec.hostNetwork=false", vec!["a"]),
        ("spec.hostNetwork=true", vec!["b"]),
        ("spec.restartPolicy!=Always", vec!["b"]),
        ("status.phase=Pending,spec.nodeName=", vec!["a", "b"]),
        ("spec.serviceAccountName=default,metadata.name=a", vec!["a"]),
        ("status.podIP=10.0.0.1", vec![]),
    ] {
        let list = server.get(&format!("{PODS}?fieldSelector={selector}")).await.ok();
        assert_eq!(names(&list), expected, "{selector}");
    }
    assert_eq!(server.get(&format!("{PODS}?fieldSelector=spec.color=red")).await.code, 400);
}
