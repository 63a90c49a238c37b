use crate::framework::{Event, Plugin, Rejection};
use crate::pod::Pod;
use crate::snapshot::Place;

/// One pod per host port.
pub(super) struct NodePorts;

impl Plugin for NodePorts {
    fn name(&self) -> &'static str {
        "NodePorts"
    }

    fn filter(&self, pod: &Pod, place: &Place) -> Result<(), Rejection> {
        let taken = |port| place.ports.iter().any(|it| it.collides(port));
        if pod.host_ports.iter().any(taken) {
            return Err(Rejection::unschedulable(
                "node(s) didn't have free ports for the requested pod ports",
            ));
        }
        Ok(())
    }

    fn lifted_by(&self) -> &'static [Event] {
        &[Event::NodeAdded, Event::PodGone]
    }
}
