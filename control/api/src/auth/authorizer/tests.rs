use serde_json::json;

use super::*;

/// A cluster with the default roles and a few bindings and pods.
fn cluster() -> (Authorizer, Arc<AuthIndex>) {
    let index = Arc::new(AuthIndex::default());
    for it in bootstrap::objects() {
        index.changed(it.resource, &it.namespace, &it.name, Some(&it.object));
    }
    let bind = |resource: &str, namespace: &str, role_kind: &str, role: &str, kind: &str, subject: &str| {
        let object = json!({
            "roleRef": {"kind": role_kind, "name": role}, "subjects": [{"kind": kind, "name": subject}],
        });
        index.changed(resource, namespace, &format!("{role}-{subject}"), Some(&object));
    };
    bind("rolebindings", "team", "ClusterRole", "edit", "User", "eddy");
    bind("rolebindings", "team", "ClusterRole", "view", "ServiceAccount", "bot");
    bind("clusterrolebindings", "", "ClusterRole", "view", "Group", "auditors");
    bind("rolebindings", "team", "Role", "missing", "User", "lost");
    bind("rolebindings", "team", "Role", "one-map", "User", "narrow");
    let role = json!({"rules": [
        {"verbs": ["get"], "apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["a"]},
        {"verbs": ["*"], "apiGroups": ["apps"], "resources": ["*/scale"]},
    ]});
    index.changed("roles", "team", "one-map", Some(&role));
    let pod = json!({"metadata": {"uid": "1"}, "spec": {
        "nodeName": "n1", "serviceAccountName": "bot",
        "volumes": [{"secret": {"secretName": "s"}}, {"projected": {"sources": [{"configMap": {"name": "c"}}]}}],
        "containers": [{"envFrom": [{"secretRef": {"name": "e"}}]}],
    }});
    index.changed("pods", "team", "web", Some(&pod));
    (Authorizer::new(index.clone()), index)
}

fn user(name: &str) -> UserInfo {
    match name.split_once('@') {
        Some((name, group)) => UserInfo::authenticated(name, [group.to_owned()]),
        None => UserInfo::authenticated(name, []),
    }
}

/// `verb group/resource[/sub] namespace name [selector]`, `-` for nothing; or `verb /path`.
fn ask(who: &UserInfo, question: &str) -> Decision {
    let words: Vec<&str> = question.split(' ').map(|word| if word == "-" { "" } else { word }).collect();
    let (authorizer, _) = cluster();
    if words[1].starts_with('/') {
        return authorizer.authorize(&Attributes::path(who, words[0], words[1]));
    }
    let mut parts = words[1].split('/');
    let (group, resource) = (parts.next().unwrap(), parts.next().unwrap());
    let group = if group == "core" { "" } else { group };
    authorizer.authorize(&Attributes {
        subresource: parts.next().unwrap_or_default(),
        namespace: words[2],
        name: words[3],
        field_selector: words.get(4).copied().unwrap_or_default(),
        ..Attributes::resource(who, words[0], group, resource)
    })
}

#[test]
fn default_roles_decide_as_upstream_does() {
    let check = |who: &str, question: &str, want: bool| {
        assert_eq!(ask(&user(who), question).is_allowed(), want, "{who}: {question}");
    };
    check("eddy", "create apps/deployments team -", true);
    check("eddy", "get core/pods/log team x", true);
    check("eddy", "create core/pods/exec team x", true);
    check("eddy", "create rbac.authorization.k8s.io/roles team -", false);
    check("eddy", "create apps/deployments other -", false);
    check("eddy", "list core/nodes - -", false);
    check("system:serviceaccount:team:bot", "list core/pods team -", true);
    check("system:serviceaccount:team:bot", "get core/secrets team s", false);
    check("system:serviceaccount:other:bot", "list core/pods team -", false);
    check("ann@auditors", "list core/pods any -", true);
    check("ann@auditors", "list core/pods - -", true);
    check("ann@auditors", "delete core/pods any x", false);
    check("narrow", "get core/configmaps team a", true);
    check("narrow", "get core/configmaps team b", false);
    check("narrow", "list core/configmaps team -", false);
    check("narrow", "patch apps/deployments/scale team d", true);
    check("narrow", "patch apps/deployments team d", false);
    check("nobody", "create authorization.k8s.io/selfsubjectaccessreviews - -", true);
    check("nobody", "get /healthz", true);
    check("nobody", "get /api/v1", true);
    check("nobody", "get /metrics", false);
    check("root@system:masters", "delete core/nodes - x", true);
    check("system:kube-scheduler", "create core/pods/binding any p", true);
    assert!(ask(&UserInfo::anonymous(), "get /livez").is_allowed());
    assert!(!ask(&UserInfo::anonymous(), "get /api/v1").is_allowed());
}

#[test]
fn decisions_say_why() {
    let reason = |who: &str, question: &str| ask(&user(who), question).reason().to_owned();
    assert_eq!(
        reason("eddy", "get core/pods team x"),
        "RBAC: allowed by RoleBinding \"edit-eddy/team\" of ClusterRole \"edit\" to User \"eddy\""
    );
    assert_eq!(
        reason("system:serviceaccount:team:bot", "get core/pods team x"),
        "RBAC: allowed by RoleBinding \"view-bot/team\" of ClusterRole \"view\" to ServiceAccount \"bot/team\""
    );
    assert_eq!(
        reason("lost", "get core/pods team x"),
        "RBAC: role.rbac.authorization.k8s.io \"missing\" not found"
    );
    let who = user("eddy");
    let pods = Attributes { namespace: "other", ..Attributes::resource(&who, "list", "", "pods") };
    assert_eq!(
        pods.denial(""),
        "User \"eddy\" cannot list resource \"pods\" in API group \"\" in the namespace \"other\""
    );
    assert_eq!(Attributes::path(&who, "get", "/x").denial(""), "User \"eddy\" cannot get path \"/x\"");
}

#[test]
fn a_node_sees_and_touches_its_own_things_only() {
    let check = |question: &str, want: bool| {
        let decision = ask(&user("system:node:n1@system:nodes"), question);
        assert_eq!(decision.is_allowed(), want, "{question}: {decision:?}");
        assert!(
            !ask(&user("system:node:n2@system:nodes"), question).is_allowed()
                || !question.contains("web") && !question.contains(" n1"),
            "n2: {question}"
        );
    };
    check("get core/secrets team s", true);
    check("get core/secrets team e", true);
    check("watch core/secrets team s", true);
    check("get core/secrets team x", false);
    check("list core/secrets team -", false);
    check("get core/configmaps team c", true);
    check("update core/configmaps team c", false);
    check("create core/serviceaccounts/token team bot", true);
    check("create core/serviceaccounts/token team other", false);
    check("patch core/nodes/status - n1", true);
    check("patch core/nodes/status - n2", false);
    check("create core/nodes - -", true);
    check("update coordination.k8s.io/leases kube-node-lease n1", true);
    check("update coordination.k8s.io/leases kube-system n1", false);
    check("list core/pods - - spec.nodeName=n1", true);
    check("list core/pods - - spec.nodeName=n2", false);
    check("patch core/pods/status team web", true);
    check("delete core/pods team web", true);
    check("list core/services - -", true);
    check("create authentication.k8s.io/tokenreviews - -", true);
    check("create core/events team -", true);
    check("list core/secrets - -", false);
}

#[test]
fn nobody_hands_out_what_he_does_not_hold() {
    let (authorizer, _) = cluster();
    let rule = |verb: &str| PolicyRule {
        verbs: vec![verb.to_owned()],
        api_groups: vec![String::new()],
        resources: vec!["pods".to_owned()],
        ..PolicyRule::default()
    };
    let write =
        |who: &str, verb: &str| authorizer.check_role_write(&user(who), "team", "r", &[rule(verb)]).is_ok();
    assert!(write("eddy", "delete"));
    assert!(!write("eddy", "escalate"));
    assert!(!write("eddy", "*"));
    assert!(write("root@system:masters", "*"));
    let bind = |who: &str, role: &str| {
        let role =
            rbac::RoleRef { kind: "ClusterRole".to_owned(), name: role.to_owned(), ..Default::default() };
        authorizer.check_binding_write(&user(who), "team", &role).is_ok()
    };
    assert!(bind("eddy", "view"));
    assert!(!bind("eddy", "admin"));
    assert!(!bind("eddy", "missing"));
    let text = rbac::check_held(&user("bob"), &[], &[rule("get"), rule("list")]).unwrap_err();
    assert_eq!(
        text,
        "user \"bob\" (groups=[\"system:authenticated\"]) is attempting to grant RBAC permissions not \
         currently held:\n{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"get\" \"list\"]}"
    );
}

#[test]
fn aggregates_follow_their_parts() {
    let (authorizer, index) = cluster();
    let crontabs = |who: &str, verb: &str| {
        let who = user(who);
        let question = Attributes {
            namespace: "team",
            ..Attributes::resource(&who, verb, "stable.example.com", "crontabs")
        };
        authorizer.authorize(&question).is_allowed()
    };
    assert!(!crontabs("ann@auditors", "get"));
    let part = json!({
        "metadata": {"labels": {"rbac.authorization.k8s.io/aggregate-to-view": "true"}},
        "rules": [{"verbs": ["get"], "apiGroups": ["stable.example.com"], "resources": ["crontabs"]}],
    });
    index.changed("clusterroles", "", "crontabs-view", Some(&part));
    // view is part of edit, which is part of admin.
    assert!(crontabs("ann@auditors", "get") && crontabs("eddy", "get") && !crontabs("eddy", "delete"));
    assert!(index.aggregated_rules("admin").unwrap().iter().any(|rule| rule.resources == ["crontabs"]));
    index.changed("clusterroles", "", "crontabs-view", None);
    assert!(!crontabs("ann@auditors", "get") && !crontabs("eddy", "get"));
}

#[test]
fn rules_that_expand_without_end_are_not_expanded() {
    let check = |count: usize, held: bool| {
        let names: Vec<String> = (0..count).map(|it| format!("n{it}")).collect();
        let wanted = PolicyRule { resource_names: names.clone(), ..PolicyRule::everything() };
        let wide = PolicyRule { verbs: names.clone(), api_groups: names.clone(), resources: names, ..wanted };
        let all = [PolicyRule::everything()];
        assert_eq!(rbac::check_held(&user("bob"), &all, &[wide]).is_ok(), held, "{count}");
    };
    check(10, true); // ten to the fourth, just within
    check(11, false);
    check(1000, false);
}

#[test]
fn every_reference_of_a_pod_counts() {
    let check = |spec: serde_json::Value, want: bool| {
        let pod = json!({ "spec": spec });
        assert_eq!(crate::auth::index::refers_to_objects(&pod), want, "{pod}");
    };
    check(
        json!({ "volumes": [{ "name": "v", "hostPath": { "path": "/x" } }, { "name": "e", "emptyDir": {} }] }),
        false,
    );
    check(json!({ "containers": [{ "env": [{ "name": "A", "value": "b" }] }] }), false);
    check(json!({ "serviceAccountName": "s" }), true);
    check(json!({ "imagePullSecrets": [{ "name": "s" }] }), true);
    check(json!({ "volumes": [{ "configMap": { "name": "c" } }] }), true);
    check(json!({ "volumes": [{ "persistentVolumeClaim": { "claimName": "c" } }] }), true);
    check(
        json!({ "volumes": [{ "projected": { "sources": [{ "serviceAccountToken": { "path": "t" } }] } }] }),
        true,
    );
    check(json!({ "volumes": [{ "projected": { "sources": [{ "downwardAPI": {} }] } }] }), false);
    check(json!({ "initContainers": [{ "envFrom": [{ "secretRef": { "name": "s" } }] }] }), true);
}
