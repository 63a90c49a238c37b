//! `coracle status`: does the cluster answer, is its node Ready, and if not, what is it waiting for.

use std::path::Path;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Node, ServiceAccount};
use kube::api::{Api, ListParams};

use crate::layout::Layout;
use crate::settings::{Role, Started};

/// Between two looks while waiting.
const PAUSE: Duration = Duration::from_millis(200);

/// Deadline of one look.
const LOOK: Duration = Duration::from_secs(5);

/// Whose readiness is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Every node's, as far as it can be seen from here.
    Cluster,
    /// This host's own node's.
    ThisNode,
}

/// How a cluster is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Every node is Ready, and pods can be created.
    Ready {
        /// Their names.
        nodes: Vec<String>,
    },
    /// Not yet, and why.
    Waiting {
        /// What is missing.
        reason: String,
    },
    /// It was started, but its process has ended.
    Ended,
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ready { nodes } if nodes.is_empty() => f.write_str("control plane is ready"),
            Self::Ready { nodes } => write!(f, "node {} is Ready", nodes.join(", ")),
            Self::Waiting { reason } => write!(f, "waiting: {reason}"),
            Self::Ended => write!(f, "coracle is not running"),
        }
    }
}

/// Looks until the cluster is Ready, its process has ended or `wait` is over. `tell` hears of each change.
pub async fn wait_until_ready(
    layout: &Layout,
    scope: Scope,
    wait: Duration,
    mut tell: impl FnMut(&State),
) -> State {
    let start = Instant::now();
    let mut last = None;
    loop {
        let state = look(layout, scope).await;
        if last.as_ref() != Some(&state) {
            tell(&state);
        }
        let over = !matches!(state, State::Waiting { .. }) || start.elapsed() >= wait;
        if over {
            return state;
        }
        last = Some(state);
        tokio::time::sleep(PAUSE).await;
    }
}

/// One look.
pub async fn look(layout: &Layout, scope: Scope) -> State {
    if process_ended(&layout.run().join("coracle.pid")) {
        return State::Ended;
    }
    match tokio::time::timeout(LOOK, ask(layout, scope)).await {
        Err(_) => waiting("the API server does not answer in time"),
        Ok(Err(reason)) => State::Waiting { reason },
        Ok(Ok(seen)) => judge(&seen),
    }
}

fn waiting(reason: &str) -> State {
    State::Waiting { reason: reason.to_owned() }
}

/// Whether the file names a process, and that process is gone or only waits for its parent to notice.
fn process_ended(pid_file: &Path) -> bool {
    let Ok(text) = std::fs::read_to_string(pid_file) else { return false };
    let Ok(pid) = text.trim().parse::<i32>() else { return false };
    match std::fs::read_to_string(format!("/proc/{pid}/status")) {
        Ok(status) => status.lines().any(|it| it.starts_with("State:") && it.contains("Z (")),
        Err(_) => true,
    }
}

/// What the API says.
struct Seen {
    nodes: Vec<Node>,
    /// Pods of the default namespace have their service account, as far as that can be seen from here.
    account: bool,
    /// A cluster may be without nodes.
    nodeless: bool,
}

async fn ask(layout: &Layout, scope: Scope) -> Result<Seen, String> {
    let started = std::fs::read(layout.settings()).ok();
    let started: Option<Started> = started.and_then(|it| serde_json::from_slice(&it).ok());
    let role = started.as_ref().map(|it| it.role).unwrap_or_default();
    let path = match role {
        Role::Agent => layout.membership().kubeconfig(),
        Role::Server | Role::ControlPlane => layout.admin_kubeconfig(),
    };
    if !path.exists() {
        return Err(match role {
            Role::Agent => "the node has not got its certificate yet".to_owned(),
            Role::Server | Role::ControlPlane => {
                "the API server has not made its certificates yet".to_owned()
            }
        });
    }
    let client = coracle_client::from_kubeconfig(&path, "coracle-status")
        .await
        .map_err(|error| coracle_client::report(&error))?;
    let refused = |error| match error {
        kube::Error::Api(status) => status.message,
        _ => "the API server does not answer yet".to_owned(),
    };
    let all = Api::<Node>::all(client.clone());
    let nodes = match started {
        // An agent sees itself and no others.
        Some(it) if role == Role::Agent || (scope == Scope::ThisNode && role == Role::Server) => {
            all.get_opt(&it.node.node_name).await.map_err(refused)?.into_iter().collect()
        }
        _ => all.list(&ListParams::default()).await.map_err(refused)?.items,
    };
    if role == Role::Agent {
        return Ok(Seen { nodes, account: true, nodeless: false });
    }
    let accounts = Api::<ServiceAccount>::namespaced(client, "default");
    let account = accounts.get_opt("default").await.map_err(refused)?;
    let nodeless = role == Role::ControlPlane;
    Ok(Seen { nodes, account: account.is_some(), nodeless })
}

fn judge(seen: &Seen) -> State {
    let nodes = &seen.nodes;
    if nodes.is_empty() && !seen.nodeless {
        return waiting("the kubelet has not registered its node yet");
    }
    for node in nodes {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let conditions = node.status.as_ref().and_then(|it| it.conditions.as_deref()).unwrap_or_default();
        match conditions.iter().find(|it| it.type_ == "Ready") {
            None => return waiting(&format!("node {name} has not reported yet")),
            Some(it) if it.status == "True" => {}
            Some(it) => {
                let reason = it.message.as_deref().unwrap_or("no reason given");
                return waiting(&format!("node {name} is not Ready: {reason}"));
            }
        }
    }
    if !seen.account {
        return waiting("service account default/default is not there yet, and pods need it");
    }
    State::Ready { nodes: nodes.iter().filter_map(|it| it.metadata.name.clone()).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::{NodeCondition, NodeStatus};

    fn node(name: &str, ready: Option<(&str, &str)>) -> Node {
        let conditions = ready.map(|(status, message)| {
            vec![NodeCondition {
                type_: "Ready".into(),
                status: status.into(),
                message: Some(message.into()),
                ..NodeCondition::default()
            }]
        });
        let mut node =
            Node { status: Some(NodeStatus { conditions, ..NodeStatus::default() }), ..Node::default() };
        node.metadata.name = Some(name.into());
        node
    }

    #[test]
    fn a_cluster_is_ready_when_all_nodes_are() {
        for (nodes, expected) in [
            (vec![], "waiting: the kubelet has not registered its node yet"),
            (vec![node("a", None)], "waiting: node a has not reported yet"),
            (vec![node("a", Some(("False", "no network")))], "waiting: node a is not Ready: no network"),
            (vec![node("a", Some(("True", "")))], "node a is Ready"),
            (vec![node("a", Some(("True", ""))), node("b", None)], "waiting: node b has not reported yet"),
        ] {
            let seen = Seen { nodes, account: true, nodeless: false };
            assert_eq!(judge(&seen).to_string(), expected);
        }
        let nodes = vec![node("a", Some(("True", "")))];
        let early = judge(&Seen { nodes, account: false, nodeless: false }).to_string();
        assert!(early.contains("default/default"), "{early}");
        let alone = judge(&Seen { nodes: vec![], account: true, nodeless: true }).to_string();
        assert_eq!(alone, "control plane is ready");
    }

    #[test]
    fn a_process_that_is_gone_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pid");
        assert!(!process_ended(&file));
        std::fs::write(&file, std::process::id().to_string()).unwrap();
        assert!(!process_ended(&file));
        std::fs::write(&file, "2147483647\n").unwrap();
        assert!(process_ended(&file));
    }
}
