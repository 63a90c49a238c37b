//! Whether this node takes a pod: the scheduler's own questions, asked once more where the pod would run.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, NodeSelectorRequirement, NodeSelectorTerm, Pod, Taint, Toleration};

use crate::pod;
use crate::resources::{Amounts, pod_requests};
use crate::translate::forbidden_sysctl;

/// Why a node does not take a pod: the reason and message of its status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// `OutOfcpu`, `NodeAffinity`, `NodePorts`, ...
    pub reason: String,
    /// Upstream's sentence.
    pub message: String,
}

/// No pod is taken by a machine that goes down.
pub fn shutting_down() -> Refusal {
    let message = "Pod was rejected as the node is shutting down.".to_owned();
    Refusal { reason: "NodeShutdown".to_owned(), message }
}

impl Refusal {
    fn of(reason: &str, message: String) -> Self {
        Self { reason: reason.to_owned(), message: format!("Pod was rejected: {message}") }
    }

    fn predicate(name: &str, why: &str) -> Self {
        Self::of(name, format!("Predicate {name} failed: {why}"))
    }
}

/// Asks whether the pod sets kernel parameters that it may not set.
pub fn admit_sysctls(pod: &Pod, allowed: &[String]) -> Result<(), Refusal> {
    match forbidden_sysctl(pod, allowed) {
        Some((reason, message)) => Err(Refusal::of(reason, message)),
        None => Ok(()),
    }
}

/// Asks everything. `others` are the pods that already count on this node.
pub fn admit<'a>(
    pod: &Pod,
    others: impl Iterator<Item = &'a Pod> + Clone,
    node: &Node,
    max_pods: i64,
) -> Result<(), Refusal> {
    runs_here(pod)?;
    let labels = node.metadata.labels.clone().unwrap_or_default();
    if !selected(pod, &labels, node) {
        return Err(Refusal::predicate("NodeAffinity", "node(s) didn't match Pod's node affinity/selector"));
    }
    let taints = node.spec.iter().flat_map(|it| it.taints.iter().flatten());
    if !pod::is_static(pod) && !tolerated(pod, taints) {
        let why = "node(s) had taints that the pod didn't tolerate";
        return Err(Refusal::predicate("TaintToleration", why));
    }
    if ports_taken(pod, others.clone()) {
        let why = "node(s) didn't have free ports for the requested pod ports";
        return Err(Refusal::predicate("NodePorts", why));
    }
    fits(pod, others, node, max_pods)
}

/// A pod for another operating system.
fn runs_here(pod: &Pod) -> Result<(), Refusal> {
    const OS: &str = "linux";
    let spec = pod.spec.as_ref();
    if spec.and_then(|it| it.os.as_ref()).is_some_and(|it| it.name != OS) {
        let why = "Failed to admit pod as the OS field doesn't match node OS";
        return Err(Refusal::of("PodOSNotSupported", why.to_owned()));
    }
    let selected = spec.and_then(|it| it.node_selector.as_ref()?.get("kubernetes.io/os"));
    if selected.is_some_and(|it| it != OS) {
        let why = "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label";
        return Err(Refusal::of("PodOSSelectorNodeLabelDoesNotMatch", why.to_owned()));
    }
    Ok(())
}

fn fits<'a>(
    pod: &Pod,
    others: impl Iterator<Item = &'a Pod> + Clone,
    node: &Node,
    max_pods: i64,
) -> Result<(), Refusal> {
    let short = |what: &str, requested: i64, used: i64, capacity: i64| {
        let message = format!(
            "Node didn't have enough resource: {what}, requested: {requested}, used: {used}, capacity: {capacity}"
        );
        Err(Refusal::of(&format!("OutOf{what}"), message))
    };
    let count = i64::try_from(others.clone().count()).unwrap_or(i64::MAX);
    if count >= max_pods {
        return short("pods", 1, count, max_pods);
    }
    let Some(allocatable) = node.status.as_ref().and_then(|it| it.allocatable.as_ref()) else {
        return Ok(());
    };
    let allocatable = Amounts::of(Some(allocatable));
    let used: Vec<Amounts> = others.map(pod_requests).collect();
    for (what, requested) in pod_requests(pod).iter().filter(|(_, amount)| *amount > 0) {
        let Some(capacity) = allocatable.get(what) else {
            if what == "cpu" || what == "memory" || what == "ephemeral-storage" {
                continue; // the node has not said yet
            }
            return short(what, requested, 0, 0);
        };
        let used: i64 = used.iter().filter_map(|it| it.get(what)).sum();
        if used + requested > capacity {
            return short(what, requested, used, capacity);
        }
    }
    Ok(())
}

