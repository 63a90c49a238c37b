//! Pods and worlds in a few words.
//!
//! A pod: `always: app init:setup side:proxy del(30s)`: policy, containers in order, deletion.
//! A world, word by word:
//!   `mounted` `cleaned` `deleted`         what is done
//!   `ready` `ready#1` `dead#0` `stopped`  sandboxes (id `s<attempt>`); stopped: its network is torn down, too
//!   `app=run#0` `app=exit(1,10s)#3` `app=exit(0,5s,700s)#1` `app=created#0` `app@0=run#0`
//!                                         an instance (id `app-<count>`): exit code, how long ago, how long it ran,
//!                                         in which sandbox
//!   `img(app)` `noimg(app,10s,3s)`        its image is there; could not be had 3 s ago, try again in 10 s
//!   `busy(app)` `pulling(app)` `stopping(app,30s)` `busy(sandbox)` `busy(volumes)`
//!   `live-(app)` `startup-(app)` `startup+(app)`  probe results
//!   `failed(launch,app,5s)`               the last launch failed, try again in 5 s

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, EphemeralContainer, Pod, PodSpec, Probe};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

use crate::observe::{ContainerSeen, Exit, Observed, SandboxSeen, State};
use crate::pod;
use crate::probe::{Kind, Verdicts};
use crate::worker::facts::{Attempt, Busy, Failure, Memory, Subject};

pub(crate) fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

pub(crate) fn ago(text: &str) -> Timestamp {
    now().checked_sub(seconds(text)).unwrap()
}

pub(crate) fn seconds(text: &str) -> Duration {
    Duration::from_secs(text.trim_end_matches('s').parse().unwrap())
}

/// The words in the brackets of `name(a,b)`.
fn args(word: &str) -> Vec<&str> {
    word.split_once('(').unwrap().1.trim_end_matches(')').split(',').collect()
}

pub(crate) fn pod(text: &str) -> Pod {
    let (policy, words) = text.split_once(':').unwrap();
    let policy = match policy {
        "always" => "Always",
        "never" => "Never",
        "on-failure" => "OnFailure",
        other => panic!("policy {other}"),
    };
    let mut spec = PodSpec { restart_policy: Some(policy.into()), ..PodSpec::default() };
    let mut metadata = ObjectMeta {
        name: Some("web".into()),
        namespace: Some("default".into()),
        uid: Some("u1".into()),
        generation: Some(1),
        ..ObjectMeta::default()
    };
    for word in words.split_whitespace() {
        if word.starts_with("del(") {
            let grace = seconds(args(word)[0]);
            metadata.deletion_timestamp = Some(Time(now()));
            metadata.deletion_grace_period_seconds = Some(i64::try_from(grace.as_secs()).unwrap());
        } else if word == "host" {
            spec.host_network = Some(true);
        } else if let Some(name) = word.strip_prefix("init:") {
            spec.init_containers.get_or_insert_default().push(container(name));
        } else if let Some(name) = word.strip_prefix("side:") {
            let sidecar = Container { restart_policy: Some("Always".into()), ..container(name) };
            spec.init_containers.get_or_insert_default().push(sidecar);
        } else if let Some(name) = word.strip_prefix("debug:") {
            let debug =
                EphemeralContainer { name: name.into(), image: Some("demo:1".into()), ..Default::default() };
            spec.ephemeral_containers.get_or_insert_default().push(debug);
        } else {
            spec.containers.push(container(word));
        }
    }
    Pod { metadata, spec: Some(spec), status: None }
}

/// `app+startup+ready`: a container with such probes.
fn container(text: &str) -> Container {
    let mut words = text.split('+');
    let name = words.next().unwrap().to_owned();
    let mut container = Container { name, image: Some("demo:1".into()), ..Container::default() };
    for probe in words {
        let it = Some(Probe::default());
        match probe {
            "startup" => container.startup_probe = it,
            "ready" => container.readiness_probe = it,
            "live" => container.liveness_probe = it,
            other => panic!("probe {other}"),
        }
    }
    container
}

#[derive(Default)]
pub(crate) struct World {
    pub seen: Observed,
    pub memory: Memory,
    pub probes: Verdicts,
}

pub(crate) fn world(text: &str) -> World {
    let mut it = World::default();
    let mut attempt = 0;
    for word in text.split_whitespace() {
        if let Some((what, count)) = sandbox_word(word) {
            attempt = count;
            sandbox(&mut it, what, count);
        } else if let Some((name, state)) = word.split_once('=') {
            let (name, sandbox) =
                name.split_once('@').map_or((name, attempt), |(name, at)| (name, at.parse().unwrap()));
            it.seen.containers.push(instance(name, sandbox, state));
        } else {
            fact(&mut it, word);
        }
    }
    it.seen.sort();
    it
}

