//! The table of pods.

use coracle_apimachinery::time;
use jiff::Timestamp;
use serde_json::Value;

use crate::kinds::Column;
use crate::kinds::print::{AGE, NAME, NONE, age, col, containers, labels, name, or, or_none, wide};
use crate::kinds::tree::{flag, int, list, text};

/// Columns of pods.
pub const COLUMNS: &[Column] = &[
    NAME,
    col("Ready"),
    col("Status"),
    col("Restarts"),
    AGE,
    wide("IP"),
    wide("Node"),
    wide("Nominated Node"),
    wide("Readiness Gates"),
];

/// Columns of pod templates.
pub const TEMPLATE_COLUMNS: &[Column] = &[NAME, col("Containers"), col("Images"), col("Pod Labels")];

/// Cells of a pod template.
pub fn template_cells(object: &Value, _now: Timestamp) -> Vec<Value> {
    let [names, images] = containers(&object["template"]["spec"]);
    vec![name(object), names, images, labels(&object["template"]["metadata"]["labels"])]
}

/// Cells of a pod.
pub fn cells(pod: &Value, now: Timestamp) -> Vec<Value> {
    let summary = Summary::of(pod);
    let restarts = match summary.last_restart {
        Some(at) if summary.restarts > 0 => {
            let ago = coracle_apimachinery::duration::human(time::seconds_between(at, now));
            format!("{} ({ago} ago)", summary.restarts)
        }
        _ => summary.restarts.to_string(),
    };
    let status = &pod["status"];
    let address = match text(&status["podIPs"][0]["ip"]) {
        "" => text(&status["podIP"]),
        address => address,
    };
    vec![
        name(pod),
        format!("{}/{}", summary.ready, summary.total).into(),
        summary.reason.into(),
        restarts.into(),
        age(pod, now),
        or(address, NONE),
        or_none(&pod["spec"]["nodeName"]),
        or_none(&status["nominatedNodeName"]),
        readiness_gates(pod),
    ]
}

fn readiness_gates(pod: &Value) -> Value {
    let gates = list(&pod["spec"]["readinessGates"]);
    if gates.is_empty() {
        return NONE.into();
    }
    let met = gates.iter().filter(|gate| condition(pod, text(&gate["conditionType"]), "True")).count();
    format!("{met}/{}", gates.len()).into()
}

fn condition(pod: &Value, kind: &str, status: &str) -> bool {
    list(&pod["status"]["conditions"]).iter().any(|c| c["type"] == kind && c["status"] == status)
}

/// A pod in a few words.
struct Summary {
    ready: usize,
    total: usize,
    reason: String,
    restarts: i64,
    last_restart: Option<Timestamp>,
}

impl Summary {
    fn of(pod: &Value) -> Self {
        let status = &pod["status"];
        let (spec, phase) = (&pod["spec"], text(&status["phase"]));
        let sidecars =
            list(&spec["initContainers"]).iter().filter(|c| c["restartPolicy"] == "Always").count();
        let mut summary = Self {
            ready: 0,
            total: list(&spec["containers"]).len() + sidecars,
            reason: text(if text(&status["reason"]).is_empty() {
                &status["phase"]
            } else {
                &status["reason"]
            })
            .to_owned(),
            restarts: 0,
            last_restart: None,
        };
        let gated = |c: &Value| c["type"] == "PodScheduled" && c["reason"] == "SchedulingGated";
        if list(&status["conditions"]).iter().any(gated) {
            "SchedulingGated".clone_into(&mut summary.reason);
        }
        let initializing = summary.init_containers(pod);
        if !initializing || condition(pod, "Initialized", "True") {
            summary.containers(pod);
        }
        let deleting = pod["metadata"]["deletionTimestamp"].is_string();
        if deleting && status["reason"] == "NodeLost" {
            "Unknown".clone_into(&mut summary.reason);
        } else if deleting && !matches!(phase, "Succeeded" | "Failed") {
            "Terminating".clone_into(&mut summary.reason);
        }
        summary
    }

    fn count_restarts(&mut self, container: &Value) {
        self.restarts += int(&container["restartCount"]);
        let finished = container["lastState"]["terminated"]["finishedAt"].as_str().and_then(time::parse);
        self.last_restart = self.last_restart.max(finished);
    }

    /// Whether init containers still have the word.
    fn init_containers(&mut self, pod: &Value) -> bool {
        let specs = list(&pod["spec"]["initContainers"]);
        for (index, container) in list(&pod["status"]["initContainerStatuses"]).iter().enumerate() {
            self.count_restarts(container);
            let spec = specs.iter().find(|spec| spec["name"] == container["name"]);
            let sidecar = spec.is_some_and(|spec| spec["restartPolicy"] == "Always");
            let (terminated, waiting) = (&container["state"]["terminated"], &container["state"]["waiting"]);
            if terminated.is_object() && int(&terminated["exitCode"]) == 0 {
                continue;
            }
            if sidecar && flag(&container["started"]) {
                self.ready += usize::from(flag(&container["ready"]));
                continue;
            }
            self.reason = if terminated.is_object() {
                format!("Init:{}", end(terminated))
            } else {
                match text(&waiting["reason"]) {
                    "" | "PodInitializing" => format!("Init:{index}/{}", specs.len()),
                    reason => format!("Init:{reason}"),
                }
            };
            return true;
        }
        false
    }

