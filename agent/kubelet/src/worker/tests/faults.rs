//! Every call to the runtime × every fault × every time of a pod's life: it comes up and goes away all the same,
//! nothing runs twice, and nothing of it is left. The clock is paused, so hours of waiting take no time.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use coracle_cri::fake::{FakeConfig, Fault, Restart, Run, Script};
use coracle_cri::proto as v1;
use coracle_cri::{Code, Containers, Sandboxes};
use futures::FutureExt;
use k8s_openapi::api::core::v1::{Container, ContainerStatus, ExecAction, LifecycleHandler, Pod, Probe};
use tokio::runtime::Handle;

use super::dsl;
use super::node::Node;
use crate::pod;

/// Every call that is made for a pod.
const CALLS: [&str; 15] = [
    "RunPodSandbox",
    "PodSandboxStatus",
    "ListPodSandbox",
    "StopPodSandbox",
    "RemovePodSandbox",
    "ImageStatus",
    "PullImage",
    "CreateContainer",
    "StartContainer",
    "ContainerStatus",
    "ListContainers",
    "StopContainer",
    "RemoveContainer",
    "ExecSync",
    "GetContainerEvents",
];
/// A client's deadline, as for a real runtime.
const DEADLINE: Duration = Duration::from_secs(120);
/// The safety net comes too late to be of help.
const RELIST: Duration = Duration::from_secs(24 * 3600);

/// When the fault begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    /// From the start; the pod comes up first.
    Up,
    /// From the start; the pod is deleted as soon as the call was made.
    Midway,
    /// Once the pod is up, before it is deleted.
    Down,
}

/// Where a fault is met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// At calls of this name, so many in a row.
    Call(&'static str, usize),
    /// At the n-th of all calls.
    Nth(usize),
}

/// One cell of the matrix.
#[derive(Debug)]
struct Case {
    fault: Fault,
    when: When,
    at: At,
}

/// All calls, at all times, with this fault; each pod is up, and gone, within `limit`.
async fn each(fault: Fault, limit: Duration) {
    let mut table = Table { fault, limit, failed: Vec::new() };
    for call in CALLS {
        let mut met = false;
        for when in [When::Up, When::Midway, When::Down] {
            for times in [1, 3] {
                met |= table.check(when, At::Call(call, times)).await;
            }
        }
        assert!(met, "{call} is never made: take it out of the table");
    }
    for when in [When::Up, When::Down] {
        let mut n = 0;
        while table.check(when, At::Nth(n)).await {
            n += 1;
        }
        assert!(n > 10, "{n} calls");
    }
    assert!(table.failed.is_empty(), "{:#?}", table.failed);
}

struct Table {
    fault: Fault,
    limit: Duration,
    failed: Vec<String>,
}

impl Table {
    /// One life; whether it went well enough for the fault to be met.
    async fn check(&mut self, when: When, at: At) -> bool {
        let case = Case { fault: self.fault.clone(), when, at };
        case.live(self.limit).await.unwrap_or_else(|| {
            self.failed.push(format!("{case:?}")); // it has told why
            true
        })
    }
}

impl Case {
    /// A pod's whole life; whether the fault was met. None: it did not go as it should.
    async fn live(&self, limit: Duration) -> Option<bool> {
        let what = format!("{self:?}");
        let config = FakeConfig { deadline: Some(DEADLINE), ..FakeConfig::default() };
        let node = Node::over(config, RELIST, limit);
        let life = async {
            tokio::select! {
                met = self.phases(&node, &what) => met,
                () = node.fake.wait_until(runs_twice) => panic!("{what}: runs twice: {:?}", node.fake.calls()),
            }
        };
        let lived = AssertUnwindSafe(life).catch_unwind().await;
        node.end().await;
        lived.ok()
    }

    async fn phases(&self, node: &Node, what: &str) -> bool {
        node.fake.script("a", Script::of([Run::exits(Duration::from_millis(20), 0)]));
        if self.when != When::Down {
            self.inject(node);
        }
        settled().await;
        let tasks = Handle::current().metrics().num_alive_tasks();
        node.put(&web());
        look_again(node);
        let mut met = false;
        if self.when == When::Midway {
            while node.fake.met() == 0 && !node.bench.get("u1").as_ref().is_some_and(is_up) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        } else {
            self.up(node, what).await;
        }
        if self.when == When::Up {
            met = node.fake.met() > 0;
        }
        if self.when == When::Down {
            self.inject(node);
        }
        look_again(node);
        node.delete(5);
        self.meanwhile(node, node.bench.until("u1", what, |it| it.is_none())).await;
        settled().await;
        met |= self.when != When::Up && node.fake.met() > 0;
        node.gone(what).await;
        settled().await;
        assert_eq!(Handle::current().metrics().num_alive_tasks(), tasks, "{what}: tasks before and after");
        met
    }

    fn inject(&self, node: &Node) {
        match self.at {
            At::Call(call, times) => node.fake.inject(call, self.fault.clone(), times),
            At::Nth(n) => node.fake.inject_after(n, self.fault.clone()),
        }
    }