fn sandbox_word(word: &str) -> Option<(&str, u32)> {
    let (what, count) = word.split_once('#').unwrap_or((word, "0"));
    matches!(what, "ready" | "dead" | "stopped").then(|| (what, count.parse().unwrap()))
}

fn sandbox(it: &mut World, what: &str, attempt: u32) {
    let id = format!("s{attempt}");
    if what == "stopped" {
        it.memory.stopped_sandboxes.insert(id.clone());
    }
    it.seen.sandboxes.push(SandboxSeen {
        id,
        ready: what == "ready",
        attempt,
        created_at: i64::from(attempt) + 1,
        ips: if what == "ready" { vec!["10.0.0.1".into()] } else { Vec::new() },
        ..SandboxSeen::default()
    });
}

fn instance(name: &str, sandbox: u32, text: &str) -> ContainerSeen {
    let (state, count) = text.split_once('#').unwrap();
    let restart_count: u32 = count.parse().unwrap();
    let (mut started_at, mut kind) = (Some(ago("60s")), State::Running);
    if state == "created" {
        (started_at, kind) = (None, State::Created);
    } else if state.starts_with("exit") {
        let args = args(state);
        let at = ago(args[1]);
        let ran = args.get(2).map_or(Duration::from_secs(1), |it| seconds(it));
        started_at = at.checked_sub(ran).ok();
        let code: i32 = args[0].parse().unwrap();
        let reason = if code == 0 { "Completed" } else { "Error" };
        kind = State::Exited(Exit { code, reason: reason.into(), at: Some(at), ..Exit::default() });
    }
    ContainerSeen {
        id: format!("{name}-{count}"),
        sandbox_id: format!("s{sandbox}"),
        name: name.into(),
        restart_count,
        state: kind,
        created_at: i64::from(sandbox) * 100 + i64::from(restart_count),
        started_at,
        image: "demo:1".into(),
        image_ref: "sha256:1".into(),
        ..ContainerSeen::default()
    }
}

fn fact(it: &mut World, word: &str) {
    let memory = &mut it.memory;
    match word {
        "mounted" => return memory.mounted = Attempt::Done,
        "cleaned" => return memory.cleaned = Attempt::Done,
        "deleted" => return memory.deleted = Attempt::Done,
        _ => {}
    }
    let (what, args) = (word.split('(').next().unwrap(), args(word));
    let name = args[0].to_owned();
    let subject = match args[0] {
        "sandbox" => Subject::Sandbox,
        "volumes" => Subject::Volumes,
        name => Subject::Container(name.to_owned()),
    };
    let failed_at = if what == "noimg" { args.get(2).map_or(now(), |it| ago(it)) } else { now() };
    let failure = |reason: &str, retry: &str| {
        Attempt::Failed(Failure {
            reason: reason.into(),
            message: "because".into(),
            tries: 1,
            at: failed_at,
            retry_at: pod::after(now(), seconds(retry)),
        })
    };
    let id = it.seen.latest(&name).map(|it| it.id.clone()).unwrap_or_default();
    match what {
        "img" => drop(memory.images.insert(name, Attempt::Done)),
        "noimg" => drop(memory.images.insert(name, failure("ErrImagePull", args[1]))),
        "launchfail" => drop(memory.launches.insert(name, failure("CreateContainerError", args[1]))),
        "busy" => drop(memory.busy.insert(subject, Busy::Working)),
        "pulling" => drop(memory.busy.insert(subject, Busy::Pulling)),
        "stopping" => drop(memory.busy.insert(subject, Busy::Stopping(pod::after(now(), seconds(args[1]))))),
        "base" => drop(memory.backoff_base.insert(name, args[1].parse().unwrap())),
        // probed(app): stopped for a failed probe, the first; probed(app,14s): the one before ended that long ago
        "probed" => {
            let before = args.get(1).map(|it| ago(it));
            memory.probed.insert(id, before);
        }
        "live-" => drop(it.probes.set(&id, Kind::Liveness, false)),
        "startup-" => drop(it.probes.set(&id, Kind::Startup, false)),
        "startup+" => drop(it.probes.set(&id, Kind::Startup, true)),
        "ready+" => drop(it.probes.set(&id, Kind::Readiness, true)),
        "ready-" => drop(it.probes.set(&id, Kind::Readiness, false)),
        other => panic!("fact {other}"),
    }
}
