//! A pod as the scheduler sees it: decoded once into what the plugins ask for.

use crate::resources::{DEFAULT_MEMORY, DEFAULT_MILLI_CPU, Listed, Resources};
use coracle_client::slim_view;
use coracle_client::views::Meta;
use serde::Deserialize;
use std::collections::BTreeMap;

/// A pod, reduced to what scheduling needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pod {
    pub(crate) metadata: Meta,
    pub(crate) node_name: String,
    pub(crate) scheduler_name: String,
    pub(crate) priority: i32,
    pub(crate) may_preempt: bool,
    pub(crate) gated: bool,
    pub(crate) finished: bool,
    pub(crate) requests: Resources,
    /// Requests with a default for containers that request nothing; only for scores.
    pub(crate) weight: Resources,
    pub(crate) host_ports: Vec<HostPort>,
    pub(crate) images: Vec<String>,
    pub(crate) node_selector: BTreeMap<String, String>,
    pub(crate) affinity: NodeAffinity,
    pub(crate) tolerations: Vec<Toleration>,
    /// Reason and message of a PodScheduled=False condition.
    pub(crate) told: Option<(String, String)>,
    /// Scheduling rules that this scheduler does not know: such a pod is refused by name.
    pub(crate) unsupported: Option<&'static str>,
}

slim_view!(Pod);

impl<'de> Deserialize<'de> for Pod {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        RawPod::deserialize(deserializer).map(Into::into)
    }
}

impl Pod {
    /// Whether nothing that decides its place differs.
    pub(crate) fn same_wishes(&self, other: &Self) -> bool {
        self.metadata.labels == other.metadata.labels
            && self.gated == other.gated
            && self.requests == other.requests
            && self.priority == other.priority
            && self.host_ports == other.host_ports
            && self.node_selector == other.node_selector
            && self.affinity == other.affinity
            && self.tolerations == other.tolerations
            && self.unsupported == other.unsupported
    }
}

/// A port taken on the node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct HostPort {
    pub(crate) ip: String,
    pub(crate) protocol: String,
    pub(crate) port: i32,
}

impl HostPort {
    /// Whether both can't be taken on one node.
    pub(crate) fn collides(&self, other: &Self) -> bool {
        let any = |ip: &str| ip == "0.0.0.0";
        self.port == other.port
            && self.protocol == other.protocol
            && (self.ip == other.ip || any(&self.ip) || any(&other.ip))
    }
}

/// `spec.tolerations[]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Toleration {
    pub(crate) key: String,
    pub(crate) operator: String,
    pub(crate) value: String,
    pub(crate) effect: String,
}

/// `spec.taints[]` of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Taint {
    pub(crate) key: String,
    pub(crate) value: String,
    pub(crate) effect: String,
}

impl Toleration {
    pub(crate) fn tolerates(&self, taint: &Taint) -> bool {
        (self.effect.is_empty() || self.effect == taint.effect)
            && match self.operator.as_str() {
                "" | "Equal" => self.key == taint.key && self.value == taint.value,
                "Exists" => self.key.is_empty() || self.key == taint.key,
                _ => false,
            }
    }
}

/// `spec.affinity.nodeAffinity`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct NodeAffinity {
    #[serde(rename = "requiredDuringSchedulingIgnoredDuringExecution")]
    pub(crate) required: Option<Terms>,
    #[serde(rename = "preferredDuringSchedulingIgnoredDuringExecution")]
    pub(crate) preferred: Vec<Preferred>,
}

