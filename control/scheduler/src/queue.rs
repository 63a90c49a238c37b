//! Which pod is next: ready ones by priority and age, others until their time or a change that may help.

use crate::framework::Event;
use crate::plugins;
use crate::pod::Pod;
use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const MOST_BACKOFF: Duration = Duration::from_secs(10);
/// An unschedulable pod is tried again after this long, in case a change was not understood.
const FLUSH: Duration = Duration::from_secs(300);

/// Pods without a node. Holds no clock: the time comes in with each call.
#[derive(Default)]
pub(crate) struct Queue {
    pods: HashMap<String, Entry>,
    /// Priority first, then who came first.
    active: BTreeSet<(Reverse<i32>, u64, String)>,
    timed: BTreeSet<(Instant, String)>,
    sequence: u64,
}

struct Entry {
    pod: Arc<Pod>,
    /// As it is, or was, in `active`.
    priority: i32,
    sequence: u64,
    attempts: u32,
    failed_at: Option<Instant>,
    stage: Stage,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Stage {
    Active,
    Backoff(Instant),
    Unschedulable {
        until: Instant,
        plugins: BTreeSet<&'static str>,
    },
    Gated,
    /// Decided, being bound.
    InFlight,
}

impl Queue {
    /// A pod that waits for a node, new or changed.
    pub(crate) fn upsert(&mut self, pod: Arc<Pod>, now: Instant) {
        let uid = pod.metadata.uid.clone();
        let Some(entry) = self.pods.get_mut(&uid) else {
            self.sequence += 1;
            let stage = if pod.gated { Stage::Gated } else { Stage::Active };
            let (priority, sequence) = (pod.priority, self.sequence);
            // Nothing to leave yet, so it starts where no index knows it.
            let entry =
                Entry { pod, priority, sequence, attempts: 0, failed_at: None, stage: Stage::InFlight };
            self.pods.insert(uid.clone(), entry);
            self.enter(&uid, stage);
            return;
        };
        let changed = !entry.pod.same_wishes(&pod);
        entry.pod = Arc::clone(&pod);
        match entry.stage {
            Stage::InFlight => {}
            _ if pod.gated => self.enter(&uid, Stage::Gated),
            Stage::Gated => self.enter(&uid, Stage::Active),
            // Its priority may have changed: enter again.
            Stage::Active => self.enter(&uid, Stage::Active),
            Stage::Unschedulable { .. } if changed => self.activate(&uid, now),
            Stage::Unschedulable { .. } | Stage::Backoff(_) => {}
        }
    }

    /// A pod that needs no place any more.
    pub(crate) fn remove(&mut self, uid: &str) {
        self.leave(uid);
        self.pods.remove(uid);
    }

    /// Whether the pod's decision is on its way.
    pub(crate) fn is_in_flight(&self, uid: &str) -> bool {
        self.pods.get(uid).is_some_and(|entry| entry.stage == Stage::InFlight)
    }

    /// The next pod, in flight from now on.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<Arc<Pod>> {
        while let Some((_, uid)) = self.timed.first().filter(|(at, _)| *at <= now).cloned() {
            self.enter(&uid, Stage::Active);
        }
        let (_, _, uid) = self.active.first().cloned()?;
        self.enter(&uid, Stage::InFlight);
        let entry = self.pods.get_mut(&uid)?;
        entry.attempts = entry.attempts.saturating_add(1);
        Some(Arc::clone(&entry.pod))
    }

    /// A pod in flight fits nowhere, because of these plugins.
    pub(crate) fn unschedulable(&mut self, uid: &str, plugins: BTreeSet<&'static str>, now: Instant) {
        if let Some(entry) = self.pods.get_mut(uid) {
            entry.failed_at = Some(now);
            self.enter(uid, Stage::Unschedulable { until: now + FLUSH, plugins });
        }
    }

    /// A pod in flight could not be bound.
    pub(crate) fn failed(&mut self, uid: &str, now: Instant) {
        if let Some(entry) = self.pods.get_mut(uid) {
            entry.failed_at = Some(now);
            self.activate(uid, now);
        }
    }

    /// The cluster changed: pods that this may help get another turn. True if there are any.
    pub(crate) fn happened(&mut self, event: Event, now: Instant) -> bool {
        let helped: Vec<_> = self
            .pods
            .iter()
            .filter(|(_, entry)| match &entry.stage {
                Stage::Unschedulable { plugins, .. } => may_help(event, plugins),
                Stage::Active | Stage::Backoff(_) | Stage::Gated | Stage::InFlight => false,
            })
            .map(|(uid, _)| uid.clone())
            .collect();
        for uid in &helped {
            self.activate(uid, now);
        }
        !helped.is_empty()
    }

    /// When a waiting pod becomes ready without a change.
    pub(crate) fn next_wake(&self) -> Option<Instant> {
        self.timed.first().map(|(at, _)| *at)
    }

    fn activate(&mut self, uid: &str, now: Instant) {
        let Some(entry) = self.pods.get(uid) else { return };
        let until = entry.failed_at.map(|at| at + backoff(entry.attempts));
        match until.filter(|until| *until > now) {
            Some(until) => self.enter(uid, Stage::Backoff(until)),
            None => self.enter(uid, Stage::Active),
        }
    }

