use crate::framework::{MAX_SCORE, Plugin};
use crate::pod::Pod;
use crate::snapshot::{Place, Snapshot};

/// Prefers nodes on which cpu and memory would be equally full.
pub(super) struct NodeResourcesBalancedAllocation;

impl Plugin for NodeResourcesBalancedAllocation {
    fn name(&self) -> &'static str {
        "NodeResourcesBalancedAllocation"
    }

    fn weight(&self) -> i64 {
        1
    }

    fn score(&self, pod: &Pod, place: &Place, _snapshot: &Snapshot) -> i64 {
        if pod.requests.is_nothing() {
            return 0;
        }
        let has = &place.node.allocatable;
        // Parts of 10,000: exact enough, and no floating point.
        let full = |has: i64, used: i64| {
            if has == 0 { None } else { Some((i128::from(used) * 10_000 / i128::from(has)).min(10_000)) }
        };
        let cpu = full(has.milli_cpu, place.requested.milli_cpu + pod.requests.milli_cpu);
        let memory = full(has.memory, place.requested.memory + pod.requests.memory);
        // The deviation of two numbers from their mean is half their difference.
        let deviation = cpu.zip(memory).map_or(0, |(cpu, memory)| (cpu - memory).abs() / 2);
        MAX_SCORE - i64::try_from(deviation / 100).unwrap_or(MAX_SCORE)
    }
}
