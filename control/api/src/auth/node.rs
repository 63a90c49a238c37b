//! What a node may do: the rules of `system:node`, narrowed to the node's own objects.

use super::authorizer::Attributes;
use super::index::{AuthIndex, RefKind};
use super::rbac::PolicyRule;

/// Decides for the node `node`; the error is the reason against.
pub fn authorize(
    node: &str,
    attributes: &Attributes<'_>,
    rules: &[PolicyRule],
    index: &AuthIndex,
) -> Result<(), String> {
    let request = Request { node, attributes, index };
    let narrowed = match (attributes.group, attributes.resource) {
        _ if !attributes.resource_request => Ok(()),
        ("", "secrets") => request.referenced(RefKind::Secret),
        ("", "configmaps") => request.referenced(RefKind::ConfigMap),
        ("", "persistentvolumeclaims") => request.referenced(RefKind::Claim),
        ("", "serviceaccounts") => request.service_account(),
        ("", "nodes") => request.own_node(),
        ("", "pods") => request.own_pods(),
        ("coordination.k8s.io", "leases") => request.own_lease(),
        ("storage.k8s.io", "csinodes") => request.named_as_node(),
        _ => Ok(()),
    };
    narrowed?;
    // The rules come second, so that a refusal by them stays silent and RBAC has the last word.
    if rules.iter().any(|rule| rule.allows(attributes)) { Ok(()) } else { Err(String::new()) }
}

struct Request<'a> {
    node: &'a str,
    attributes: &'a Attributes<'a>,
    index: &'a AuthIndex,
}

impl Request<'_> {
    fn reads(&self) -> bool {
        matches!(self.attributes.verb, "get" | "list" | "watch")
    }

    fn no_relationship(&self) -> Result<(), String> {
        Err(format!("no relationship found between node '{}' and this object", self.node))
    }

    fn referenced(&self, kind: RefKind) -> Result<(), String> {
        let it = self.attributes;
        if kind == RefKind::Claim && it.subresource == "status" && matches!(it.verb, "update" | "patch") {
            // Growing a file system reports into the claim.
        } else if !self.reads() || !it.subresource.is_empty() {
            return Err("can only read resources of this type".to_owned());
        }
        if it.name.is_empty() {
            return Err("No Object name found".to_owned());
        }
        if self.index.node_needs(self.node, kind, it.namespace, it.name) {
            return Ok(());
        }
        self.no_relationship()
    }

    fn service_account(&self) -> Result<(), String> {
        let it = self.attributes;
        let token = it.verb == "create" && it.subresource == "token";
        let read = it.verb == "get" && it.subresource.is_empty();
        if !(token || read) {
            return Err("can only create tokens for individual service accounts".to_owned());
        }
        if self.index.node_runs_as(self.node, it.namespace, it.name) {
            return Ok(());
        }
        self.no_relationship()
    }

    fn own_node(&self) -> Result<(), String> {
        let it = self.attributes;
        match it.verb {
            // Registration: the object's name is checked at admission, by `may_create_node`.
            "create" if it.subresource.is_empty() => Ok(()),
            "list" | "watch" if it.name.is_empty() => Ok(()),
            _ if it.name == self.node => Ok(()),
            "get" => Err(format!("node '{}' cannot read '{}', only its own Node object", self.node, it.name)),
            _ => Err(format!("node '{}' is not allowed to modify node '{}'", self.node, it.name)),
        }
    }

    fn own_pods(&self) -> Result<(), String> {
        let it = self.attributes;
        match it.verb {
            "create" if it.name.is_empty() => Ok(()),
            "list" | "watch" => {
                let wanted = format!("spec.nodeName={}", self.node);
                let own = it.field_selector.split(',').any(|part| part.replacen("==", "=", 1) == wanted);
                if own || !it.name.is_empty() && self.is_on_node() {
                    return Ok(());
                }
                Err("can only list/watch pods with spec.nodeName field selector".to_owned())
            }
            _ if self.is_on_node() => Ok(()),
            // A pod that is gone is not found, rather than forbidden, for whoever asks about it.
            "get" | "delete" | "patch" | "update" if self.index.pod(it.namespace, it.name).is_none() => {
                Ok(())
            }
            _ => self.no_relationship(),
        }
    }

    fn is_on_node(&self) -> bool {
        let it = self.attributes;
        self.index.pod(it.namespace, it.name).is_some_and(|pod| pod.node == self.node)
    }

    fn own_lease(&self) -> Result<(), String> {
        let it = self.attributes;
        if it.namespace != "kube-node-lease" {
            return Err("can only access leases in the \"kube-node-lease\" system namespace".to_owned());
        }
        if it.name == self.node || (it.verb == "create" && it.name.is_empty()) {
            return Ok(());
        }
        Err("can only access node lease with the same name as the requesting node".to_owned())
    }

    fn named_as_node(&self) -> Result<(), String> {
        let it = self.attributes;
        if it.name == self.node || (it.verb == "create" && it.name.is_empty()) {
            return Ok(());
        }
        Err("can only access CSINode with the same name as the requesting node".to_owned())
    }
}

/// Whether node `node` may create this Node, Lease or Pod: its own, and mirror pods bound to itself. To be asked at
/// admission, where the body is known.
pub fn may_create(node: &str, resource: &str, object: &serde_json::Value) -> Result<(), String> {
    let text = |path: &str| object.pointer(path).and_then(serde_json::Value::as_str).unwrap_or_default();
    match resource {
        "nodes" | "leases" | "csinodes" if text("/metadata/name") != node => {
            Err(format!("node \"{node}\" is not allowed to create {resource} \"{}\"", text("/metadata/name")))
        }
        "pods" if text("/metadata/annotations/kubernetes.io~1config.mirror").is_empty() => Err(format!(
            "pod does not have \"kubernetes.io/config.mirror\" annotation, node \"{node}\" can only create mirror pods"
        )),
        "pods" if text("/spec/nodeName") != node => {
            Err(format!("node \"{node}\" can only create pods with spec.nodeName set to itself"))
        }
        _ => Ok(()),
    }
}
