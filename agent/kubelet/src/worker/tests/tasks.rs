//! The task over the fake runtime: its way and its restart.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use coracle_cri::fake::{Restart, Run, Script};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

use super::node::Node;
use crate::observe;
use crate::pod;

fn app(pod: Option<&Pod>) -> Option<&ContainerStatus> {
    pod?.status.as_ref()?.container_statuses.as_ref()?.first()
}

#[tokio::test]
async fn up_and_down() {
    let node = Node::start();
    node.create("always: app log");
    node.bench.phase("u1", "Running").await;
    assert_eq!((node.count("RunPodSandbox"), node.count("CreateContainer")), (1, 2));
    let pod = node.bench.get("u1").unwrap();
    assert!(app(Some(&pod)).unwrap().ready);
    assert!(pod.status.unwrap().pod_ip.is_some());
    assert!(*node.bench.api.patches.lock().unwrap() <= 4, "one patch for each change that users can see");
    node.delete(30);
    node.gone("up and down").await;
}

#[tokio::test]
async fn a_container_that_exits_is_started_again_and_counted() {
    let node = Node::start();
    let crash = Run::exits(Duration::from_millis(20), 3);
    node.fake.script("app", Script::of([crash, Run::default()]));
    node.create("always: app");
    let restarted = |it: Option<&Pod>| app(it).is_some_and(|it| it.restart_count == 1 && it.ready);
    node.bench.until("u1", "restarted", restarted).await;
    let pod = node.bench.get("u1").unwrap();
    let last = app(Some(&pod)).unwrap().last_state.clone().unwrap().terminated.unwrap();
    assert_eq!(last.exit_code, 3);
}

#[tokio::test]
async fn a_container_that_cannot_be_configured_keeps_its_image() {
    let node = Node::start();
    *node.bench.home.fail_configs.lock().unwrap() = 2;
    node.create("always: app");
    node.bench.phase("u1", "Running").await;
    assert_eq!((node.count("PullImage"), node.count("CreateContainer")), (1, 1));
}

#[tokio::test]
async fn a_removed_container_takes_its_logs_along() {
    let node = Node::start();
    let crash = Run::exits(Duration::from_millis(20), 3);
    node.fake.script("app", Script::of([crash.clone(), crash, Run::default()]));
    node.create("always: app");
    let removed = async {
        while node.bench.home.removed_logs.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), removed).await.unwrap();
    assert_eq!(*node.bench.home.removed_logs.lock().unwrap(), ["app/0.log"]);
}

#[tokio::test]
async fn a_job_is_wound_up() {
    let node = Node::start();
    node.fake.script("app", Script::of([Run::exits(Duration::from_millis(20), 0)]));
    node.create("never: init:a app");
    node.fake.script("a", Script::of([Run::exits(Duration::from_millis(20), 0)]));
    node.bench.phase("u1", "Succeeded").await;
    assert_eq!((node.count("CreateContainer"), node.count("StopPodSandbox")), (2, 1));
    assert!(node.bench.home.mounted.lock().unwrap().is_empty());
    node.delete(0);
    node.gone("a job").await;
}

#[tokio::test]
async fn one_that_ignores_term_is_killed_when_its_grace_is_over() {
    let node = Node::start();
    node.fake.script("app", Script::of([Run::ignores_term()]));
    node.create("always: app");
    node.bench.phase("u1", "Running").await;
    node.delete(3600);
    node.bench.until("u1", "asked to stop", |_| true).await;
    node.delete(1); // a later delete shortens the wait
    node.gone("ignores TERM").await;
}

#[tokio::test]
async fn containers_are_adopted_by_the_next_kubelet() {
    let node = Node::start();
    let pod = node.create("always: app+ready");
    node.bench
        .until("u1", "running", |it| app(it).is_some_and(|it| it.state.clone().unwrap().running.is_some()))
        .await;
    let mut known = node.bench.get("u1").unwrap();
    let status = known.status.as_mut().unwrap().container_statuses.as_mut().unwrap();
    (status[0].ready, status[0].started) = (true, Some(true));
    let id = status[0].container_id.clone();
    let node = node.restart().await;
    node.bench.api.sent.lock().unwrap().clear();
    node.bench.api.pods.lock().unwrap().insert("u1".into(), known.clone());
    node.roster.put(Arc::new(known));
    node.listen();
    let entry = node.roster.by_uid(pod::uid(&pod)).unwrap();
    let adopted = async {
        while entry.published().seen.containers.first().is_none_or(|it| it.image_ref.is_empty()) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), adopted).await.expect("looked at");
    let published = entry.published();
    let status = &published.status.container_statuses.as_ref().unwrap()[0];
    assert_eq!((&status.container_id, status.restart_count, status.ready), (&id, 0, true));
    assert!(published.status.pod_ip.is_some());
    let lost = |it: &serde_json::Value| {
        let empty =
            |it: &serde_json::Value| it.is_null() || it == "" || it.as_array().is_some_and(Vec::is_empty);
        ["podIP", "podIPs"].into_iter().filter_map(|field| it.get(field)).any(empty)
    };
    let sent = node.bench.api.sent.lock().unwrap();
    assert!(!sent.iter().any(lost), "an address went away for a moment: {sent:?}");
    drop(sent);
    assert_eq!((node.count("CreateContainer"), node.count("RunPodSandbox")), (1, 1));
}

#[tokio::test]
async fn what_no_source_knows_is_torn_down() {
    let node = Node::start();
    node.create("always: app");
    node.bench.phase("u1", "Running").await;
    let node = node.restart().await;
    node.bench.api.pods.lock().unwrap().clear();
    node.listen();
    node.gone("orphan").await;
}

#[tokio::test]
async fn a_machine_that_lost_power() {
    let node = Node::start();
    node.create("always: app");
    node.bench.phase("u1", "Running").await;
    let node = node.restart().await;
    node.fake.restart(Restart::Machine);
    let found: BTreeMap<_, _> = observe::everything(&node.runtime()).await.unwrap();
    let roster = node.bench.again(node.runtime(), found);
    let node = Node { roster, ..node };
    node.roster.put(Arc::new(node.bench.get("u1").unwrap()));
    node.listen();
    let again = |it: Option<&Pod>| app(it).is_some_and(|it| it.restart_count == 1 && it.ready);
    node.bench.until("u1", "started again", again).await;
    node.delete(1);
    node.gone("power").await;
}
