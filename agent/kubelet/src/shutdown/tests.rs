//! A logind of our own on a private bus of the reference daemon; pods over the fake runtime.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use coracle_cri::fake::{FakeConfig, FakeRuntime};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::config::ShutdownSettings;
use crate::dbus::testing::{Daemon, answer, answer_with_fd, next_call, signal};
use crate::dbus::{Bus, Value};
use crate::metrics::Metrics;
use crate::worker::tests::{dsl, home::Bench};

const PATH: &str = "/org/freedesktop/login1";
const MANAGER: &str = "org.freedesktop.login1.Manager";

/// Answers like logind, with the lock that it allows.
struct Logind {
    bus: Bus,
}

impl Logind {
    fn delay(&mut self, allowed: Duration) {
        let call = next_call(&mut self.bus);
        assert_eq!((call.member.as_str(), &call.body[1]), ("Get", &"InhibitDelayMaxUSec".into()));
        let micros = u64::try_from(allowed.as_micros()).unwrap();
        answer(&mut self.bus, &call, vec![Value::Variant(Box::new(Value::U64(micros)))]);
    }

    /// The other end of the lock: it reads an end when the lock is given back.
    fn lock(&mut self) -> std::fs::File {
        let call = next_call(&mut self.bus);
        let asked =
            ["shutdown", "kubelet", "Kubelet needs time to handle node shutdown", "delay"].map(Value::from);
        assert_eq!((call.member.as_str(), call.body.as_slice()), ("Inhibit", asked.as_slice()));
        let (ours, given) = std::io::pipe().unwrap();
        answer_with_fd(&mut self.bus, &call, &given);
        std::fs::File::from(OwnedFd::from(ours))
    }

    fn announce(&mut self, down: bool) {
        signal(&mut self.bus, PATH, MANAGER, "PrepareForShutdown", vec![Value::Bool(down)]);
    }
}

struct Node {
    bench: Bench,
    roster: Arc<crate::worker::Roster>,
    shutting_down: watch::Receiver<bool>,
    token: CancellationToken,
    running: tokio::task::JoinHandle<()>,
}

fn start(daemon: &Daemon, conf: PathBuf, within: u64, critical: u64) -> Node {
    let (bench, roster) = Bench::roster(Arc::new(FakeRuntime::new(FakeConfig::default())));
    roster.sources_synced();
    let seconds = Duration::from_secs;
    let shutting_down = Arc::new(watch::Sender::new(false));
    let deps = ShutdownDeps {
        settings: ShutdownSettings {
            by_priority: vec![(0, seconds(within)), (2_000_000_000, seconds(critical))],
        },
        roster: roster.clone(),
        metrics: Arc::new(Metrics::new()),
        shutting_down: shutting_down.clone(),
        bus: daemon.socket().to_owned(),
        logind_conf: conf,
    };
    let token = CancellationToken::new();
    let told = shutting_down.subscribe();
    let running = tokio::spawn(run(deps, token.clone()));
    Node { bench, roster, shutting_down: told, token, running }
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_end_before_the_machine_and_the_lock_is_given_back() {
    let daemon = Daemon::start();
    let (folder, bus) = (tempfile::tempdir().unwrap(), daemon.service("org.freedesktop.login1"));
    let mut node = start(&daemon, folder.path().join("conf"), 20, 10);
    let mut logind = Logind { bus };
    let blocking = tokio::task::spawn_blocking(move || {
        logind.delay(Duration::from_secs(60));
        let lock = logind.lock();
        (logind, lock)
    });
    let (mut logind, mut lock) = blocking.await.unwrap();
    let pod = node.bench.create(&dsl::pod("always: app"));
    node.roster.put(pod);
    node.bench.until("u1", "running", |it| it.is_some_and(|it| crate::pod::phase(it) == "Running")).await;
    let given_back = tokio::task::spawn_blocking(move || {
        logind.announce(true);
        // The lock is ours until the pods have ended; then this end is closed.
        let mut rest = Vec::new();
        lock.read_to_end(&mut rest).unwrap();
        logind
    });
    node.shutting_down.wait_for(|it| *it).await.unwrap();
    let failed =
        |it: Option<&k8s_openapi::api::core::v1::Pod>| it.is_some_and(|it| crate::pod::phase(it) == "Failed");
    node.bench.until("u1", "failed", failed).await;
    let status = node.bench.get("u1").unwrap().status.unwrap();
    assert_eq!(status.reason.as_deref(), Some("Terminated"));
    let conditions = status.conditions.unwrap();
    let target = conditions.iter().find(|it| it.type_ == "DisruptionTarget").expect("it was disrupted");
    assert_eq!((target.status.as_str(), target.reason.as_deref()), ("True", Some("TerminationByKubelet")));
    let mut logind = tokio::time::timeout(Duration::from_secs(20), given_back).await.unwrap().unwrap();
    // Called off: the node is back, with a new lock.
    let back = tokio::task::spawn_blocking(move || {
        logind.announce(false);
        logind.lock()
    });
    node.shutting_down.wait_for(|it| !*it).await.unwrap();
    let _lock = back.await.unwrap();
    node.token.cancel();
    tokio::time::timeout(Duration::from_secs(20), node.running).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn logind_is_made_to_allow_as_long_as_configured() {
    let daemon = Daemon::start();
    let folder = tempfile::tempdir().unwrap();
    let (login, systemd) =
        (daemon.service("org.freedesktop.login1"), daemon.service("org.freedesktop.systemd1"));
    let node = start(&daemon, folder.path().join("conf"), 40, 5);
    let blocking = tokio::task::spawn_blocking(move || {
        let (mut logind, mut systemd) = (Logind { bus: login }, systemd);
        logind.delay(Duration::from_secs(5));
        let call = next_call(&mut systemd);
        assert_eq!((call.member.as_str(), &call.body[2]), ("KillUnit", &Value::I32(1)));
        answer(&mut systemd, &call, Vec::new());
        logind.delay(Duration::from_secs(45));
        logind.lock()
    });
    let _lock = blocking.await.unwrap();
    let written = std::fs::read_to_string(folder.path().join("conf/99-kubelet.conf")).unwrap();
    assert!(written.ends_with("[Login]\nInhibitDelayMaxSec=45\n"), "{written}");
    node.token.cancel();
    tokio::time::timeout(Duration::from_secs(20), node.running).await.unwrap().unwrap();
}
