use crate::framework::{Event, Plugin, Rejection};
use crate::pod::Pod;
use crate::snapshot::Place;

/// A pod that names a node goes there or nowhere.
pub(super) struct NodeName;

impl Plugin for NodeName {
    fn name(&self) -> &'static str {
        "NodeName"
    }

    fn filter(&self, pod: &Pod, place: &Place) -> Result<(), Rejection> {
        if pod.node_name.is_empty() || pod.node_name == place.node.metadata.name {
            return Ok(());
        }
        Err(Rejection::unresolvable("node(s) didn't match the requested node name"))
    }

    fn lifted_by(&self) -> &'static [Event] {
        &[Event::NodeAdded]
    }
}