    fn enter(&mut self, uid: &str, stage: Stage) {
        self.leave(uid);
        let Some(entry) = self.pods.get_mut(uid) else { return };
        match &stage {
            Stage::Active => {
                entry.priority = entry.pod.priority;
                self.active.insert((Reverse(entry.priority), entry.sequence, uid.to_owned()));
            }
            Stage::Backoff(at) | Stage::Unschedulable { until: at, .. } => {
                self.timed.insert((*at, uid.to_owned()));
            }
            Stage::Gated | Stage::InFlight => {}
        }
        entry.stage = stage;
    }

    fn leave(&mut self, uid: &str) {
        let Some(entry) = self.pods.get(uid) else { return };
        match &entry.stage {
            Stage::Active => {
                self.active.remove(&(Reverse(entry.priority), entry.sequence, uid.to_owned()));
            }
            Stage::Backoff(at) | Stage::Unschedulable { until: at, .. } => {
                self.timed.remove(&(*at, uid.to_owned()));
            }
            Stage::Gated | Stage::InFlight => {}
        }
    }
}

fn may_help(event: Event, rejected_by: &BTreeSet<&'static str>) -> bool {
    let lifts = |plugin: &&str| {
        let known = plugins::all().iter().find(|it| it.name() == *plugin);
        known.is_some_and(|plugin| plugin.lifted_by().contains(&event))
    };
    // Rejected by none: there was no node at all.
    if rejected_by.is_empty() { event == Event::NodeAdded } else { rejected_by.iter().any(lifts) }
}

fn backoff(attempts: u32) -> Duration {
    FIRST_BACKOFF.saturating_mul(1 << attempts.saturating_sub(1).min(10)).min(MOST_BACKOFF)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str, priority: i32) -> Arc<Pod> {
        let mut pod = Pod { priority, ..Pod::default() };
        pod.metadata.uid = name.into();
        Arc::new(pod)
    }

    fn pop(queue: &mut Queue, now: Instant) -> String {
        queue.pop(now).map(|pod| pod.metadata.uid.clone()).unwrap_or_default()
    }

    #[tokio::test(start_paused = true)]
    async fn priority_then_age() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        for (name, priority) in [("a", 0), ("b", 5), ("c", 0), ("d", 5)] {
            queue.upsert(pod(name, priority), now);
        }
        queue.upsert(pod("c", 9), now);
        queue.remove("b");
        assert_eq!([(); 4].map(|()| pop(&mut queue, now)), ["c", "d", "a", ""]);
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_change_that_may_help_wakes_a_pod_and_not_before_its_backoff() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        let later = |seconds| now + Duration::from_secs(seconds);
        queue.upsert(pod("a", 0), now);
        pop(&mut queue, now);
        queue.unschedulable("a", BTreeSet::from(["TaintToleration"]), now);
        assert!(!queue.happened(Event::PodGone, later(2)));
        assert!(queue.happened(Event::NodeTaints, now));
        assert_eq!(pop(&mut queue, now), "", "still backing off");
        assert_eq!(queue.next_wake(), Some(later(1)));
        assert_eq!(pop(&mut queue, later(1)), "a");
        queue.unschedulable("a", BTreeSet::from(["NodeResourcesFit"]), later(1));
        assert!(queue.happened(Event::PodGone, later(9)));
        assert_eq!(pop(&mut queue, later(9)), "a", "its backoff was over");
        queue.unschedulable("a", BTreeSet::new(), later(9));
        assert_eq!(queue.next_wake(), Some(later(309)));
        assert_eq!(pop(&mut queue, later(309)), "a", "tried again after five minutes");
    }

    #[tokio::test(start_paused = true)]
    async fn a_gated_pod_waits_for_its_gates() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        let mut gated = (*pod("a", 0)).clone();
        gated.gated = true;
        queue.upsert(Arc::new(gated.clone()), now);
        assert_eq!(pop(&mut queue, now), "");
        gated.gated = false;
        queue.upsert(Arc::new(gated), now);
        assert_eq!(pop(&mut queue, now), "a");
    }

    #[tokio::test(start_paused = true)]
    async fn a_changed_wish_is_a_reason_to_try_but_a_told_failure_is_not() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.upsert(pod("a", 0), now);
        pop(&mut queue, now);
        queue.unschedulable("a", BTreeSet::from(["NodeAffinity"]), now);
        let later = now + Duration::from_secs(20);
        let mut told = (*pod("a", 0)).clone();
        told.told = Some(("Unschedulable".into(), "why".into()));
        queue.upsert(Arc::new(told.clone()), later);
        assert_eq!(pop(&mut queue, later), "");
        told.node_selector.insert("k".into(), "v".into());
        queue.upsert(Arc::new(told), later);
        assert_eq!(pop(&mut queue, later), "a");
    }

    #[test]
    fn backoff_doubles_to_ten_seconds() {
        assert_eq!([1, 2, 3, 4, 5, 99].map(|n| backoff(n).as_secs()), [1, 2, 4, 8, 10, 10]);
    }
}
