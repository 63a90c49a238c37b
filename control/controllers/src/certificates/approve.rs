//! Approves what nodes ask for: their first client certificate by a bootstrap token, renewals by the certificate
//! before, serving certificates for names and addresses that are the node's own.

use super::REQUESTS;
use super::request::{Asked, KUBELET_CLIENT, KUBELET_SERVING, check};
use super::views::Csr;
use crate::node_ipam::within;
use crate::run::now;
use crate::shared::{Context, Shared};
use crate::views::Node;
use crate::work::{self, Reconcile, Requeue};
use coracle_client::{CallError, Calls, Change, Informer, Key, Store, WorkQueue};
use serde::Deserialize;
use serde_json::{Value, json};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

const REVIEWS: &str = "/apis/authorization.k8s.io/v1/subjectaccessreviews";

/// Rights may come later: when to ask again for somebody who had none.
const ASK_AGAIN: Duration = Duration::from_secs(300);

/// What to do about a request.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Plan {
    /// It is for a person, or decided already.
    Leave,
    /// A client certificate: approved when its asker may create one of these, the first that is allowed.
    Ask(Vec<&'static str>),
    /// A serving certificate that may be had.
    Approve,
    /// A serving certificate of a node that has not registered yet.
    Wait,
    /// A serving certificate for what is not the node's, as far as is known.
    Withhold(String),
}

/// What is the cluster's own and never a node's: who has a certificate for it could pass for the API server.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reserved {
    /// Addresses of Services.
    pub(crate) service_cidrs: Vec<String>,
    /// Where the API server answers.
    pub(crate) addresses: Vec<IpAddr>,
}

impl Reserved {
    fn holds_address(&self, address: IpAddr) -> bool {
        address.is_loopback()
            || address.is_unspecified()
            || address.is_multicast()
            || self.addresses.contains(&address)
            || self.service_cidrs.iter().any(|it| within(it, address))
    }

    fn holds_name(name: &str) -> bool {
        let name = name.to_ascii_lowercase();
        let first = name.split('.').next().unwrap_or_default();
        ["kubernetes", "localhost"].contains(&first) || name.split('.').any(|it| it == "svc")
    }
}

fn plan(csr: &Csr, nodes: &[Arc<Node>], reserved: &Reserved) -> Plan {
    if csr.condition("Approved").or_else(|| csr.condition("Denied")).is_some() || csr.is_issued() {
        return Plan::Leave;
    }
    let Ok(asked) = Asked::parse(&csr.request()) else { return Plan::Leave };
    if check(csr, &asked).is_err() {
        return Plan::Leave;
    }
    let own = csr.spec.username == asked.common_name;
    match csr.spec.signer_name.as_str() {
        KUBELET_CLIENT if own => Plan::Ask(vec!["selfnodeclient", "nodeclient"]),
        KUBELET_CLIENT => Plan::Ask(vec!["nodeclient"]),
        KUBELET_SERVING if own && csr.spec.groups.iter().any(|it| it == "system:nodes") => {
            match foreign(&asked, nodes, reserved) {
                None => Plan::Approve,
                Some(Foreign::NoNode) => Plan::Wait,
                Some(Foreign::NotItsOwn(why)) => Plan::Withhold(why),
            }
        }
        _ => Plan::Leave,
    }
}

/// Why a serving certificate is not approved.
enum Foreign {
    NoNode,
    NotItsOwn(String),
}

/// A name or address in the request that is not the node's alone.
fn foreign(asked: &Asked, nodes: &[Arc<Node>], reserved: &Reserved) -> Option<Foreign> {
    let not_its_own = |why: String| Some(Foreign::NotItsOwn(why));
    let name = asked.node().unwrap_or_default();
    // Its addresses come a moment after the node.
    let known = |it: &&Arc<Node>| it.metadata.name == name && !it.status.addresses.is_empty();
    let Some(node) = nodes.iter().find(known) else {
        return Some(Foreign::NoNode);
    };
    let has = |node: &Node, address: &str| {
        let same = |it: &str| match (it.parse::<IpAddr>(), address.parse::<IpAddr>()) {
            (Ok(a), Ok(b)) => a == b,
            _ => it.eq_ignore_ascii_case(address),
        };
        node.metadata.name == address || node.status.addresses.iter().any(|it| same(&it.address))
    };
    if let Some(name) = asked.names.iter().find(|it| Reserved::holds_name(it)) {
        return not_its_own(format!("{name} is a name of the cluster's own"));
    }
    if let Some(address) = asked.addresses.iter().find(|it| reserved.holds_address(**it)) {
        return not_its_own(format!("{address} is an address of the cluster's own"));
    }
    let addresses = asked.addresses.iter().map(IpAddr::to_string);
    for wanted in asked.names.iter().cloned().chain(addresses) {
        if !has(node, &wanted) {
            return not_its_own(format!("{wanted} is no address of node {name}"));
        }
        // A node says itself where it is: none may have the place of another.
        if let Some(other) = nodes.iter().find(|it| it.metadata.name != name && has(it, &wanted)) {
            return not_its_own(format!("{wanted} is an address of node {} too", other.metadata.name));
        }
    }
    None
}

