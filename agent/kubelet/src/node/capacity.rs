//! What the node has, and what of it pods can have: pure.

use coracle_apimachinery::Quantity;
use serde_json::{Map, Value};

use super::{Machine, NodeFacts};
use crate::config::KubeletConfig;
use crate::translate::NodeAllocatable;

/// What is left when reservations and eviction thresholds are taken away.
pub(super) fn allocatable(
    config: &KubeletConfig,
    machine: &Machine,
    ephemeral_storage: i64,
    hugepages: &[(String, i64)],
) -> NodeAllocatable {
    let (kube, system) = (&config.resources.kube_reserved, &config.resources.system_reserved);
    let huge: i64 = hugepages.iter().map(|it| it.1).sum();
    let left = |all: i64, kube: i64, system: i64, signal: &str| {
        (all - kube - system - evicted_below(config, signal, all)).max(0)
    };
    NodeAllocatable {
        cpu_milli: left(machine.cpu_milli, kube.cpu_milli, system.cpu_milli, ""),
        memory: (left(machine.memory, kube.memory, system.memory, "memory.available") - huge).max(0),
        ephemeral_storage: left(
            ephemeral_storage,
            kube.ephemeral_storage,
            system.ephemeral_storage,
            "nodefs.available",
        ),
        memory_capacity: machine.memory,
    }
}

/// The hard threshold of a signal, in units.
fn evicted_below(config: &KubeletConfig, signal: &str, capacity: i64) -> i64 {
    let threshold = config.resources.eviction_hard.iter().find(|it| it.signal == signal);
    threshold.map_or(0, |it| it.below.of(capacity))
}

/// How many pods the node takes.
pub(super) fn pods(config: &KubeletConfig, machine: &Machine) -> i64 {
    let most = i64::from(config.node.max_pods);
    match i64::from(config.node.pods_per_core) {
        0 => most,
        per_core => most.min(per_core * machine.cpu_milli / 1000),
    }
}

/// `status.capacity` and `status.allocatable`.
pub(super) fn lists(config: &KubeletConfig, facts: &NodeFacts) -> (Value, Value) {
    let pods = pods(config, &facts.machine).to_string();
    let list = |cpu: i64, memory: i64, storage: String| {
        let mut list = Map::new();
        list.insert("cpu".into(), Quantity::from_milli(cpu).to_string().into());
        list.insert("memory".into(), Quantity::from_bytes(memory).to_string().into());
        list.insert("ephemeral-storage".into(), storage.into());
        list.insert("pods".into(), pods.clone().into());
        for (size, bytes) in &facts.hugepages {
            list.insert(format!("hugepages-{size}"), Quantity::from_bytes(*bytes).to_string().into());
        }
        Value::Object(list)
    };
    let storage = Quantity::from_bytes(facts.ephemeral_storage).to_string();
    let own = &facts.allocatable;
    (
        list(facts.machine.cpu_milli, facts.machine.memory, storage),
        list(own.cpu_milli, own.memory, own.ephemeral_storage.to_string()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Reserved;

    #[test]
    fn reservations_and_thresholds_are_taken_away() {
        let mut config = crate::config::testing::config(std::path::Path::new("/r"));
        let (kube, system) =
            (&mut config.resources.kube_reserved, Reserved { memory: 1 << 30, ..Reserved::default() });
        kube.cpu_milli = 500;
        config.resources.system_reserved = system;
        config.node.pods_per_core = 10;
        let machine = Machine { cpu_milli: 4000, memory: 8 << 30, swap: 0, pids: 1000 };
        let huge = [("2Mi".to_owned(), 1 << 30)];
        let got = allocatable(&config, &machine, 100 << 30, &huge);
        assert_eq!(got.cpu_milli, 3500);
        assert_eq!(got.memory, (6 << 30) - (100 << 20));
        assert_eq!(got.ephemeral_storage, 90 << 30);
        assert_eq!(pods(&config, &machine), 40);
    }
}