    fn containers(&mut self, pod: &Value) {
        self.only_sidecar_restarts(pod);
        let mut running = false;
        for container in list(&pod["status"]["containerStatuses"]).iter().rev() {
            self.count_restarts(container);
            let state = &container["state"];
            let waiting = text(&state["waiting"]["reason"]);
            if !waiting.is_empty() {
                waiting.clone_into(&mut self.reason);
            } else if state["terminated"].is_object() {
                self.reason = end(&state["terminated"]);
            } else if flag(&container["ready"]) && state["running"].is_object() {
                running = true;
                self.ready += 1;
            }
        }
        if self.reason == "Completed" && running {
            let ready = condition(pod, "Ready", "True");
            (if ready { "Running" } else { "NotReady" }).clone_into(&mut self.reason);
        }
    }

    /// Once the pod runs, restarts of plain init containers are history.
    fn only_sidecar_restarts(&mut self, pod: &Value) {
        (self.restarts, self.last_restart) = (0, None);
        let specs = list(&pod["spec"]["initContainers"]);
        for container in list(&pod["status"]["initContainerStatuses"]) {
            let is_it =
                |spec: &&Value| spec["name"] == container["name"] && spec["restartPolicy"] == "Always";
            if specs.iter().any(|spec| is_it(&spec)) {
                self.count_restarts(container);
            }
        }
    }
}

/// How a container ended.
fn end(terminated: &Value) -> String {
    match (text(&terminated["reason"]), int(&terminated["signal"])) {
        ("", 0) => format!("ExitCode:{}", int(&terminated["exitCode"])),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// `init` and `main` are container statuses; shows `READY STATUS RESTARTS`.
    fn check(init: Value, main: Value, more: Value, expected: &str) {
        let names =
            |statuses: &Value| list(statuses).iter().map(|s| json!({"name": s["name"]})).collect::<Vec<_>>();
        let mut pod = json!({
            "metadata": {"name": "p", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"initContainers": names(&init), "containers": names(&main)},
            "status": {"phase": "Running", "initContainerStatuses": init, "containerStatuses": main},
        });
        for (pointer, value) in more.as_object().unwrap() {
            let (parent, field) = pointer.rsplit_once('/').unwrap();
            pod.pointer_mut(parent).unwrap()[field] = value.clone();
        }
        let now = "2026-01-01T00:10:00Z".parse().unwrap();
        let cells = cells(&pod, now);
        let shown: Vec<_> = cells[1..4].iter().map(text).collect();
        assert_eq!(shown.join(" "), expected, "{pod}");
    }

    #[test]
    fn status_as_users_know_it() {
        let none = || json!([]);
        let running = || json!([{"name": "a", "ready": true, "state": {"running": {}}}]);
        check(none(), running(), json!({}), "1/1 Running 0");
        check(
            none(),
            json!([{"name": "a", "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "restartCount": 3,
            "lastState": {"terminated": {"finishedAt": "2026-01-01T00:05:00Z"}}}]),
            json!({}),
            "0/1 CrashLoopBackOff 3 (5m ago)",
        );
        check(
            none(),
            running(),
            json!({"/metadata/deletionTimestamp": "2026-01-01T00:00:00Z"}),
            "1/1 Terminating 0",
        );
        check(
            none(),
            json!([{"name": "a", "state": {"terminated": {"reason": "Completed"}}}]),
            json!({"/status/phase": "Succeeded"}),
            "0/1 Completed 0",
        );
        check(
            none(),
            json!([{"name": "a", "state": {"terminated": {"exitCode": 2}}}]),
            json!({}),
            "0/1 ExitCode:2 0",
        );
        check(
            json!([{"name": "i", "state": {"running": {}}}]),
            running(),
            json!({"/status/phase": "Pending"}),
            "0/1 Init:0/1 0",
        );
        check(
            json!([{"name": "i", "state": {"terminated": {"exitCode": 1, "reason": "Error"}}, "restartCount": 2}]),
            none(),
            json!({}),
            "0/0 Init:Error 2",
        );
        check(
            json!([{"name": "i", "state": {"terminated": {"exitCode": 0}}, "restartCount": 2}]),
            running(),
            json!({}),
            "1/1 Running 0",
        );
        check(
            json!([{"name": "s", "started": true, "ready": true, "state": {"running": {}}, "restartCount": 1}]),
            running(),
            json!({"/spec/initContainers/0/restartPolicy": "Always"}),
            "2/2 Running 1",
        );
        check(
            none(),
            json!([]),
            json!({"/status/phase": "Failed", "/status/reason": "Evicted"}),
            "0/0 Evicted 0",
        );
        check(
            none(),
            json!([{"name": "a", "ready": true, "state": {"running": {}}},
            {"name": "b", "state": {"terminated": {"reason": "Completed"}}}]),
            json!({}),
            "1/2 NotReady 0",
        );
    }
}
