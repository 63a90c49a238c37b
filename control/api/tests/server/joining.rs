//! What machines that join and those who sign their certificates may do.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use coracle_api::auth::UserInfo;
use serde_json::{Value, json};

use crate::harness::Server;

const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
const SECRETS: &str = "/api/v1/namespaces/kube-system/secrets";

fn token(id: &str, expiration: &str) -> Value {
    json!({
        "metadata": { "name": format!("bootstrap-token-{id}") },
        "type": "bootstrap.kubernetes.io/token",
        "stringData": {
            "token-id": id, "token-secret": "0123456789abcdef", "expiration": expiration,
            "usage-bootstrap-authentication": "true",
            "auth-extra-groups": "system:bootstrappers:kubeadm:default-node-token",
        },
    })
}

async fn review(server: &Server, token: &str) -> Value {
    let body = json!({ "spec": { "token": token } }).to_string();
    server.post("/apis/authentication.k8s.io/v1/tokenreviews", &body).await.ok()["status"].clone()
}

#[tokio::test]
async fn a_bootstrap_token_counts_while_its_secret_is_there() {
    let server = Server::start().await;
    let known = "abcdef.0123456789abcdef";
    assert_eq!(review(&server, known).await["authenticated"], Value::Null);
    server.post(SECRETS, &token("abcdef", "2999-01-01T00:00:00Z").to_string()).await.ok();
    let status = review(&server, known).await;
    assert_eq!(status["authenticated"], true, "{status}");
    assert_eq!(status["user"]["username"], "system:bootstrap:abcdef");
    assert_eq!(
        status["user"]["groups"],
        json!([
            "system:bootstrappers",
            "system:bootstrappers:kubeadm:default-node-token",
            "system:authenticated"
        ])
    );
    assert_eq!(review(&server, "abcdef.fedcba9876543210").await["authenticated"], Value::Null);
    server.post(SECRETS, &token("ghijkl", "2001-01-01T00:00:00Z").to_string()).await.ok();
    assert_eq!(review(&server, "ghijkl.0123456789abcdef").await["authenticated"], Value::Null);
    // The same Secret elsewhere lets nobody in.
    let elsewhere = token("mnopqr", "2999-01-01T00:00:00Z").to_string();
    server.post("/api/v1/namespaces/default/secrets", &elsewhere).await.ok();
    assert_eq!(review(&server, "mnopqr.0123456789abcdef").await["authenticated"], Value::Null);
    server.delete(&format!("{SECRETS}/bootstrap-token-abcdef"), "").await.ok();
    assert_eq!(review(&server, known).await["authenticated"], Value::Null);
}

fn pem(organization: &str) -> String {
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::OrganizationName, organization);
    params.distinguished_name.push(rcgen::DnType::CommonName, "bob");
    let key = rcgen::KeyPair::generate().unwrap();
    STANDARD.encode(params.serialize_request(&key).unwrap().pem().unwrap())
}

fn csr(name: &str, signer: &str, organization: &str) -> String {
    let spec = json!({ "request": pem(organization), "signerName": signer, "usages": ["client auth"] });
    json!({ "metadata": { "name": name }, "spec": spec }).to_string()
}

async fn allow(server: &Server, user: &str, rules: Value) {
    let base = "/apis/rbac.authorization.k8s.io/v1";
    let role = json!({ "metadata": { "name": user }, "rules": rules });
    server.post(&format!("{base}/clusterroles"), &role.to_string()).await.ok();
    let binding = json!({
        "metadata": { "name": user },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": user },
        "subjects": [{ "kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": user }],
    });
    server.post(&format!("{base}/clusterrolebindings"), &binding.to_string()).await.ok();
}

fn rule(verbs: &[&str], resources: &[&str], names: &[&str]) -> Value {
    json!({ "apiGroups": ["certificates.k8s.io"], "verbs": verbs, "resources": resources,
        "resourceNames": names })
}

#[tokio::test]
async fn approving_and_signing_need_the_signer_too() {
    let server = Server::start().await;
    let parts = ["certificatesigningrequests/approval", "certificatesigningrequests/status"];
    let (bob, eve) = ["bob", "eve"].map(|name| UserInfo::authenticated(name, Vec::<String>::new())).into();
    allow(&server, "eve", json!([rule(&["update"], &parts, &[])])).await;
    let rules = json!([
        rule(&["update"], &parts, &[]),
        rule(&["approve"], &["signers"], &["example.com/*"]),
        rule(&["sign"], &["signers"], &["example.com/x"]),
    ]);
    allow(&server, "bob", rules).await;
    let mut object = server.post(REQUESTS, &csr("a", "example.com/x", "devs")).await.ok();
    let place = |part: &str| format!("{REQUESTS}/a/{part}");
    object["status"] = json!({ "conditions": [{ "type": "Approved", "status": "True", "reason": "r" }] });
    let put = async |user: &UserInfo, part: &str, body: &Value| {
        server.as_user(user.clone(), "PUT", &place(part), &body.to_string()).await
    };
    let refused = put(&eve, "approval", &object).await.failure();
    assert!(
        refused.starts_with("403")
            && refused.contains("user not permitted to approve requests with signerName \"example.com/x\""),
        "{refused}"
    );
    let mut object = put(&bob, "approval", &object).await.ok();
    object["status"]["certificate"] = STANDARD.encode("PEM").into();
    let refused = put(&eve, "status", &object).await.failure();
    assert!(
        refused.starts_with("403")
            && refused.contains("user not permitted to sign requests with signerName \"example.com/x\""),
        "{refused}"
    );
    let signed = put(&bob, "status", &object).await.ok();
    assert_eq!(signed["status"]["certificate"], object["status"]["certificate"]);
    assert_eq!(signed["status"]["conditions"][0]["type"], "Approved");
    // Another signer of that domain: approving is allowed, signing is not.
    let mut other = server.post(REQUESTS, &csr("b", "example.com/y", "devs")).await.ok();
    other["status"] = json!({ "conditions": [{ "type": "Failed", "status": "True", "reason": "r" }] });
    let path = format!("{REQUESTS}/b/status");
    assert_eq!(server.as_user(bob, "PUT", &path, &other.to_string()).await.code, 403);
}

#[tokio::test]
async fn nobody_becomes_a_master_by_a_certificate() {
    let server = Server::start().await;
    let signer = "kubernetes.io/kube-apiserver-client";
    let refused = server.post(REQUESTS, &csr("a", signer, "system:masters")).await.failure();
    assert!(
        refused.starts_with("403") && refused.contains("system:masters group is not allowed"),
        "{refused}"
    );
    server.post(REQUESTS, &csr("a", signer, "devs")).await.ok();
    let bad = server.post(REQUESTS, &csr("b", "nonsense", "devs")).await.failure();
    assert!(bad.starts_with("422"), "{bad}");
}
