//! The safety net: a slow look at everything, and the runtime's own events where it has them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use coracle_cri::RuntimeHandle;
use futures::StreamExt;
use tokio_util::sync::CancellationToken;

use super::{Observed, everything};
use crate::metrics::Metrics;
use crate::worker::Roster;

/// What the safety net needs.
#[derive(Clone)]
pub struct RelistDeps {
    /// Who is looked at.
    pub runtime: RuntimeHandle,
    /// Who is told.
    pub roster: Arc<Roster>,
    /// Figures.
    pub metrics: Arc<Metrics>,
    /// How often; 30 to 60 s.
    pub period: Duration,
}

/// Looks at everything at each period and wakes the workers whose table differs; passes on the runtime's events
/// meanwhile. Ends with `token`.
pub async fn run(deps: RelistDeps, token: CancellationToken) {
    let looking = look_again_and_again(&deps);
    let listening = listen(&deps);
    tokio::select! {
        () = token.cancelled() => {} // dropping a list or a stream changes nothing
        () = async { tokio::join!(looking, listening); } => {}
    }
}

async fn look_again_and_again(deps: &RelistDeps) {
    let mut timer = tokio::time::interval_at(tokio::time::Instant::now() + deps.period, deps.period);
    timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        timer.tick().await;
        look(deps).await;
    }
}

/// One look at everything.
async fn look(deps: &RelistDeps) {
    let began = Instant::now();
    match everything(&deps.runtime).await {
        Ok(pods) => {
            deps.metrics.relisted(began.elapsed());
            compare(&deps.roster, &pods);
            deps.roster.adopt_orphans(pods);
        }
        Err(err) => tracing::warn!(error = %err, "cannot look at the runtime's pods"),
    }
}

/// Wakes those whose table is not what the runtime says now.
fn compare(roster: &Roster, pods: &BTreeMap<String, Observed>) {
    let nothing = Observed::default();
    for entry in roster.entries() {
        let listed = pods.get(&entry.uid).unwrap_or(&nothing).outline();
        if entry.published().seen.outline() != listed {
            entry.inbox.look_again();
        }
    }
}

/// Events are hints: they name a pod to look at.
async fn listen(deps: &RelistDeps) {
    loop {
        let mut events = match deps.runtime.container_events().await {
            Ok(Some(events)) => events,
            Ok(None) => return, // this runtime has none; exits come by pidfd
            Err(err) => {
                tracing::debug!(error = %err, "no events from the runtime");
                tokio::time::sleep(Duration::from_secs(10)).await;
                continue;
            }
        };
        look(deps).await; // what happened while nobody told
        let mut by_container: HashMap<String, String> = HashMap::new();
        while let Some(Ok(event)) = events.next().await {
            let named = event.pod_sandbox_status.as_ref().and_then(|it| it.metadata.as_ref());
            let uid =
                named.map(|it| it.uid.clone()).or_else(|| by_container.get(&event.container_id).cloned());
            let Some(uid) = uid else { continue };
            if event.container_event_type
                == coracle_cri::proto::ContainerEventType::ContainerStoppedEvent as i32
                && let Some(entry) = deps.roster.by_uid(&uid)
            {
                entry.inbox.exited(&event.container_id);
            }
            if by_container.len() > 4096 {
                by_container.clear();
            }
            by_container.insert(event.container_id, uid);
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
