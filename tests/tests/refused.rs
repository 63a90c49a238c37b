//! What is wrong is refused, clearly.

use coracle_tests::{Cluster, Options, eventually};
use std::process::Command;

#[test]
fn bad_manifests_are_refused_with_a_cause_per_field() {
    let cluster = Cluster::start();
    let kubectl = cluster.kubectl();
    let pod = |spec: &str| format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: bad}}\nspec: {spec}\n");
    let deployment = |replicas: &str| {
        format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: bad}}\nspec: {{replicas: {replicas}, \
             selector: {{matchLabels: {{a: b}}}}, template: {{metadata: {{labels: {{a: b}}}}, \
             spec: {{containers: [{{name: c, image: i}}]}}}}}}\n"
        )
    };
    for (what, manifest, expected) in [
        (
            "unknown field",
            pod("{containers: [{name: a, image: b, imagee: c}]}"),
            r#"unknown field "spec.containers[0].imagee""#,
        ),
        ("wrong type", deployment("many"), "replicas"),
        (
            "negative replicas",
            deployment("-1"),
            "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
        ),
        ("missing field", pod("{containers: [{image: b}]}"), "spec.containers[0].name: Required value"),
        ("no containers", pod("{containers: []}"), "spec.containers: Required value"),
        (
            "bad name",
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: Not_Good}\n".to_owned(),
            "metadata.name: Invalid value: \"Not_Good\": a lowercase RFC 1123 subdomain must consist of",
        ),
    ] {
        let refusal = kubectl.apply_refused(&manifest);
        assert!(refusal.contains(expected), "{what}: {refusal}");
    }
    // The same on the wire: a Status with reason and causes.
    let data = cluster.data_dir();
    let body =
        r#"{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"bad"},"spec":{"replicas":-1}}"#;
    let curl = |extra: &str| {
        cluster.host().sh(&format!(
            "curl -sk {extra} -H 'Content-Type: application/json' -d '{body}' \
             https://127.0.0.1:6443/apis/apps/v1/namespaces/default/deployments"
        ))
    };
    let unauthorised: serde_json::Value =
        serde_json::from_str(&curl("-H 'Authorization: Bearer nonsense'")).unwrap();
    assert_eq!(
        (unauthorised["code"].as_i64(), unauthorised["reason"].as_str()),
        (Some(401), Some("Unauthorized"))
    );
    let nobody: serde_json::Value = serde_json::from_str(&curl("")).unwrap();
    assert_eq!((nobody["code"].as_i64(), nobody["reason"].as_str()), (Some(401), Some("Unauthorized")));
    std::fs::write(data.join("bad.json"), body).unwrap();
    let raw = kubectl.run_with(
        &format!("create --raw /apis/apps/v1/namespaces/default/deployments -f {}/bad.json", data.display()),
        "",
    );
    assert!(raw.stderr.contains("is invalid") && raw.stderr.contains("spec.selector"), "{}", raw.stderr);
    assert!(
        kubectl
            .ok("get deployments,pods,configmaps --ignore-not-found -o name")
            .lines()
            .all(|it| it.ends_with("kube-root-ca.crt"))
    );
}

#[test]
fn no_permission_is_told_in_upstreams_words() {
    let cluster = Cluster::start();
    let kubectl = cluster.kubectl();
    let refusal = kubectl.refused("get pods --as=system:serviceaccount:default:default");
    assert!(
        refusal.contains(
            "pods is forbidden: User \"system:serviceaccount:default:default\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\""
        ),
        "{refusal}"
    );
    kubectl.ok("create role reader --verb=list --resource=pods");
    kubectl.ok("create rolebinding reader --role=reader --serviceaccount=default:default");
    eventually("the binding counts", || {
        let output = kubectl.run_with("get pods --as=system:serviceaccount:default:default", "");
        if output.success { Ok(()) } else { Err(output.stderr) }
    });
}

#[test]
fn an_image_that_is_not_there_backs_off_with_the_reason() {
    let cluster = Cluster::start();
    let kubectl = cluster.kubectl();
    kubectl.ok("run gone --image=127.0.0.1:1/no/such:1");
    for reason in ["ErrImagePull", "ImagePullBackOff"] {
        eventually(reason, || {
            let seen = kubectl.field("pod/gone", "{.status.containerStatuses[0].state.waiting.reason}");
            if seen == reason { Ok(()) } else { Err(seen) }
        });
    }
    let described = kubectl.ok("describe pod gone");
    assert!(
        described.contains("Failed to pull image") && described.contains("127.0.0.1:1/no/such:1"),
        "{described}"
    );
}

#[test]
fn a_bad_cni_configuration_keeps_the_node_not_ready_and_is_named() {
    let cluster = Cluster::start();
    let kubectl = cluster.kubectl();
    let conf = cluster.data_dir().join("cni/net.d");
    cluster.host().sh(&format!("rm {0}/*; echo '{{' > {0}/10-broken.conflist", conf.display()));
    eventually("the node says so", || {
        let path = r#"{.status.conditions[?(@.type=="Ready")].message}"#;
        let message = kubectl.field(&format!("node/{}", cluster.host().name()), path);
        if message.contains("10-broken.conflist") { Ok(()) } else { Err(message) }
    });
}

#[test]
fn a_taken_port_and_a_corrupt_store_are_named_and_nothing_is_touched() {
    let cluster = Cluster::start();
    let data = cluster.data_dir();
    assert!(cluster.down(&[]).0);
    let store = data.join("server/store.db");
    let whole = std::fs::read(&store).unwrap();
    let mut damaged = whole.clone();
    damaged[..4096].fill(0xA5);
    std::fs::write(&store, &damaged).unwrap();
    let (success, text) = cluster.up();
    assert!(!success && text.contains("store.db") && text.contains("corrupt"), "{text}");
    assert!(std::fs::read(&store).unwrap() == damaged, "the store was changed");
    assert!(cluster.down(&[]).0);
    std::fs::write(&store, &whole).unwrap();

    let listener = cluster
        .host()
        .enter(Command::new("sh").args(["-c", "exec busybox nc -l -p 6443 2>/dev/null"]))
        .spawn()
        .unwrap();
    eventually("the port is taken", || {
        let open = cluster.host().sh("ss -Hltn 'sport = :6443'");
        if open.is_empty() { Err("not yet") } else { Ok(()) }
    });
    let (success, text) = cluster.up();
    assert!(!success && text.contains("port 6443 is taken"), "{text}");
    let mut listener = listener;
    listener.kill().unwrap();
    listener.wait().unwrap();
}

#[test]
fn a_missing_runtime_is_named() {
    let cluster = Cluster::start_with(Options::default());
    let data = cluster.data_dir().display().to_string();
    let (success, text) =
        cluster.coracle(&["check", "--data-dir", &data, "--runtime-endpoint", "unix:///run/none.sock"]);
    assert!(!success && text.contains("unix:///run/none.sock"), "{text}");
}
