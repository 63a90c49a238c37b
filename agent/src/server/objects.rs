//! What a fresh cluster holds besides the API server's own: the DNS Service and what DNS may read, and what machines
//! need that join: rights by kubeadm's names, the cluster's address and CA, what nodes must know.

use anyhow::{Context, Result};
use coracle_control::ControlPlane;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};

use crate::join::ClusterFacts;
use crate::join::facts;
use crate::settings::Settings;
use crate::tokens::NODE_GROUP;

/// Who cluster DNS is to the API server.
pub const DNS_USER: &str = "system:coracle:dns";

/// Applies the objects; doing it again changes nothing.
pub async fn ensure(control: &ControlPlane, settings: &Settings, cluster: &ClusterFacts) -> Result<()> {
    let client = control.client("system:coracle:up", &["system:masters"]);
    let all = [
        objects(settings),
        joining(),
        vec![cluster_info(&settings.advertised_url(), control.ca_pem())?, known_to_nodes(cluster)?],
    ];
    for object in all.concat() {
        let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (group, version) = match text("/apiVersion").split_once('/') {
            Some((group, version)) => (group.to_owned(), version.to_owned()),
            None => (String::new(), text("/apiVersion")),
        };
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(&group, &version, &text("/kind")));
        let api: Api<DynamicObject> = match text("/metadata/namespace").as_str() {
            "" => Api::all_with(client.clone(), &resource),
            namespace => Api::namespaced_with(client.clone(), namespace, &resource),
        };
        let name = text("/metadata/name");
        api.patch(&name, &PatchParams::apply("coracle").force(), &Patch::Apply(&object))
            .await
            .with_context(|| format!("apply {} {name}", text("/kind")))?;
    }
    Ok(())
}

fn objects(settings: &Settings) -> Vec<Value> {
    vec![
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {"name": DNS_USER},
            "rules": [
                {"apiGroups": [""], "resources": ["services", "namespaces"], "verbs": ["list", "watch"]},
                {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
            ],
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": DNS_USER},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": DNS_USER},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": DNS_USER}],
        }),
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {
                "name": "kube-dns", "namespace": "kube-system",
                "labels": {
                    "k8s-app": "kube-dns",
                    "kubernetes.io/cluster-service": "true",
                    "kubernetes.io/name": "CoreDNS",
                    // Every node answers at this address itself: the service proxy leaves it alone.
                    "service.kubernetes.io/service-proxy-name": "coracle-dns",
                },
            },
            "spec": {
                "clusterIP": settings.cluster_dns,
                "ports": [
                    {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": 53},
                    {"name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": 53},
                ],
            },
        }),
    ]
}

const RBAC: &str = "rbac.authorization.k8s.io";

fn group(name: &str) -> Value {
    json!({"apiGroup": RBAC, "kind": "Group", "name": name})
}

fn cluster_binding(name: &str, role: &str, subject: &Value) -> Value {
    json!({
        "apiVersion": format!("{RBAC}/v1"), "kind": "ClusterRoleBinding", "metadata": {"name": name},
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": role}, "subjects": [subject],
    })
}

/// A Role that lets one object be read, and who may.
fn readable(name: &str, (namespace, object): (&str, &str), subjects: &[Value]) -> [Value; 2] {
    [
        json!({
            "apiVersion": format!("{RBAC}/v1"), "kind": "Role",
            "metadata": {"name": name, "namespace": namespace},
            "rules": [{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": [object],
                "verbs": ["get"]}],
        }),
        json!({
            "apiVersion": format!("{RBAC}/v1"), "kind": "RoleBinding",
            "metadata": {"name": name, "namespace": namespace},
            "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": name}, "subjects": subjects,
        }),
    ]
}

/// What machines may do that hold a token, and nodes that came in by one.
fn joining() -> Vec<Value> {
    const REQUESTS: &str = "system:certificates.k8s.io:certificatesigningrequests";
    let (joiners, nodes) = (group(NODE_GROUP), group("system:nodes"));
    let approver = json!({"kind": "ServiceAccount", "namespace": "kube-system",
        "name": "certificate-controller"});
    let anonymous = json!({"apiGroup": RBAC, "kind": "User", "name": "system:anonymous"});
    let mut all = vec![
        cluster_binding("kubeadm:kubelet-bootstrap", "system:node-bootstrapper", &joiners),
        cluster_binding("kubeadm:node-autoapprove-bootstrap", &format!("{REQUESTS}:nodeclient"), &joiners),
        cluster_binding(
            "kubeadm:node-autoapprove-certificate-rotation",
            &format!("{REQUESTS}:selfnodeclient"),
            &nodes,
        ),
        cluster_binding(
            "coracle:kubelet-serving-approver",
            "system:certificates.k8s.io:kubelet-serving-approver",
            &approver,
        ),
        // Who joins looks whether its name is free.
        json!({
            "apiVersion": format!("{RBAC}/v1"), "kind": "ClusterRole",
            "metadata": {"name": "kubeadm:get-nodes"},
            "rules": [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["get"]}],
        }),
        cluster_binding("kubeadm:get-nodes", "kubeadm:get-nodes", &joiners),
        // An agent's service proxy and DNS speak as their node.
        cluster_binding("coracle:node-proxier", "system:node-proxier", &nodes),
        cluster_binding("coracle:node-dns", DNS_USER, &nodes),
    ];
    let info = ("kube-public", "cluster-info");
    all.extend(readable("kubeadm:bootstrap-signer-clusterinfo", info, &[anonymous]));
    all.extend(readable("coracle:cluster", (facts::NAMESPACE, facts::NAME), &[nodes, joiners]));
    all
}

/// Where the cluster is and by which CA it is known: for machines that do not trust anybody yet. The controllers add a
/// signature for each token.
fn cluster_info(server: &str, ca_pem: &str) -> Result<Value> {
    use base64::Engine;
    let ca = base64::engine::general_purpose::STANDARD.encode(ca_pem);
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "preferences": {}, "contexts": [], "users": [],
        "current-context": "",
        "clusters": [{"name": "", "cluster": {"certificate-authority-data": ca, "server": server}}],
    });
    let text = serde_json::to_string_pretty(&kubeconfig).context("encode cluster-info")?;
    Ok(json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "cluster-info", "namespace": "kube-public"},
        "data": {"kubeconfig": text},
    }))
}

fn known_to_nodes(cluster: &ClusterFacts) -> Result<Value> {
    let text = serde_json::to_string(cluster).context("encode what nodes must know")?;
    Ok(json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": facts::NAME, "namespace": facts::NAMESPACE},
        "data": {facts::KEY: text},
    }))
}
