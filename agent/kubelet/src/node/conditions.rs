//! The node's conditions, with upstream's reasons and messages: pure.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::pressure::Pressure;

/// One condition without its times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Condition {
    pub(super) kind: &'static str,
    pub(super) status: bool,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

/// What the runtime says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RuntimeState {
    /// It does not answer: why.
    Down(String),
    /// What is wrong, as its conditions say; nothing: all is well.
    Up(Vec<String>),
}

/// The four that a kubelet keeps, in upstream's order.
pub(super) fn conditions(pressure: Pressure, runtime: &RuntimeState) -> Vec<Condition> {
    let one = |kind, status, words: [(&'static str, &str); 2]| {
        let (reason, message) = words[usize::from(status)];
        Condition { kind, status, reason, message: message.to_owned() }
    };
    let problems: Vec<String> = match runtime {
        RuntimeState::Down(why) => vec![format!("container runtime is down: {why}")],
        RuntimeState::Up(problems) => problems.clone(),
    };
    let ready = match problems.as_slice() {
        [] => one("Ready", true, [("", ""), ("KubeletReady", "kubelet is posting ready status")]),
        [only] => {
            Condition { kind: "Ready", status: false, reason: "KubeletNotReady", message: only.clone() }
        }
        several => {
            let message = format!("[{}]", several.join(", "));
            Condition { kind: "Ready", status: false, reason: "KubeletNotReady", message }
        }
    };
    vec![
        one(
            "MemoryPressure",
            pressure.memory,
            [
                ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
                ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
            ],
        ),
        one(
            "DiskPressure",
            pressure.disk,
            [
                ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
                ("KubeletHasDiskPressure", "kubelet has disk pressure"),
            ],
        ),
        one(
            "PIDPressure",
            pressure.pid,
            [
                ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
                ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
            ],
        ),
        ready,
    ]
}

/// The Event of a condition that changed.
pub(super) fn event_reason(condition: &Condition) -> &'static str {
    match (condition.kind, condition.status) {
        ("MemoryPressure", false) => "NodeHasSufficientMemory",
        ("MemoryPressure", true) => "NodeHasInsufficientMemory",
        ("DiskPressure", false) => "NodeHasNoDiskPressure",
        ("DiskPressure", true) => "NodeHasDiskPressure",
        ("PIDPressure", false) => "NodeHasSufficientPID",
        ("PIDPressure", true) => "NodeHasInsufficientPID",
        (_, true) => "NodeReady",
        (_, false) => "NodeNotReady",
    }
}

/// The list for the API: a condition whose status is as before keeps the time of its last change.
pub(super) fn listed(conditions: &[Condition], before: &Value, now: Timestamp) -> Value {
    let now = coracle_apimachinery::time::rfc3339(now);
    let list = conditions.iter().map(|it| {
        let status = if it.status { "True" } else { "False" };
        let old = before.as_array().into_iter().flatten().find(|old| old["type"] == it.kind);
        let kept =
            old.filter(|old| old["status"] == status).and_then(|old| old["lastTransitionTime"].as_str());
        json!({
            "type": it.kind, "status": status, "reason": it.reason, "message": it.message,
            "lastHeartbeatTime": now, "lastTransitionTime": kept.unwrap_or(&now),
        })
    });
    list.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_is_the_runtimes_and_its_networks() {
        let check = |runtime: RuntimeState, want: (bool, &str, &str)| {
            let got = conditions(Pressure::default(), &runtime).pop().unwrap();
            assert_eq!((got.status, got.reason, got.message.as_str()), want);
        };
        check(RuntimeState::Up(vec![]), (true, "KubeletReady", "kubelet is posting ready status"));
        check(RuntimeState::Up(vec!["a".into()]), (false, "KubeletNotReady", "a"));
        check(RuntimeState::Up(vec!["a".into(), "b".into()]), (false, "KubeletNotReady", "[a, b]"));
        check(
            RuntimeState::Down("refused".into()),
            (false, "KubeletNotReady", "container runtime is down: refused"),
        );
    }

    #[test]
    fn a_status_that_stays_keeps_its_time() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let first = conditions(Pressure::default(), &RuntimeState::Up(vec![]));
        let before = listed(&first, &Value::Null, at("2026-01-01T00:00:00Z"));
        let second = conditions(Pressure { memory: true, ..Pressure::default() }, &RuntimeState::Up(vec![]));
        let after = listed(&second, &before, at("2026-01-01T00:01:00Z"));
        assert_eq!(after[0]["lastTransitionTime"], "2026-01-01T00:01:00Z");
        assert_eq!(after[3]["lastTransitionTime"], "2026-01-01T00:00:00Z");
        assert_eq!(after[3]["lastHeartbeatTime"], "2026-01-01T00:01:00Z");
        assert_eq!(after[0]["reason"], "KubeletHasInsufficientMemory");
    }
}