/// Alternatives: one that holds is enough.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Terms {
    #[serde(rename = "nodeSelectorTerms")]
    pub(crate) terms: Vec<Term>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Preferred {
    pub(crate) weight: i64,
    pub(crate) preference: Term,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Term {
    pub(crate) match_expressions: Vec<Expression>,
    pub(crate) match_fields: Vec<Expression>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Expression {
    pub(crate) key: String,
    pub(crate) operator: String,
    pub(crate) values: Vec<String>,
}

impl Term {
    /// Whether a node with these labels and this name is meant; an empty term means none.
    pub(crate) fn matches(&self, labels: &BTreeMap<String, String>, name: &str) -> bool {
        if self.match_expressions.is_empty() && self.match_fields.is_empty() {
            return false;
        }
        let field = |key: &str| (key == "metadata.name").then_some(name);
        self.match_expressions.iter().all(|it| it.holds(labels.get(&it.key).map(String::as_str)))
            && self.match_fields.iter().all(|it| it.holds(field(&it.key)))
    }
}

impl Expression {
    fn holds(&self, value: Option<&str>) -> bool {
        let listed = |value: &str| self.values.iter().any(|it| it == value);
        let number = |text: &str| text.parse::<i64>().ok();
        let bound = self.values.first().and_then(|it| number(it));
        match (self.operator.as_str(), value) {
            ("In", Some(value)) => listed(value),
            ("NotIn", value) => value.is_none_or(|value| !listed(value)),
            ("Exists", value) => value.is_some(),
            ("DoesNotExist", value) => value.is_none(),
            ("Gt", Some(value)) => number(value).zip(bound).is_some_and(|(value, bound)| value > bound),
            ("Lt", Some(value)) => number(value).zip(bound).is_some_and(|(value, bound)| value < bound),
            _ => false,
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawPod {
    metadata: Meta,
    spec: RawSpec,
    status: RawStatus,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawSpec {
    node_name: String,
    scheduler_name: String,
    priority: i32,
    preemption_policy: String,
    scheduling_gates: Vec<serde::de::IgnoredAny>,
    containers: Vec<RawContainer>,
    init_containers: Vec<RawContainer>,
    resources: RawResources,
    overhead: Listed,
    node_selector: BTreeMap<String, String>,
    affinity: RawAffinity,
    tolerations: Vec<Toleration>,
    topology_spread_constraints: Vec<RawSpread>,
    resource_claims: Vec<serde::de::IgnoredAny>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawAffinity {
    node_affinity: NodeAffinity,
    pod_affinity: RawPodAffinity,
    pod_anti_affinity: RawPodAffinity,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawPodAffinity {
    #[serde(rename = "requiredDuringSchedulingIgnoredDuringExecution")]
    required: Vec<serde::de::IgnoredAny>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawSpread {
    when_unsatisfiable: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawContainer {
    image: String,
    restart_policy: String,
    ports: Vec<RawPort>,
    resources: RawResources,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawResources {
    requests: Listed,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawPort {
    host_port: i32,
    #[serde(rename = "hostIP")]
    host_ip: String,
    protocol: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawStatus {
    phase: String,
    conditions: Vec<RawCondition>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawCondition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
    reason: String,
    message: String,
}

impl From<RawPod> for Pod {
    fn from(raw: RawPod) -> Self {
        let spec = raw.spec;
        let containers = || spec.containers.iter().chain(&spec.init_containers);
        let sidecar = |it: &RawContainer| it.restart_policy == "Always";
        let told =
            raw.status.conditions.into_iter().find(|it| it.kind == "PodScheduled" && it.status == "False");
        let mut pod = Self {
            finished: matches!(raw.status.phase.as_str(), "Succeeded" | "Failed"),
            requests: requests(&spec, Resources::of),
            weight: requests(&spec, |listed| {
                let mut it = Resources::of(listed);
                if !listed.contains_key("cpu") {
                    it.milli_cpu = DEFAULT_MILLI_CPU;
                }
                if !listed.contains_key("memory") {
                    it.memory = DEFAULT_MEMORY;
                }
                it
            }),
            host_ports: spec
                .containers
                .iter()
                .chain(spec.init_containers.iter().filter(|it| sidecar(it)))
                .flat_map(|it| &it.ports)
                .filter(|port| port.host_port > 0)
                .map(HostPort::of)
                .collect(),
            images: Vec::new(),
            priority: spec.priority,
            node_name: spec.node_name.clone(),
            ..Self::default()
        };
        // A pod that has its place is only counted; what it once wished for is not kept.
        if pod.node_name.is_empty() {
            pod.images = containers().map(|it| it.image.clone()).collect();
            pod.unsupported = unsupported(&spec);
            pod.gated = !spec.scheduling_gates.is_empty();
            pod.may_preempt = spec.preemption_policy != "Never";
            pod.scheduler_name = spec.scheduler_name;
            pod.node_selector = spec.node_selector;
            pod.affinity = spec.affinity.node_affinity;
            pod.tolerations = spec.tolerations;
            pod.told = told.map(|it| (it.reason, it.message));
        }
        pod.metadata = raw.metadata;
        pod.metadata.annotations.clear();
        pod.metadata.owner_references.clear();
        pod
    }
}

impl HostPort {
    fn of(port: &RawPort) -> Self {
        let or =
            |text: &str, default: &str| if text.is_empty() { default.to_owned() } else { text.to_owned() };
        Self { ip: or(&port.host_ip, "0.0.0.0"), protocol: or(&port.protocol, "TCP"), port: port.host_port }
    }
}

/// Rules that must hold and that nothing here checks.
fn unsupported(spec: &RawSpec) -> Option<&'static str> {
    if !(spec.affinity.pod_affinity.required.is_empty()
        && spec.affinity.pod_anti_affinity.required.is_empty())
    {
        Some("required inter-pod affinity")
    } else if spec.topology_spread_constraints.iter().any(|it| it.when_unsatisfiable == "DoNotSchedule") {
        Some("topology spread constraints that must hold")
    } else if !spec.resource_claims.is_empty() {
        Some("resource claims")
    } else {
        None
    }
}

/// What a pod needs at its peak: sidecars beside either the init container that needs most or all containers.
fn requests(spec: &RawSpec, of: impl Fn(&Listed) -> Resources) -> Resources {
    let mut running = Resources::default();
    for container in &spec.containers {
        running.add(&of(&container.resources.requests));
    }
    let (mut sidecars, mut peak) = (Resources::default(), Resources::default());
    for container in &spec.init_containers {
        let own = of(&container.resources.requests);
        if container.restart_policy == "Always" {
            sidecars.add(&own);
            running.add(&own);
            peak.at_least(&sidecars);
        } else {
            let mut with_sidecars = sidecars.clone();
            with_sidecars.add(&own);
            peak.at_least(&with_sidecars);
        }
    }
    running.at_least(&peak);
    // What is requested for the pod as a whole replaces the sum.
    let whole = Resources::of(&spec.resources.requests);
    if spec.resources.requests.contains_key("cpu") {
        running.milli_cpu = whole.milli_cpu;
    }
    if spec.resources.requests.contains_key("memory") {
        running.memory = whole.memory;
    }
    running.others.extend(whole.others);
    running.add(&Resources::of(&spec.overhead));
    running
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(spec: &Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap()
    }

    fn container(cpu: &str, memory: &str) -> Value {
        json!({"resources": {"requests": {"cpu": cpu, "memory": memory}}})
    }

    #[test]
    fn requests_are_those_of_the_peak() {
        let check = |spec: Value, cpu: i64, memory: i64| {
            let pod = pod(&spec);
            assert_eq!((pod.requests.milli_cpu, pod.requests.memory), (cpu, memory), "{spec}");
        };
        let (a, b) = (container("100m", "10"), container("1", "5"));
        let mut sidecar = container("50m", "7");
        sidecar["restartPolicy"] = "Always".into();
        check(json!({"containers": [a, b]}), 1100, 15);
        check(json!({"containers": [a], "initContainers": [b]}), 1000, 10);
        check(json!({"containers": [a], "initContainers": [sidecar, b]}), 1050, 17);
        check(json!({"containers": [a], "initContainers": [b, sidecar]}), 1000, 17);
        check(json!({"containers": [a], "overhead": {"cpu": "1m"}}), 101, 10);
        check(json!({"containers": [a], "resources": {"requests": {"cpu": "3"}}}), 3000, 10);
    }

    #[test]
    fn silent_containers_have_weight() {
        let pod = pod(&json!({"containers": [{}, container("1", "5")]}));
        assert_eq!((pod.weight.milli_cpu, pod.weight.memory), (1100, DEFAULT_MEMORY + 5));
        assert_eq!((pod.requests.milli_cpu, pod.requests.memory), (1000, 5));
    }

    #[test]
    fn tolerations() {
        let check = |toleration: Value, tolerated: bool| {
            let taint = Taint { key: "k".into(), value: "v".into(), effect: "NoSchedule".into() };
            let it: Toleration = serde_json::from_value(toleration.clone()).unwrap();
            assert_eq!(it.tolerates(&taint), tolerated, "{toleration}");
        };
        check(json!({"key": "k", "value": "v"}), true);
        check(json!({"key": "k", "value": "v", "effect": "NoSchedule"}), true);
        check(json!({"key": "k", "value": "v", "effect": "NoExecute"}), false);
        check(json!({"key": "k", "value": "w"}), false);
        check(json!({"key": "k", "operator": "Exists"}), true);
        check(json!({"operator": "Exists"}), true);
        check(json!({"key": "l", "operator": "Exists"}), false);
    }

    #[test]
    fn expressions() {
        let check = |operator: &str, values: &[&str], want: [bool; 3]| {
            let values = values.iter().map(|it| (*it).to_owned()).collect();
            let it = Expression { key: "k".into(), operator: operator.into(), values };
            assert_eq!([it.holds(Some("5")), it.holds(Some("x")), it.holds(None)], want, "{operator}");
        };
        check("In", &["5", "6"], [true, false, false]);
        check("NotIn", &["5"], [false, true, true]);
        check("Exists", &[], [true, true, false]);
        check("DoesNotExist", &[], [false, false, true]);
        check("Gt", &["4"], [true, false, false]);
        check("Lt", &["4"], [false, false, false]);
        assert!(!Term::default().matches(&BTreeMap::new(), "n"));
    }
}
