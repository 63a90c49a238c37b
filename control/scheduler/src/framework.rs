//! Extension points of scheduling, with upstream's names.

use crate::pod::Pod;
use crate::snapshot::{Place, Snapshot};

/// The highest score a node can get from one plugin, after normalizing.
pub(crate) const MAX_SCORE: i64 = 100;

/// Why a plugin does not let a pod onto a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rejection {
    pub(crate) reasons: Vec<String>,
    /// Whether the pod could fit if others went.
    pub(crate) resolvable: bool,
}

impl Rejection {
    /// Other pods are in the way.
    pub(crate) fn unschedulable(reason: impl Into<String>) -> Self {
        Self { reasons: vec![reason.into()], resolvable: true }
    }

    /// No pod's leaving would help.
    pub(crate) fn unresolvable(reason: impl Into<String>) -> Self {
        Self { reasons: vec![reason.into()], resolvable: false }
    }
}

/// What may make a pod fit that fitted nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Event {
    NodeAdded,
    NodeAllocatable,
    NodeLabels,
    NodeTaints,
    PodGone,
}

/// One rule or preference. Every point has a neutral default; a plugin fills those it has something to say at.
pub(crate) trait Plugin: Send + Sync {
    /// Upstream's name.
    fn name(&self) -> &'static str;

    /// PreFilter: whether the pod can be scheduled at all, before any node is looked at.
    fn pre_filter(&self, _pod: &Pod, _snapshot: &Snapshot) -> Result<(), Rejection> {
        Ok(())
    }

    /// Filter: whether the pod may go to this node.
    fn filter(&self, _pod: &Pod, _place: &Place) -> Result<(), Rejection> {
        Ok(())
    }

    /// How much its scores count; 0 when it gives none.
    fn weight(&self) -> i64 {
        0
    }

    /// Score: how well the pod would fit; any number, if `normalize` brings it into range.
    fn score(&self, _pod: &Pod, _place: &Place, _snapshot: &Snapshot) -> i64 {
        0
    }

    /// NormalizeScore: brings the scores of all nodes into `0..=MAX_SCORE`.
    fn normalize(&self, _scores: &mut [i64]) {}

    /// Which changes of the cluster may lift a rejection of its filter.
    fn lifted_by(&self) -> &'static [Event] {
        &[]
    }
}

/// Scales scores so that the best has [`MAX_SCORE`]; with `reverse` the least is best.
pub(crate) fn normalize(scores: &mut [i64], reverse: bool) {
    let most = scores.iter().copied().max().unwrap_or(0);
    for score in scores {
        let scaled = if most == 0 { 0 } else { *score * MAX_SCORE / most };
        *score = if reverse { MAX_SCORE - scaled } else { scaled };
    }
}
