use crate::framework::{Event, Plugin, Rejection, normalize};
use crate::pod::Pod;
use crate::snapshot::{Place, Snapshot};

/// Node selectors and node affinity: what must hold of a node's labels, and what is preferred.
pub(super) struct NodeAffinity;

impl Plugin for NodeAffinity {
    fn name(&self) -> &'static str {
        "NodeAffinity"
    }

    fn filter(&self, pod: &Pod, place: &Place) -> Result<(), Rejection> {
        let meta = &place.node.metadata;
        let selected = pod.node_selector.iter().all(|(key, value)| meta.labels.get(key) == Some(value));
        let required = pod.affinity.required.as_ref();
        let wanted =
            required.is_none_or(|it| it.terms.iter().any(|term| term.matches(&meta.labels, &meta.name)));
        if selected && wanted {
            return Ok(());
        }
        Err(Rejection::unresolvable("node(s) didn't match Pod's node affinity/selector"))
    }

    fn weight(&self) -> i64 {
        2
    }

    fn score(&self, pod: &Pod, place: &Place, _snapshot: &Snapshot) -> i64 {
        let meta = &place.node.metadata;
        let holds =
            pod.affinity.preferred.iter().filter(|it| it.preference.matches(&meta.labels, &meta.name));
        holds.map(|it| it.weight).sum()
    }

    fn normalize(&self, scores: &mut [i64]) {
        normalize(scores, false);
    }

    fn lifted_by(&self) -> &'static [Event] {
        &[Event::NodeAdded, Event::NodeLabels]
    }
}
