//! Nodes: what a kubelet may write, and the taint a new node starts with.

use std::collections::BTreeSet;

use async_trait::async_trait;
use serde_json::{Value, json};

use super::{Attributes, Operation, Rule};
use crate::api::Api;
use crate::auth::node;
use crate::error::Outcome;
use crate::value::{self, text};

/// Labels in Kubernetes's domains that a kubelet sets.
const KUBELET_LABELS: [&str; 11] = [
    "kubernetes.io/hostname",
    "kubernetes.io/arch",
    "kubernetes.io/os",
    "node.kubernetes.io/instance-type",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/instance-type",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
];

/// NodeRestriction: a kubelet writes its own node and the pods bound to it, no others.
pub struct NodeRestriction;

#[async_trait]
impl Rule for NodeRestriction {
    fn name(&self) -> &'static str {
        "NodeRestriction"
    }

    async fn check(&self, api: &Api, at: &Attributes<'_>, object: Option<&Value>) -> Outcome<()> {
        let Some(me) = at.user().node_name() else { return Ok(()) };
        let resource = at.resource.info.resource;
        if let (Operation::Create, "", Some(object)) = (at.operation, at.subresource, object) {
            node::may_create(me, resource, object).map_err(|why| at.forbid(why))?;
        }
        match (at.resource.info.group, resource) {
            ("", "nodes") => check_node(me, at, object),
            ("", "pods") => check_pod(me, at, object),
            ("", "serviceaccounts") if at.subresource == "token" => check_token(me, api, at, object),
            _ => Ok(()),
        }
    }
}

fn check_node(me: &str, at: &Attributes<'_>, object: Option<&Value>) -> Outcome<()> {
    let name = object.map_or(at.name, value::name);
    if name != me {
        return Err(at.forbid(format!("node \"{me}\" is not allowed to modify node \"{name}\"")));
    }
    let Some(new) = object else { return Ok(()) };
    let foreign = foreign_labels(at.old.unwrap_or(&Value::Null), new);
    if !foreign.is_empty() {
        let verb = if at.operation == Operation::Create { "set the following" } else { "modify" };
        let list: Vec<&str> = foreign.into_iter().collect();
        return Err(at.forbid(format!("node \"{me}\" is not allowed to {verb} labels: {}", list.join(", "))));
    }
    let (Operation::Update, Some(old)) = (at.operation, at.old) else { return Ok(()) };
    if new.pointer("/spec/taints") != old.pointer("/spec/taints") {
        return Err(at.forbid(format!("node \"{me}\" is not allowed to modify taints")));
    }
    Ok(())
}

/// Labels that differ and are not a kubelet's to choose: they would let a node draw privileged pods to itself.
fn foreign_labels<'a>(old: &'a Value, new: &'a Value) -> BTreeSet<&'a str> {
    let labels = |object: &'a Value| object.pointer("/metadata/labels").and_then(Value::as_object);
    let (was, is) = (labels(old), labels(new));
    let names = was.into_iter().chain(is).flat_map(|map| map.keys().map(String::as_str));
    names
        .filter(|name| was.and_then(|map| map.get(*name)) != is.and_then(|map| map.get(*name)))
        .filter(|name| !is_kubelets(name))
        .collect()
}

/// Whether a kubelet may choose the label: anything outside Kubernetes's own domains, and of those what it knows best.
fn is_kubelets(label: &str) -> bool {
    let domain = label.split_once('/').map_or("", |(domain, _)| domain);
    let within =
        |parent: &str| domain.strip_suffix(parent).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    if within("node-restriction.kubernetes.io") {
        return false;
    }
    let reserved = within("kubernetes.io") || within("k8s.io");
    !reserved
        || within("kubelet.kubernetes.io")
        || within("node.kubernetes.io")
        || KUBELET_LABELS.contains(&label)
}

