//! One pod: filter, score, choose. Pure.

use crate::diagnosis::{Diagnosis, Preemption};
use crate::framework::Rejection;
use crate::plugins;
use crate::pod::Pod;
use crate::snapshot::{Place, Snapshot};

/// Where a pod goes, or why nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// To the node of this name.
    Assign(String),
    /// It fits nowhere as things are.
    Unschedulable(Diagnosis),
}

/// Decides about one pod. Of equally good nodes `tie` picks one, so that equal pods spread.
#[must_use]
pub fn schedule(pod: &Pod, snapshot: &Snapshot, tie: u64) -> Decision {
    let nodes = snapshot.places().count();
    if let Some(rule) = pod.unsupported {
        let rejection = Rejection::unresolvable(format!("{rule} are not supported by this scheduler"));
        return Decision::Unschedulable(Diagnosis::new(nodes).reject_all("Unsupported", &rejection));
    }
    for plugin in plugins::all() {
        if let Err(rejection) = plugin.pre_filter(pod, snapshot) {
            return Decision::Unschedulable(Diagnosis::new(nodes).reject_all(plugin.name(), &rejection));
        }
    }
    let mut diagnosis = Diagnosis::new(nodes);
    let (mut feasible, mut rejected) = (Vec::new(), Vec::new());
    for place in snapshot.places() {
        match filter(pod, place) {
            Ok(()) => feasible.push(place),
            Err((plugin, rejection)) => {
                rejected.push((place, rejection.resolvable));
                diagnosis.reject(plugin, rejection);
            }
        }
    }
    match feasible[..] {
        [] => {
            if let Some(preemption) = preemption(pod, &rejected) {
                diagnosis.set_preemption(preemption);
            }
            Decision::Unschedulable(diagnosis)
        }
        [only] => Decision::Assign(only.node.metadata.name.clone()),
        _ => Decision::Assign(best(pod, &feasible, snapshot, tie)),
    }
}

fn filter(pod: &Pod, place: &Place) -> Result<(), (&'static str, Rejection)> {
    for plugin in plugins::all() {
        plugin.filter(pod, place).map_err(|rejection| (plugin.name(), rejection))?;
    }
    Ok(())
}

/// PostFilter, as far as it goes without pushing pods out: what is known to be futile is said. Where less important
/// pods are in the way nothing is claimed.
fn preemption(pod: &Pod, rejected: &[(&Place, bool)]) -> Option<Preemption> {
    if rejected.is_empty() {
        return None;
    }
    if !pod.may_preempt {
        return Some(Preemption::Forbidden);
    }
    let (mut no_victims, mut no_help) = (0, 0);
    for (place, resolvable) in rejected {
        if !resolvable {
            no_help += 1;
        } else if place.pods.values().any(|it| it.priority < pod.priority) {
            return None;
        } else {
            no_victims += 1;
        }
    }
    Some(Preemption::Futile { no_victims, no_help })
}

fn best(pod: &Pod, feasible: &[&Place], snapshot: &Snapshot, tie: u64) -> String {
    let mut totals = vec![0_i64; feasible.len()];
    for plugin in plugins::all().iter().filter(|plugin| plugin.weight() > 0) {
        let mut scores: Vec<_> = feasible.iter().map(|place| plugin.score(pod, place, snapshot)).collect();
        plugin.normalize(&mut scores);
        for (total, score) in totals.iter_mut().zip(scores) {
            *total += score * plugin.weight();
        }
    }
    let top = totals.iter().copied().max().unwrap_or(0);
    let winners: Vec<_> = feasible.iter().zip(&totals).filter(|(_, total)| **total == top).collect();
    let pick = usize::try_from(tie % u64::try_from(winners.len().max(1)).unwrap_or(1)).unwrap_or(0);
    winners.get(pick).map(|(place, _)| place.node.metadata.name.clone()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
