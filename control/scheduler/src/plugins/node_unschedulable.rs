use crate::framework::{Event, Plugin, Rejection};
use crate::pod::{Pod, Taint};
use crate::snapshot::Place;

/// Keeps pods off cordoned nodes, unless they tolerate that.
pub(super) struct NodeUnschedulable;

impl Plugin for NodeUnschedulable {
    fn name(&self) -> &'static str {
        "NodeUnschedulable"
    }

    fn filter(&self, pod: &Pod, place: &Place) -> Result<(), Rejection> {
        let taint = Taint {
            key: "node.kubernetes.io/unschedulable".into(),
            effect: "NoSchedule".into(),
            ..Taint::default()
        };
        if !place.node.unschedulable || pod.tolerations.iter().any(|it| it.tolerates(&taint)) {
            return Ok(());
        }
        Err(Rejection::unresolvable("node(s) were unschedulable"))
    }

    fn lifted_by(&self) -> &'static [Event] {
        &[Event::NodeAdded, Event::NodeTaints]
    }
}
