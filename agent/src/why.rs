//! `coracle why pod NAME`: what happened to a pod, step by step, with reasons and times, from its node's kubelet.

use std::fmt::Write;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client};
use serde::Deserialize;

/// Deadline of the whole question.
const DEADLINE: Duration = Duration::from_secs(15);

/// One thing that happened; the kubelet's `/debug/pods/<uid>/timeline` is a list of them.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    at: Timestamp,
    kind: String,
    what: String,
    #[serde(default)]
    container: Option<String>,
    #[serde(default)]
    detail: String,
    #[serde(default)]
    took_ms: Option<f64>,
    #[serde(default)]
    times: Option<u32>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum WhyError {
    /// The API server refused or did not answer.
    #[error("ask for pod {namespace}/{name}")]
    Pod {
        /// The pod's namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// The cause.
        #[source]
        source: Box<kube::Error>,
    },
    /// The pod has no node yet: no kubelet knows it. Its condition tells what the scheduler thinks.
    #[error("pod {namespace}/{name} has no node yet: {reason}")]
    Unscheduled {
        /// The pod's namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// The scheduler's words.
        reason: String,
    },
    /// The node's kubelet refused or did not answer.
    #[error("ask the kubelet of node {node} for the pod's timeline")]
    Kubelet {
        /// The node.
        node: String,
        /// The cause.
        #[source]
        source: Box<kube::Error>,
    },
    /// Nobody answered in time.
    #[error("no answer within {} s", DEADLINE.as_secs())]
    TimedOut,
}

/// The timeline of a pod, as text.
pub async fn pod(client: Client, namespace: &str, name: &str) -> Result<String, WhyError> {
    tokio::time::timeout(DEADLINE, ask(client, namespace, name)).await.map_err(|_| WhyError::TimedOut)?
}

async fn ask(client: Client, namespace: &str, name: &str) -> Result<String, WhyError> {
    let (owned_namespace, owned_name) = (namespace.to_owned(), name.to_owned());
    let pod =
        Api::<Pod>::namespaced(client.clone(), namespace).get(name).await.map_err(|error| WhyError::Pod {
            namespace: owned_namespace.clone(),
            name: owned_name.clone(),
            source: Box::new(error),
        })?;
    let Some(node) = pod.spec.as_ref().and_then(|it| it.node_name.clone()) else {
        return Err(WhyError::Unscheduled {
            namespace: owned_namespace,
            name: owned_name,
            reason: unscheduled(&pod),
        });
    };
    let uid = pod.metadata.uid.clone().unwrap_or_default();
    let path = format!("/api/v1/nodes/{node}/proxy/debug/pods/{uid}/timeline");
    let request = http::Request::get(path).body(Vec::new()).map_err(|error| WhyError::Kubelet {
        node: node.clone(),
        source: Box::new(kube::Error::HttpError(error)),
    })?;
    let entries: Vec<Entry> = client
        .request(request)
        .await
        .map_err(|error| WhyError::Kubelet { node: node.clone(), source: Box::new(error) })?;
    Ok(render(&format!("pod {namespace}/{name} on node {node}"), &entries))
}

fn unscheduled(pod: &Pod) -> String {
    let conditions = pod.status.as_ref().and_then(|it| it.conditions.as_deref()).unwrap_or_default();
    let scheduled = conditions.iter().find(|it| it.type_ == "PodScheduled");
    scheduled
        .and_then(|it| it.message.clone())
        .unwrap_or_else(|| "the scheduler has not looked at it yet".to_owned())
}

/// One line an entry: time since the first, how long it took, which container, what, why.
fn render(title: &str, entries: &[Entry]) -> String {
    let mut text = format!("{title}\n");
    let Some(first) = entries.first() else {
        text.push_str("nothing has happened yet\n");
        return text;
    };
    let _ = writeln!(text, "from {}", first.at);
    let width = entries.iter().map(|it| it.container.as_deref().unwrap_or("-").len()).max().unwrap_or(1);
    for entry in entries {
        let since = entry.at.duration_since(first.at).as_secs_f64();
        let took = entry.took_ms.map_or_else(String::new, |it| format!("{it:.1} ms"));
        let container = entry.container.as_deref().unwrap_or("-");
        let times = entry.times.filter(|it| *it > 1).map_or_else(String::new, |it| format!(" (x{it})"));
        let detail = if entry.detail.is_empty() { String::new() } else { format!(": {}", entry.detail) };
        let _ = writeln!(
            text,
            "{since:>+10.3}s {took:>11}  {:<8}  {container:<width$}  {}{detail}{times}",
            entry.kind, entry.what
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeline_is_one_line_an_entry() {
        let json = r#"[
            {"at":"2026-01-02T03:04:05Z","kind":"decision","what":"run-sandbox#0","detail":"no sandbox"},
            {"at":"2026-01-02T03:04:05.0015Z","kind":"call","what":"RunPodSandbox","tookMs":101.5},
            {"at":"2026-01-02T03:04:06Z","kind":"failure","what":"PullImage","container":"web","detail":"not found","times":3}
        ]"#;
        let entries: Vec<Entry> = serde_json::from_str(json).unwrap();
        expect_test::expect![[r"
            pod a/b on node n
            from 2026-01-02T03:04:05Z
                +0.000s              decision  -    run-sandbox#0: no sandbox
                +0.002s    101.5 ms  call      -    RunPodSandbox
                +1.000s              failure   web  PullImage: not found (x3)
        "]]
        .assert_eq(&render("pod a/b on node n", &entries));
        assert_eq!(render("x", &[]), "x\nnothing has happened yet\n");
    }
}