struct Approver {
    calls: Calls,
    requests: Store<Csr>,
    nodes: Store<Node>,
    reserved: Reserved,
}

/// Starts the controller.
pub(crate) fn start(context: &Context, shared: &Shared, requests: &Informer<Csr>, reserved: Reserved) {
    let queue = Arc::new(WorkQueue::new());
    let for_requests = Arc::clone(&queue);
    requests.on_change(move |change| {
        if let Change::Added(csr) | Change::Updated { new: csr, .. } = change {
            for_requests.add(Key::new("", &csr.metadata.name));
        }
    });
    let (for_nodes, waiting) = (Arc::clone(&queue), requests.store());
    shared.nodes.on_change(move |change| {
        let moved = match change {
            Change::Updated { old, new } => old.status.addresses != new.status.addresses,
            Change::Added(_) | Change::Deleted(_) | Change::Resync => true,
        };
        for csr in waiting.list() {
            if moved && csr.spec.signer_name == KUBELET_SERVING {
                for_nodes.add(Key::new("", &csr.metadata.name));
            }
        }
    });
    let controller = Approver {
        calls: context.calls.clone(),
        requests: requests.store(),
        nodes: shared.nodes.store(),
        reserved,
    };
    work::start(controller, &queue, 1, &context.tracker, &context.token);
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Review {
    status: ReviewStatus,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ReviewStatus {
    allowed: bool,
}

impl Reconcile for Approver {
    const NAME: &'static str = "certificatesigningrequest-approving";

    async fn reconcile(&self, key: &Key) -> Result<Requeue, CallError> {
        let Some(csr) = self.requests.get(key) else { return Ok(Requeue::Done) };
        match plan(&csr, &self.nodes.list(), &self.reserved) {
            Plan::Leave => Ok(Requeue::Done),
            Plan::Approve => {
                self.approve(&csr, "Auto approving kubelet serving certificate for the node's own addresses.")
                    .await
            }
            Plan::Wait => Ok(Requeue::Done),
            Plan::Withhold(why) => {
                tracing::warn!(csr = %key.name, user = %csr.spec.username, why,
                    "serving certificate not approved");
                Ok(Requeue::Done)
            }
            Plan::Ask(rights) => {
                for right in rights {
                    let review: Review = self.calls.create(REVIEWS, &review(&csr, right)).await?;
                    if review.status.allowed {
                        let own = if right == "selfnodeclient" { "self " } else { "" };
                        let message = format!(
                            "Auto approving {own}kubelet client certificate after SubjectAccessReview."
                        );
                        return self.approve(&csr, &message).await;
                    }
                }
                tracing::warn!(csr = %key.name, user = %csr.spec.username,
                    "a node's certificate is asked for by somebody who may not");
                Ok(Requeue::After(ASK_AGAIN))
            }
        }
    }
}

fn review(csr: &Csr, right: &str) -> Value {
    json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": {
        "user": csr.spec.username, "uid": csr.spec.uid, "groups": csr.spec.groups, "extra": csr.spec.extra,
        "resourceAttributes": {"group": "certificates.k8s.io", "resource": "certificatesigningrequests",
            "verb": "create", "subresource": right, "version": "*"}}})
}

