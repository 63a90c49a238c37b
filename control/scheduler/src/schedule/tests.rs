use super::*;
use crate::snapshot::Node;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::sync::Arc;

/// `name cpu=.. mem=.. pods=.. label=k:v taint=k:v:effect image=name:MiB cordoned`
fn node(text: &str) -> Arc<Node> {
    let mut words = text.split_whitespace();
    let mut it = json!({"metadata": {"name": words.next().unwrap()}, "spec": {"taints": []},
        "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "110"}, "images": []}});
    for word in words {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        let parts: Vec<_> = value.split(':').collect();
        match key {
            "cpu" => it["status"]["allocatable"]["cpu"] = value.into(),
            "mem" => it["status"]["allocatable"]["memory"] = value.into(),
            "pods" => it["status"]["allocatable"]["pods"] = value.into(),
            "gpu" => it["status"]["allocatable"]["x.io/gpu"] = value.into(),
            "label" => it["metadata"]["labels"][parts[0]] = parts[1].into(),
            "taint" => it["spec"]["taints"]
                .as_array_mut()
                .unwrap()
                .push(json!({"key": parts[0], "value": parts[1], "effect": parts[2]})),
            "image" => it["status"]["images"]
                .as_array_mut()
                .unwrap()
                .push(json!({"names": [format!("{}:latest", parts[0])],
                    "sizeBytes": parts[1].parse::<i64>().unwrap() << 20})),
            "cordoned" => it["spec"]["unschedulable"] = true.into(),
            _ => panic!("{word}"),
        }
    }
    Arc::new(serde_json::from_value(it).unwrap())
}

/// `name@node cpu=.. mem=.. gpu=.. port=.. selector=k:v tolerate=k priority=.. prefer=k:v image=.. never spread`
fn pod(text: &str) -> Arc<Pod> {
    let mut words = text.split_whitespace();
    let (name, on) = words.next().unwrap().split_once('@').unwrap();
    let mut it = json!({"metadata": {"name": name, "uid": name}, "spec": {"nodeName": on,
        "containers": [{"resources": {"requests": {}}, "ports": []}], "tolerations": []}});
    for word in words {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        let (k, v) = value.split_once(':').unwrap_or((value, ""));
        let container = &mut it["spec"]["containers"][0];
        match key {
            "cpu" => container["resources"]["requests"]["cpu"] = value.into(),
            "mem" => container["resources"]["requests"]["memory"] = value.into(),
            "gpu" => container["resources"]["requests"]["x.io/gpu"] = value.into(),
            "port" => container["ports"]
                .as_array_mut()
                .unwrap()
                .push(json!({"hostPort": value.parse::<i32>().unwrap()})),
            "image" => container["image"] = value.into(),
            "selector" => it["spec"]["nodeSelector"][k] = v.into(),
            "tolerate" => it["spec"]["tolerations"]
                .as_array_mut()
                .unwrap()
                .push(json!({"key": value, "operator": "Exists"})),
            "priority" => it["spec"]["priority"] = value.parse::<i32>().unwrap().into(),
            "never" => it["spec"]["preemptionPolicy"] = "Never".into(),
            "prefer" => {
                it["spec"]["affinity"]["nodeAffinity"] = json!({
                "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "preference":
                    {"matchExpressions": [{"key": k, "operator": "In", "values": [v]}]}}]})
            }
            "require" => {
                it["spec"]["affinity"]["nodeAffinity"] = json!({
                "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                    {"matchExpressions": [{"key": k, "operator": "In", "values": [v]}]}]}})
            }
            "spread" => {
                it["spec"]["topologySpreadConstraints"] = json!([{"whenUnsatisfiable": "DoNotSchedule"}])
            }
            _ => panic!("{word}"),
        }
    }
    if it["spec"]["nodeName"] == "" {
        it["spec"]["nodeName"] = Value::String(String::new());
    }
    Arc::new(serde_json::from_value(it).unwrap())
}

/// Nodes are lines that begin with `n`; the others are pods on them.
fn snapshot(text: &str) -> Snapshot {
    let mut snapshot = Snapshot::default();
    for line in text.split(';').map(str::trim).filter(|line| !line.is_empty()) {
        if line.split_whitespace().next().unwrap().contains('@') {
            snapshot.set_pod(pod(line));
        } else {
            snapshot.set_node(node(line));
        }
    }
    snapshot
}

fn check(pod_text: &str, cluster: &str, want: &str) {
    let got = match schedule(&pod(pod_text), &snapshot(cluster), 0) {
        Decision::Assign(node) => node,
        Decision::Unschedulable(diagnosis) => diagnosis.to_string(),
    };
    assert_eq!(got, want, "{pod_text} | {cluster}");
}

const NO_VICTIMS: &str =
    "preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.";
const NO_HELP: &str = "preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.";

fn check_one(pod_text: &str, cluster: &str, reasons: &str, preemption: &str) {
    check(pod_text, cluster, &format!("0/1 nodes are available: {reasons}. {preemption}"));
}

#[test]
fn a_pod_that_fits_is_assigned() {
    check("p@", "n", "n");
    check("p@ cpu=4 mem=8Gi", "n", "n");
    check("p@ cpu=2", "n; q@n cpu=2", "n");
    check("p@ port=80", "n; q@n port=81", "n");
    check("p@ tolerate=k", "n taint=k:v:NoExecute", "n");
    check("p@", "n taint=k:v:PreferNoSchedule", "n");
    check("p@ selector=a:b", "n label=a:b", "n");
    check("p@ tolerate=node.kubernetes.io/unschedulable", "n cordoned", "n");
    check("p@ gpu=1", "n gpu=2; q@n gpu=1", "n");
}

#[test]
fn what_does_not_fit_is_explained() {
    check("p@", "", "no nodes available to schedule pods");
    check_one("p@ cpu=3", "n; q@n cpu=2", "1 Insufficient cpu", NO_VICTIMS);
    check_one("p@ cpu=5", "n", "1 Insufficient cpu", NO_HELP);
    check_one(
        "p@ cpu=3 mem=8Gi",
        "n; q@n cpu=2 mem=1",
        "1 Insufficient cpu, 1 Insufficient memory",
        NO_VICTIMS,
    );
    check_one("p@", "n pods=1; q@n", "1 Too many pods", NO_VICTIMS);
    check_one("p@ gpu=1", "n", "1 Insufficient x.io/gpu", NO_HELP);
    check_one(
        "p@ port=80",
        "n; q@n port=80",
        "1 node(s) didn't have free ports for the requested pod ports",
        NO_VICTIMS,
    );
    check_one("p@", "n cordoned", "1 node(s) were unschedulable", NO_HELP);
    check_one("p@", "n taint=k:v:NoSchedule", "1 node(s) had untolerated taint(s)", NO_HELP);
    check_one(
        "p@ selector=a:b",
        "n label=a:c",
        "1 node(s) didn't match Pod's node affinity/selector",
        NO_HELP,
    );
    check_one("p@ require=a:b", "n", "1 node(s) didn't match Pod's node affinity/selector", NO_HELP);
    check_one(
        "p@ cpu=5 never",
        "n",
        "1 Insufficient cpu",
        "preemption: not eligible due to preemptionPolicy=Never.",
    );
    check("p@ cpu=3 priority=9", "n; q@n cpu=2", "0/1 nodes are available: 1 Insufficient cpu.");
    check(
        "p@ cpu=3",
        "n1; q@n1 cpu=2; n2 cordoned; n3 cpu=1",
        "0/3 nodes are available: 1 node(s) were unschedulable, 2 Insufficient cpu. preemption: 0/3 nodes are \
         available: 1 No preemption victims found for incoming pod, 2 Preemption is not helpful for scheduling.",
    );
    check(
        "p@ spread",
        "n",
        "0/1 nodes are available: topology spread constraints that must hold are not supported by this scheduler.",
    );
}

#[test]
fn the_better_node_wins() {
    check("p@ cpu=1", "n1; n2; q@n1 cpu=2", "n2");
    check("p@", "n1; n2; q@n1", "n2");
    check("p@", "n1 taint=k:v:PreferNoSchedule; n2", "n2");
    check("p@ prefer=a:b", "n1; n2 label=a:b", "n2");
    check("p@ image=big", "n1; n2 image=big:900", "n2");
    check("p@ image=small", "n1; n2 image=small:5", "n1");
}

#[test]
fn equal_nodes_share_by_the_tie() {
    let snapshot = snapshot("n1; n2; n3");
    let nodes: std::collections::BTreeSet<_> = (0..3)
        .map(|tie| match schedule(&pod("p@"), &snapshot, tie) {
            Decision::Assign(node) => node,
            Decision::Unschedulable(why) => panic!("{why}"),
        })
        .collect();
    assert_eq!(nodes.len(), 3);
}

proptest! {
    /// Whatever comes and goes, the running sums are those of the pods that are there.
    #[test]
    fn the_snapshot_is_the_sum_of_its_changes(
        changes in proptest::collection::vec((0..6_u8, 0..3_u8, 0..4_u8, 1..9_u32), 0..60)
    ) {
        let mut incremental = Snapshot::default();
        let mut nodes = std::collections::BTreeMap::new();
        let mut pods = std::collections::BTreeMap::new();
        for (pod_number, node_number, what, size) in changes {
            let (name, on) = (format!("p{pod_number}"), format!("n{node_number}"));
            match what {
                0 => {
                    let it = node(&format!("{on} cpu={size} image=i{size}:{size}"));
                    incremental.set_node(Arc::clone(&it));
                    nodes.insert(on, it);
                }
                1 => {
                    incremental.remove_node(&on);
                    nodes.remove(&on);
                }
                2 => {
                    let it = pod(&format!("{name}@{on} cpu={size} gpu={size} port={size}"));
                    incremental.set_pod(Arc::clone(&it));
                    pods.insert(name, it);
                }
                _ => {
                    prop_assert_eq!(incremental.remove_pod(&name), pods.remove(&name).is_some());
                }
            }
        }
        let mut fresh = Snapshot::default();
        nodes.values().for_each(|node| fresh.set_node(Arc::clone(node)));
        pods.values().for_each(|pod| fresh.set_pod(Arc::clone(pod)));
        let sorted = |snapshot: &Snapshot| -> Vec<_> {
            snapshot.places().map(|place| {
                let mut place = place.clone();
                place.ports.sort();
                place
            }).collect()
        };
        prop_assert_eq!(sorted(&incremental), sorted(&fresh));
        for size in 1..9 {
            let image = format!("i{size}:latest");
            prop_assert_eq!(incremental.nodes_with_image(&image), fresh.nodes_with_image(&image));
        }
        prop_assert!(pods.keys().all(|uid| incremental.node_of(uid) == fresh.node_of(uid)));
    }

    /// A pod is never put where it does not fit, and always somewhere if it fits somewhere.
    #[test]
    fn decisions_are_sound_and_complete(
        sizes in proptest::collection::vec(1..6_i64, 1..6),
        taken in proptest::collection::vec((0..6_usize, 1..4_i64), 0..12),
        wants in 1..6_i64,
        tie in 0..u64::MAX,
    ) {
        let mut snapshot = Snapshot::default();
        let mut left = sizes.clone();
        for (index, size) in sizes.iter().enumerate() {
            snapshot.set_node(node(&format!("n{index} cpu={size}")));
        }
        for (number, (on, cpu)) in taken.into_iter().enumerate() {
            let on = on % sizes.len();
            snapshot.set_pod(pod(&format!("p{number}@n{on} cpu={cpu}")));
            left[on] -= cpu;
        }
        match schedule(&pod(&format!("p@ cpu={wants}")), &snapshot, tie) {
            Decision::Assign(node) => {
                let index: usize = node[1..].parse().unwrap();
                prop_assert!(left[index] >= wants);
            }
            Decision::Unschedulable(_) => prop_assert!(left.iter().all(|left| *left < wants)),
        }
    }
}
