//! Who may do what, and reviews of it.

use coracle_api::auth::UserInfo;
use serde_json::json;

use crate::harness::{MAPS, PODS, Server, request};

fn bob() -> UserInfo {
    UserInfo::authenticated("bob", ["devs".to_owned()])
}

#[tokio::test]
async fn a_stranger_is_refused_in_upstreams_words() {
    let server = Server::start().await;
    let refused = server.as_user(bob(), "GET", PODS, "").await;
    assert_eq!(
        refused.failure(),
        "403 Forbidden: pods is forbidden: User \"bob\" cannot list resource \"pods\" in API group \"\" in the \
         namespace \"default\""
    );
    let refused = server.as_user(bob(), "GET", "/metrics", "").await;
    assert_eq!(refused.failure(), "403 Forbidden: forbidden: User \"bob\" cannot get path \"/metrics\"");
    server.as_user(bob(), "GET", "/version", "").await.ok();
}

#[tokio::test]
async fn a_binding_counts_from_the_next_request_on() {
    let server = Server::start().await;
    let binding = json!({
        "metadata": { "name": "devs" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view" },
        "subjects": [{ "kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": "devs" }],
    });
    let bindings = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings";
    server.post(bindings, &binding.to_string()).await.ok();
    server.get(bindings).await.ok();
    server.as_user(bob(), "GET", PODS, "").await.ok();
    assert_eq!(server.as_user(bob(), "GET", "/api/v1/pods", "").await.code, 403);
    assert_eq!(server.as_user(bob(), "POST", MAPS, "{}").await.code, 403);
}

#[tokio::test]
async fn nobody_grants_more_than_they_have() {
    let server = Server::start().await;
    let admin = json!({
        "metadata": { "name": "b" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "admin" },
        "subjects": [{ "kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "bob" }],
    });
    let path = "/apis/rbac.authorization.k8s.io/v1/namespaces/default";
    server.post(&format!("{path}/rolebindings"), &admin.to_string()).await.ok();
    let fits = json!({
        "metadata": { "name": "r" },
        "rules": [{ "apiGroups": [""], "resources": ["pods"], "verbs": ["get"] }],
    });
    server.as_user(bob(), "POST", &format!("{path}/roles"), &fits.to_string()).await.ok();
    let more = json!({
        "metadata": { "name": "more" },
        "rules": [{ "apiGroups": [""], "resources": ["nodes"], "verbs": ["delete"] }],
    });
    let refused = server.as_user(bob(), "POST", &format!("{path}/roles"), &more.to_string()).await;
    assert!(
        refused.failure().contains("attempting to grant RBAC permissions not currently held"),
        "{}",
        refused.failure()
    );
}

#[tokio::test]
async fn one_can_act_as_another_if_allowed() {
    let server = Server::start().await;
    let mut get = request("GET", PODS, "", "");
    get.headers_mut().insert("impersonate-user", "bob".parse().unwrap());
    assert!(server.send(get).await.failure().contains("User \"bob\" cannot list"));
    let other = UserInfo::authenticated("eve", []);
    let review = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let mine = server.as_user(other, "POST", review, "{}").await.ok();
    assert_eq!(mine["status"]["userInfo"]["username"], "eve");
}

#[tokio::test]
async fn reviews_answer() {
    let server = Server::start().await;
    let root = "/apis/authorization.k8s.io/v1";
    let check = async |user: UserInfo, verb: &str, want: bool| {
        let body = json!({ "spec": { "resourceAttributes": { "verb": verb, "resource": "pods", "namespace": "x" } } });
        let path = format!("{root}/selfsubjectaccessreviews");
        let review = server.as_user(user, "POST", &path, &body.to_string()).await.ok();
        assert_eq!(review["status"]["allowed"], want, "{verb}");
    };
    check(UserInfo::master("m"), "delete", true).await;
    check(bob(), "delete", false).await;
    let body = json!({ "spec": { "user": "u", "groups": ["system:masters"],
        "nonResourceAttributes": { "verb": "get", "path": "/metrics" } } });
    let review = server.post(&format!("{root}/subjectaccessreviews"), &body.to_string()).await.ok();
    assert_eq!(review["status"]["allowed"], true);
    let body = json!({ "spec": { "namespace": "default" } });
    let path = format!("{root}/selfsubjectrulesreviews");
    let rules = server.as_user(bob(), "POST", &path, &body.to_string()).await.ok();
    assert_eq!(rules["status"]["incomplete"], false);
    let body = json!({ "spec": { "token": "nonsense" } });
    let review = server.post("/apis/authentication.k8s.io/v1/tokenreviews", &body.to_string()).await.ok();
    assert!(review["status"]["authenticated"] != json!(true));
}

#[tokio::test]
async fn a_kubelet_writes_its_own_node_and_no_other() {
    let server = Server::start().await;
    let me = UserInfo::authenticated("system:node:a", ["system:nodes".to_owned()]);
    let node = |name: &str| json!({ "metadata": { "name": name } }).to_string();
    let made = server.as_user(me.clone(), "POST", "/api/v1/nodes", &node("a")).await.ok();
    assert_eq!(made["spec"]["taints"][0]["key"], "node.kubernetes.io/not-ready");
    let other = server.as_user(me, "POST", "/api/v1/nodes", &node("b")).await;
    assert_eq!(other.code, 403, "{}", other.failure());
}