fn check_pod(me: &str, at: &Attributes<'_>, object: Option<&Value>) -> Outcome<()> {
    let Some(old) = at.old else { return Ok(()) };
    if text(old, "/spec/nodeName") != me {
        let verb = if at.operation == Operation::Delete { "delete" } else { "update" };
        return Err(at.forbid(format!(
            "node \"{me}\" can only {verb} pod{} with spec.nodeName set to itself",
            if at.subresource == "status" { " status for pods" } else { "s" }
        )));
    }
    let labels = |pod: &Value| {
        let map = pod.pointer("/metadata/labels").and_then(Value::as_object);
        map.filter(|map| !map.is_empty()).cloned()
    };
    if at.subresource == "status" && object.is_some_and(|new| labels(new) != labels(old)) {
        return Err(at.forbid(format!("node \"{me}\" can not update labels through pod status")));
    }
    Ok(())
}

fn check_token(me: &str, api: &Api, at: &Attributes<'_>, request: Option<&Value>) -> Outcome<()> {
    let Some(request) = request else { return Ok(()) };
    let (kind, name, uid) = (
        text(request, "/spec/boundObjectRef/kind"),
        text(request, "/spec/boundObjectRef/name"),
        text(request, "/spec/boundObjectRef/uid"),
    );
    if kind != "Pod" {
        return Err(at.forbid(format!("node requested token not bound to a pod: {kind:?}")));
    }
    if uid.is_empty() {
        return Err(at.forbid("node requested token with a pod binding without a uid"));
    }
    let mine = api.auth_index.pod(at.namespace, name).is_some_and(|pod| pod.node == me && pod.uid == uid);
    if mine {
        Ok(())
    } else {
        Err(at.forbid(format!("node requested token bound to a pod scheduled on a different node: {name}")))
    }
}

/// TaintNodesByCondition: a node takes no pods until its conditions have been seen.
pub struct TaintNodesByCondition;

const NOT_READY: &str = "node.kubernetes.io/not-ready";

#[async_trait]
impl Rule for TaintNodesByCondition {
    fn name(&self) -> &'static str {
        "TaintNodesByCondition"
    }

    async fn admit(&self, _: &Api, at: &Attributes<'_>, object: &mut Value) -> Outcome<()> {
        if at.operation != Operation::Create || !at.is("", "nodes") {
            return Ok(());
        }
        let taints = value::child(object, "spec").entry("taints").or_insert_with(|| json!([]));
        if let Some(list) = taints.as_array_mut()
            && !list.iter().any(|taint| text(taint, "/key") == NOT_READY)
        {
            list.push(json!({ "key": NOT_READY, "effect": "NoSchedule" }));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kubelet_chooses_its_own_labels_only() {
        let check = |label: &str, want: bool| assert_eq!(is_kubelets(label), want, "{label}");
        check("team", true);
        check("example.com/team", true);
        check("notkubernetes.io/x", true);
        check("kubernetes.io/hostname", true);
        check("beta.kubernetes.io/os", true);
        check("topology.kubernetes.io/zone", true);
        check("node.kubernetes.io/anything", true);
        check("x.kubelet.kubernetes.io/anything", true);
        check("topology.kubernetes.io/other", false);
        check("node-role.kubernetes.io/control-plane", false);
        check("node-restriction.kubernetes.io/x", false);
        check("a.node-restriction.kubernetes.io/x", false);
        check("kubernetes.io/x", false);
        check("sub.k8s.io/x", false);
    }

    #[test]
    fn only_labels_that_change_count() {
        let node = |labels: Value| json!({ "metadata": { "labels": labels } });
        let check = |old: Value, new: Value, want: &[&str]| {
            let found: Vec<&str> = foreign_labels(&old, &new).into_iter().collect();
            assert_eq!(found, want);
        };
        let role = "node-role.kubernetes.io/a";
        check(node(json!({ role: "" })), node(json!({ role: "", "mine": "x" })), &[]);
        check(node(json!({ role: "" })), node(json!({})), &[role]);
        check(node(json!({ role: "" })), node(json!({ role: "x" })), &[role]);
        check(Value::Null, node(json!({ role: "", "kubernetes.io/os": "linux" })), &[role]);
    }
}