    async fn up(&self, node: &Node, what: &str) {
        let ready = node.bench.until("u1", what, |it| it.is_some_and(is_up));
        self.meanwhile(node, ready).await;
        settled().await;
        node.fake.heal();
        let containers = node.fake.list_containers(None).await.unwrap_or_default();
        let running: BTreeSet<String> = containers.iter().filter(|it| is_running(it)).map(name).collect();
        assert_eq!(running, BTreeSet::from(["app".into(), "proxy".into()]), "{what}: run");
        let sandboxes = node.fake.list_pod_sandboxes(None).await.unwrap_or_default();
        let ready = sandboxes.iter().filter(|it| it.state() == v1::PodSandboxState::SandboxReady).count();
        assert_eq!(ready, 1, "{what}: sandboxes {sandboxes:?}");
        let restarts: Vec<i32> =
            node.bench.get("u1").iter().flat_map(statuses).map(|it| it.restart_count).collect();
        assert_eq!(restarts, [0, 0, 0], "{what}: a call that failed is no restart");
    }

    /// Pulls have no deadline: one that hangs does so until the runtime is started anew.
    async fn meanwhile(&self, node: &Node, done: impl Future<Output = ()>) {
        let started_anew = async {
            let pulls = matches!(self.at, At::Call("PullImage", _) | At::Nth(_));
            if !pulls || !matches!(self.fault, Fault::Hang | Fault::NoAnswer) {
                return std::future::pending().await;
            }
            loop {
                tokio::time::sleep(2 * DEADLINE).await;
                node.fake.restart(Restart::Daemon);
            }
        };
        tokio::select! {
            () = done => {}
            () = started_anew => unreachable!("it goes on for ever"),
        }
    }
}

/// What the safety net does when its table differs: the lists are asked for.
fn look_again(node: &Node) {
    if let Some(entry) = node.roster.by_uid("u1") {
        entry.inbox.look_again();
    }
}

/// Lets everything come to rest that needs no time to pass (but some milliseconds).
async fn settled() {
    tokio::time::sleep(Duration::from_millis(200)).await;
}

/// An init container `a`, a sidecar `proxy`, and `app` with a probe and a hook that ask the runtime.
fn web() -> Pod {
    let mut pod = dsl::pod("always: init:a side:proxy app");
    let exec = Some(ExecAction { command: Some(vec!["true".into()]) });
    if let Some(app) = pod.spec.as_mut().and_then(|it| it.containers.first_mut()) {
        app.readiness_probe = Some(Probe { exec: exec.clone(), period_seconds: Some(1), ..Probe::default() });
        let hook = LifecycleHandler { exec, ..LifecycleHandler::default() };
        hooks(app).pre_stop = Some(hook);
    }
    pod
}

fn hooks(container: &mut Container) -> &mut k8s_openapi::api::core::v1::Lifecycle {
    container.lifecycle.get_or_insert_default()
}

fn is_up(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|it| it.conditions.iter().flatten());
    let ready = conditions.filter(|it| it.type_ == "Ready").any(|it| it.status == "True");
    ready && pod::phase(pod) == "Running" && statuses(pod).all(|it| it.ready)
}

fn statuses(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let lists = pod.status.iter().flat_map(|it| [&it.init_container_statuses, &it.container_statuses]);
    lists.flatten().flatten()
}

fn is_running(it: &v1::Container) -> bool {
    it.state() == v1::ContainerState::ContainerRunning
}

fn name(it: &v1::Container) -> String {
    it.metadata.clone().unwrap_or_default().name
}

/// Whether any container runs beside another one of its name.
fn runs_twice(all: &[v1::Container]) -> bool {
    let mut count = BTreeMap::<String, u32>::new();
    for it in all.iter().filter(|it| is_running(it)) {
        *count.entry(name(it)).or_default() += 1;
    }
    count.values().any(|it| *it > 1)
}

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn calls_that_are_slow() {
    each(Fault::Delay(Duration::from_secs(8)), 5 * MINUTE).await;
}

#[tokio::test(start_paused = true)]
async fn calls_that_fail() {
    each(Fault::Fail(Code::Unknown, "no luck today".into()), 3 * MINUTE).await;
}

#[tokio::test(start_paused = true)]
async fn calls_whose_answer_is_lost() {
    each(Fault::LoseAnswer, 3 * MINUTE).await;
}

#[tokio::test(start_paused = true)]
async fn calls_that_are_done_twice() {
    each(Fault::Twice, 3 * MINUTE).await;
}

#[tokio::test(start_paused = true)]
async fn calls_that_hang() {
    each(Fault::Hang, 15 * MINUTE).await;
}

#[tokio::test(start_paused = true)]
async fn calls_that_are_done_and_never_answered() {
    each(Fault::NoAnswer, 15 * MINUTE).await;
}

#[tokio::test(start_paused = true)]
async fn a_runtime_that_dies_at_a_call_and_comes_back() {
    each(Fault::Crash(Duration::from_secs(20)), 5 * MINUTE).await;
}