impl Approver {
    async fn approve(&self, csr: &Csr, message: &str) -> Result<Requeue, CallError> {
        let name = &csr.metadata.name;
        let condition = json!({"type": "Approved", "status": "True", "reason": "AutoApproved",
            "message": message, "lastUpdateTime": now(), "lastTransitionTime": now()});
        let (path, part) = (REQUESTS.object("", name), REQUESTS.subresource("", name, "approval"));
        let approved = self.calls.modify(&path, &part, |object| {
            if object["metadata"]["uid"] != csr.metadata.uid {
                return;
            }
            match object["status"]["conditions"].as_array_mut() {
                Some(all) if all.iter().any(|it| it["type"] == "Approved" || it["type"] == "Denied") => {}
                Some(all) => all.push(condition),
                None => object["status"]["conditions"] = json!([condition]),
            }
        });
        match approved.await {
            Err(err) if err.is_not_found() => Ok(Requeue::Done),
            done => done.map(|()| Requeue::Done),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::request::tests::{csr, request};
    use super::*;

    fn node(name: &str, addresses: &[&str]) -> Arc<Node> {
        let addresses: Vec<_> =
            addresses.iter().map(|it| json!({"type": "InternalIP", "address": it})).collect();
        let object = json!({"metadata": {"name": name}, "status": {"addresses": addresses}});
        Arc::new(serde_json::from_value(object).unwrap())
    }

    #[test]
    fn client_certificates_depend_on_who_asks() {
        let usages = ["digital signature", "client auth"];
        let asked = request("system:nodes", "system:node:n1", &[]);
        let of = |user: &str| plan(&csr(KUBELET_CLIENT, &usages, &asked, user), &[], &Reserved::default());
        assert_eq!(of("system:node:n1"), Plan::Ask(vec!["selfnodeclient", "nodeclient"]));
        assert_eq!(of("system:node:n2"), Plan::Ask(vec!["nodeclient"]));
        assert_eq!(of("system:bootstrap:abcdef"), Plan::Ask(vec!["nodeclient"]));
        let other = csr("kubernetes.io/kube-apiserver-client", &usages, &asked, "system:node:n1");
        assert_eq!(plan(&other, &[], &Reserved::default()), Plan::Leave);
        let mut decided = csr(KUBELET_CLIENT, &usages, &asked, "system:node:n1");
        decided.status.conditions =
            vec![crate::views::Condition { kind: "Denied".into(), ..Default::default() }];
        assert_eq!(plan(&decided, &[], &Reserved::default()), Plan::Leave);
    }

    #[test]
    fn serving_certificates_are_for_the_nodes_own_addresses() {
        let usages = ["digital signature", "server auth"];
        let nodes = [
            node(
                "n1",
                &[
                    "10.0.0.1",
                    "FD00::1",
                    "10.0.0.9",
                    "10.0.0.3",
                    "10.96.0.1",
                    "127.0.0.1",
                    "kubernetes.default.svc",
                ],
            ),
            node("n2", &["10.0.0.2", "10.0.0.9"]),
        ];
        let reserved = Reserved {
            service_cidrs: vec!["10.96.0.0/16".into()],
            addresses: vec!["10.0.0.3".parse().unwrap()],
        };
        let of = |names: &[&str], user: &str| {
            let asked = request("system:nodes", "system:node:n1", names);
            plan(&csr(KUBELET_SERVING, &usages, &asked, user), &nodes, &reserved)
        };
        let me = "system:node:n1";
        assert_eq!(of(&["n1", "10.0.0.1", "fd00::1"], me), Plan::Approve);
        assert_eq!(of(&["n1", "10.0.0.1"], "system:node:n2"), Plan::Leave);
        for (names, why) in [
            (["n1", "10.0.0.2"], "10.0.0.2 is no address of node n1"),
            (["n2", "10.0.0.1"], "n2 is no address of node n1"),
            (["n1", "10.0.0.9"], "10.0.0.9 is an address of node n2 too"),
            // A node may say that it is the API server; it does not become it.
            (["n1", "10.0.0.3"], "10.0.0.3 is an address of the cluster's own"),
            (["n1", "10.96.0.1"], "10.96.0.1 is an address of the cluster's own"),
            (["n1", "127.0.0.1"], "127.0.0.1 is an address of the cluster's own"),
            (["n1", "kubernetes.default.svc"], "kubernetes.default.svc is a name of the cluster's own"),
        ] {
            assert_eq!(of(&names, me), Plan::Withhold(why.to_owned()));
        }
        let asked = request("system:nodes", "system:node:n3", &["n3"]);
        let unknown = csr(KUBELET_SERVING, &usages, &asked, "system:node:n3");
        assert_eq!(plan(&unknown, &nodes, &reserved), Plan::Wait);
    }
}