/// Address, protocol and number of the ports that the pod wants of the node.
fn host_ports(pod: &Pod) -> Vec<(String, String, i32)> {
    let sidecars = pod::inits(pod).iter().filter(|it| pod::is_sidecar(it));
    let ports = pod::apps(pod).iter().chain(sidecars).flat_map(|it| it.ports.iter().flatten());
    ports
        .filter_map(|it| {
            let port = it.host_port.filter(|it| *it > 0)?;
            let ip = it.host_ip.clone().filter(|it| !it.is_empty()).unwrap_or_else(|| "0.0.0.0".into());
            Some((ip, it.protocol.clone().unwrap_or_else(|| "TCP".into()), port))
        })
        .collect()
}

fn ports_taken<'a>(pod: &Pod, others: impl Iterator<Item = &'a Pod>) -> bool {
    let wanted = host_ports(pod);
    if wanted.is_empty() {
        return false;
    }
    let any = |ip: &str| ip == "0.0.0.0" || ip == "::";
    let clash = |a: &(String, String, i32), b: &(String, String, i32)| {
        a.1 == b.1 && a.2 == b.2 && (a.0 == b.0 || any(&a.0) || any(&b.0))
    };
    others.flat_map(host_ports).any(|taken| wanted.iter().any(|it| clash(it, &taken)))
}

fn tolerated<'a>(pod: &Pod, taints: impl Iterator<Item = &'a Taint>) -> bool {
    let tolerations: Vec<&Toleration> =
        pod.spec.iter().flat_map(|it| it.tolerations.iter().flatten()).collect();
    let mut hard = taints.filter(|it| it.effect == "NoExecute");
    hard.all(|taint| tolerations.iter().any(|it| tolerates(it, taint)))
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let text = |it: &Option<String>| it.clone().unwrap_or_default();
    let (effect, key) = (text(&toleration.effect), text(&toleration.key));
    if !effect.is_empty() && effect != taint.effect || !key.is_empty() && key != taint.key {
        return false;
    }
    match text(&toleration.operator).as_str() {
        "Exists" => true,
        _ => text(&toleration.value) == text(&taint.value) && !key.is_empty(),
    }
}

fn selected(pod: &Pod, labels: &BTreeMap<String, String>, node: &Node) -> bool {
    let Some(spec) = &pod.spec else { return true };
    let plain = spec.node_selector.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    let affinity = spec.affinity.as_ref().and_then(|it| it.node_affinity.as_ref());
    let required = affinity.and_then(|it| it.required_during_scheduling_ignored_during_execution.as_ref());
    plain && required.is_none_or(|it| it.node_selector_terms.iter().any(|it| term(it, labels, node)))
}

/// A term without any requirement matches nothing, as upstream.
fn term(term: &NodeSelectorTerm, labels: &BTreeMap<String, String>, node: &Node) -> bool {
    let expressions = term.match_expressions.iter().flatten();
    let fields = term.match_fields.iter().flatten();
    if expressions.clone().next().is_none() && fields.clone().next().is_none() {
        return false;
    }
    let name = node.metadata.name.as_ref();
    expressions.clone().all(|it| requirement(it, labels.get(&it.key)))
        && fields.clone().all(|it| requirement(it, name.filter(|_| it.key == "metadata.name")))
}

