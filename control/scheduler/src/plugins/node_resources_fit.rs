use crate::framework::{Event, MAX_SCORE, Plugin, Rejection};
use crate::pod::Pod;
use crate::snapshot::{Place, Snapshot};

/// Enough of every resource must be left; where more is left is better.
pub(super) struct NodeResourcesFit;

impl Plugin for NodeResourcesFit {
    fn name(&self) -> &'static str {
        "NodeResourcesFit"
    }

    fn filter(&self, pod: &Pod, place: &Place) -> Result<(), Rejection> {
        let (has, used, wants) = (&place.node.allocatable, &place.requested, &pod.requests);
        let mut rejection = Rejection { reasons: Vec::new(), resolvable: true };
        if i64::try_from(place.pods.len()).unwrap_or(i64::MAX) + 1 > has.pods {
            rejection.reasons.push("Too many pods".into());
        }
        if !wants.is_nothing() {
            let mut need = |name: &str, wants: i64, has: i64, used: i64| {
                if wants > 0 && wants > has - used {
                    rejection.reasons.push(format!("Insufficient {name}"));
                    rejection.resolvable &= wants <= has;
                }
            };
            need("cpu", wants.milli_cpu, has.milli_cpu, used.milli_cpu);
            need("memory", wants.memory, has.memory, used.memory);
            need("ephemeral-storage", wants.ephemeral_storage, has.ephemeral_storage, used.ephemeral_storage);
            for (name, wanted) in &wants.others {
                let of = |all: &crate::resources::Resources| all.others.get(name).copied().unwrap_or(0);
                need(name, *wanted, of(has), of(used));
            }
        }
        if rejection.reasons.is_empty() { Ok(()) } else { Err(rejection) }
    }

    fn weight(&self) -> i64 {
        1
    }

    /// The mean of what would be left of cpu and memory, in percent.
    fn score(&self, pod: &Pod, place: &Place, _snapshot: &Snapshot) -> i64 {
        let has = &place.node.allocatable;
        let left = |has: i64, used: i64, wants: i64| {
            let used = used.saturating_add(wants);
            if has == 0 || used > has { 0 } else { (has - used) * MAX_SCORE / has }
        };
        let cpu = left(has.milli_cpu, place.weight.milli_cpu, pod.weight.milli_cpu);
        // Bytes times 100 fit: no machine has 2^56 of them.
        let memory = left(has.memory, place.weight.memory, pod.weight.memory);
        match (has.milli_cpu, has.memory) {
            (0, 0) => 0,
            (0, _) => memory,
            (_, 0) => cpu,
            _ => i64::midpoint(cpu, memory),
        }
    }

    fn lifted_by(&self) -> &'static [Event] {
        &[Event::NodeAdded, Event::NodeAllocatable, Event::PodGone]
    }
}
