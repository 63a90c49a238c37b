//! Nodes: what a kubelet may write, and the taint a new node starts with.

use async_trait::async_trait;
use serde_json::{Value, json};

use super::{Attributes, Operation, Rule};
use crate::api::Api;
use crate::auth::node;
use crate::error::Outcome;
use crate::value::{self, text};

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
            ("", "pods") => check_pod(me, at),
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
    let (Operation::Update, Some(new), Some(old)) = (at.operation, object, at.old) else { return Ok(()) };
    if new.pointer("/spec/taints") != old.pointer("/spec/taints") {
        return Err(at.forbid(format!("node \"{me}\" is not allowed to modify taints")));
    }
    Ok(())
}

fn check_pod(me: &str, at: &Attributes<'_>) -> Outcome<()> {
    let Some(old) = at.old else { return Ok(()) };
    if text(old, "/spec/nodeName") != me {
        let verb = if at.operation == Operation::Delete { "delete" } else { "update" };
        return Err(at.forbid(format!(
            "node \"{me}\" can only {verb} pod{} with spec.nodeName set to itself",
            if at.subresource == "status" { " status for pods" } else { "s" }
        )));
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