fn requirement(it: &NodeSelectorRequirement, value: Option<&String>) -> bool {
    let values = it.values.as_deref().unwrap_or_default();
    let number = |it: Option<&String>| it.and_then(|it| it.parse::<i64>().ok());
    match it.operator.as_str() {
        "In" => value.is_some_and(|it| values.contains(it)),
        "NotIn" => value.is_none_or(|it| !values.contains(it)),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => matches!((number(value), number(values.first())), (Some(a), Some(b)) if a > b),
        "Lt" => matches!((number(value), number(values.first())), (Some(a), Some(b)) if a < b),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn node() -> Node {
        serde_json::from_value(json!({
            "metadata": { "name": "n", "labels": { "disk": "ssd", "size": "7" } },
            "spec": { "taints": [{ "key": "gone", "effect": "NoExecute" }] },
            "status": { "allocatable": { "cpu": "1", "memory": "1Gi" } },
        }))
        .unwrap()
    }

    fn pod(spec: serde_json::Value) -> Pod {
        let mut spec = spec;
        if spec.get("tolerations").is_none() {
            spec["tolerations"] = json!([{ "operator": "Exists" }]);
        }
        if spec.get("containers").is_none() {
            spec["containers"] = json!([]);
        }
        serde_json::from_value(json!({ "metadata": { "name": "p", "uid": "u" }, "spec": spec })).unwrap()
    }

    fn asking(cpu: &str) -> Pod {
        pod(json!({ "containers": [{ "name": "a", "resources": { "requests": { "cpu": cpu } },
            "ports": [{ "containerPort": 80, "hostPort": 80 }] }] }))
    }

    #[track_caller]
    fn check(pod: &Pod, others: &[Pod], expected: &str) {
        let answer = match admit(pod, others.iter(), &node(), 3) {
            Ok(()) => String::new(),
            Err(refusal) => {
                format!("{}: {}", refusal.reason, refusal.message.trim_start_matches("Pod was rejected: "))
            }
        };
        assert_eq!(answer, expected);
    }

    #[test]
    fn refusals() {
        let plain = pod(json!({}));
        check(&plain, &[], "");
        check(&asking("1"), &[], "");
        check(
            &asking("2"),
            &[],
            "OutOfcpu: Node didn't have enough resource: cpu, requested: 2000, used: 0, capacity: 1000",
        );
        check(
            &asking("100m"),
            &[asking("100m")],
            "NodePorts: Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports",
        );
        check(
            &plain,
            &[plain.clone(), plain.clone(), plain.clone()],
            "OutOfpods: Node didn't have enough resource: pods, requested: 1, used: 3, capacity: 3",
        );
        let wrong =
            "NodeAffinity: Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector";
        check(&pod(json!({ "nodeSelector": { "disk": "hdd" } })), &[], wrong);
        check(&pod(json!({ "nodeSelector": { "disk": "ssd" } })), &[], "");
        let os = "PodOSNotSupported: Failed to admit pod as the OS field doesn't match node OS";
        check(&pod(json!({ "os": { "name": "windows" } })), &[], os);
        check(&pod(json!({ "os": { "name": "linux" } })), &[], "");
        let label = "PodOSSelectorNodeLabelDoesNotMatch: Failed to admit pod as the `kubernetes.io/os` label doesn't \
                     match node label";
        check(&pod(json!({ "nodeSelector": { "kubernetes.io/os": "windows" } })), &[], label);
        let affinity = |operator: &str, value: &str| {
            pod(json!({ "affinity": { "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{ "matchExpressions":
                    [{ "key": "size", "operator": operator, "values": [value] }] }] } } } }))
        };
        check(&affinity("Gt", "6"), &[], "");
        check(&affinity("Gt", "7"), &[], wrong);
        check(&affinity("NotIn", "7"), &[], wrong);
        check(
            &pod(json!({ "tolerations": [] })),
            &[],
            "TaintToleration: Predicate TaintToleration failed: node(s) had taints that the pod didn't tolerate",
        );
        check(&pod(json!({ "tolerations": [{ "key": "gone", "operator": "Exists" }] })), &[], "");
    }
}
