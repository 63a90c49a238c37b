use crate::framework::{Event, Plugin, Rejection, normalize};
use crate::pod::Pod;
use crate::snapshot::{Place, Snapshot};

/// Keeps pods off nodes with taints they don't tolerate, and away from those that would rather not have them.
pub(super) struct TaintToleration;

impl Plugin for TaintToleration {
    fn name(&self) -> &'static str {
        "TaintToleration"
    }

    fn filter(&self, pod: &Pod, place: &Place) -> Result<(), Rejection> {
        let keeps_out = place.node.taints.iter().any(|taint| {
            matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute")
                && !pod.tolerations.iter().any(|it| it.tolerates(taint))
        });
        if keeps_out { Err(Rejection::unresolvable("node(s) had untolerated taint(s)")) } else { Ok(()) }
    }

    fn weight(&self) -> i64 {
        3
    }

    fn score(&self, pod: &Pod, place: &Place, _snapshot: &Snapshot) -> i64 {
        let unwanted = place.node.taints.iter().filter(|taint| {
            taint.effect == "PreferNoSchedule" && !pod.tolerations.iter().any(|it| it.tolerates(taint))
        });
        i64::try_from(unwanted.count()).unwrap_or(i64::MAX)
    }

    fn normalize(&self, scores: &mut [i64]) {
        normalize(scores, true);
    }

    fn lifted_by(&self) -> &'static [Event] {
        &[Event::NodeAdded, Event::NodeTaints]
    }
}
