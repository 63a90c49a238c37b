//! What happened to a pod and why, for `coracle why pod` and `/debug/pods/<uid>/timeline`.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

/// Entries kept per pod; the oldest go first.
const KEPT: usize = 128;

/// One thing that happened.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// When it began.
    pub at: Timestamp,
    /// Which sort of thing.
    pub kind: Kind,
    /// What, in few words: `run-sandbox#0`, `RunPodSandbox`, `Pulled`.
    pub what: String,
    /// About which container, if one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// Why, or with what result.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// How long it took, in milliseconds.
    #[serde(rename = "tookMs", skip_serializing_if = "Option::is_none")]
    pub took_ms: Option<f64>,
    /// How often in a row the same was said.
    #[serde(skip_serializing_if = "is_once")]
    pub times: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_once(times: &u32) -> bool {
    *times <= 1
}

/// Sorts of entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// The plan chose a step.
    Decision,
    /// A call to the runtime, or other work, ended.
    Call,
    /// It failed.
    Failure,
    /// The world told us: an exit, a new spec, a probe.
    Signal,
    /// What the API was told: the phase, an Event.
    Told,
}

/// A bounded ring of entries.
#[derive(Debug, Default)]
pub struct Timeline {
    entries: Mutex<VecDeque<Entry>>,
}

impl Timeline {
    /// Adds an entry. The same words again only count up.
    pub fn add(
        &self,
        kind: Kind,
        what: impl Into<String>,
        container: Option<&str>,
        detail: impl Into<String>,
    ) {
        self.put(Entry {
            at: Timestamp::now(),
            kind,
            what: what.into(),
            container: container.map(str::to_owned),
            detail: detail.into(),
            took_ms: None,
            times: 1,
        });
    }

    /// Adds a piece of work that has just ended.
    pub fn call(&self, what: &str, container: Option<&str>, took: Duration, failure: Option<String>) {
        self.put(Entry {
            at: Timestamp::now().checked_sub(took).unwrap_or_default(),
            kind: if failure.is_some() { Kind::Failure } else { Kind::Call },
            what: what.to_owned(),
            container: container.map(str::to_owned),
            detail: failure.unwrap_or_default(),
            took_ms: Some((took.as_secs_f64() * 10_000.0).round() / 10.0),
            times: 1,
        });
    }

    fn put(&self, entry: Entry) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = entries.back_mut()
            && last.kind == entry.kind
            && last.what == entry.what
            && last.container == entry.container
            && last.detail == entry.detail
        {
            last.times = last.times.saturating_add(1);
            last.took_ms = entry.took_ms;
            return;
        }
        if entries.len() == KEPT {
            entries.pop_front();
        }
        entries.push_back(entry);
    }

    /// A copy, oldest first.
    pub fn entries(&self) -> Vec<Entry> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounded_and_repeated() {
        let timeline = Timeline::default();
        for number in 0..1000 {
            timeline.add(Kind::Signal, format!("{number}"), None, "");
        }
        timeline.add(Kind::Signal, "999", None, "");
        let entries = timeline.entries();
        assert_eq!(entries.len(), KEPT);
        assert_eq!(entries.last().map(|it| (it.what.as_str(), it.times)), Some(("999", 2)));
        assert_eq!(entries.first().map(|it| it.what.as_str()), Some("872"));
    }

    #[test]
    fn shape() {
        let timeline = Timeline::default();
        timeline.call("RunPodSandbox", None, Duration::from_millis(100), Some("no CNI".into()));
        let json = serde_json::to_value(timeline.entries()).unwrap();
        assert_eq!(json[0]["kind"], "failure");
        assert_eq!(json[0]["tookMs"], 100.0);
        assert_eq!(json[0].get("times"), None);
    }
}
