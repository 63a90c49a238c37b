//! Statuses by tables, in the words of the worker's tests.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, PodStatus};

use super::{Facts, difference, status_of};
use crate::worker::ending_of;
use crate::worker::facts;
use crate::worker::plan::plan;
use crate::worker::tests::dsl::{now, pod, world};

fn status(spec: &str, seen: &str, before: &PodStatus, at: Timestamp) -> PodStatus {
    let (mut pod, world) = (pod(spec), world(seen));
    pod.status = Some(before.clone());
    let ending = ending_of(&pod, None, None, None, at);
    let plan = plan(&facts::Facts {
        pod: &pod,
        seen: &world.seen,
        memory: &world.memory,
        probes: &world.probes,
        ending: ending.as_ref(),
        max_backoff: Duration::from_secs(300),
        now: at,
    });
    status_of(&Facts {
        pod: &pod,
        seen: &world.seen,
        probes: &world.probes,
        plan: &plan,
        ending: ending.as_ref(),
        before,
        node_ips: &["192.0.2.1".to_owned()],
        runtime: "containerd",
        given: &world.memory.given,
        resizing: None,
        pending: None,
        now: at,
    })
}

fn state(it: &Option<ContainerState>) -> String {
    let Some(it) = it else { return String::new() };
    if it.running.is_some() {
        "running".into()
    } else if let Some(waiting) = &it.waiting {
        waiting.reason.clone().unwrap_or_default()
    } else if let Some(over) = &it.terminated {
        format!("{}({})", over.reason.clone().unwrap_or_default(), over.exit_code)
    } else {
        String::new()
    }
}

fn container(it: &ContainerStatus) -> String {
    let last = state(&it.last_state);
    let last = if last.is_empty() { last } else { format!("<{last}") };
    let ready = if it.ready { "+" } else { "" };
    format!("{}{ready}={}{last}#{}", it.name, state(&it.state), it.restart_count)
}

/// `Phase conditions containers`: conditions that hold by their initials (S, I, R, C, P).
fn show(it: &PodStatus) -> String {
    let conditions: String = it
        .conditions
        .iter()
        .flatten()
        .filter(|it| it.status == "True")
        .map(|it| match it.type_.as_str() {
            "PodReadyToStartContainers" => 'S',
            "Initialized" => 'I',
            "Ready" => 'R',
            "ContainersReady" => 'C',
            "PodScheduled" => 'P',
            _ => '?',
        })
        .collect();
    let lists = [&it.init_container_statuses, &it.container_statuses];
    let containers: Vec<String> = lists.into_iter().flatten().flatten().map(container).collect();
    format!("{} {conditions} {}", it.phase.clone().unwrap_or_default(), containers.join(" "))
}

#[track_caller]
fn check(spec: &str, seen: &str, expected: &str) {
    assert_eq!(show(&status(spec, seen, &PodStatus::default(), now())), expected, "{spec} | {seen}");
}

#[test]
fn on_the_way_up() {
    check("always: app", "", "Pending IP app=ContainerCreating#0");
    check("always: app", "mounted ready", "Pending SIP app=ContainerCreating#0");
    check("always: app", "mounted ready app=run#0", "Running SIRCP app+=running#0");
    check("always: app+ready", "mounted ready app=run#0", "Running SIP app=running#0");
    check("always: app+ready", "mounted ready app=run#0 ready+(app)", "Running SIRCP app+=running#0");
    check("always: app log", "mounted ready app=run#0", "Pending SIP app+=running#0 log=ContainerCreating#0");
    check("always: app", "mounted ready noimg(app,5s)", "Pending SIP app=ErrImagePull#0");
}

#[test]
fn init_containers() {
    check("always: init:a app", "mounted ready", "Pending SP a=PodInitializing#0 app=PodInitializing#0");
    check("always: init:a app", "mounted ready a=run#0", "Pending SP a=running#0 app=PodInitializing#0");
    check(
        "always: init:a app",
        "mounted ready a=exit(0,1s)#0",
        "Pending SIP a+=Completed(0)#0 app=ContainerCreating#0",
    );
    check(
        "never: init:a app",
        "stopped cleaned a=exit(1,1s)#0",
        "Failed P a=Error(1)#0 app=PodInitializing#0",
    );
    check(
        "always: side:p app",
        "mounted ready p=run#0 app=run#0",
        "Running SIRCP p+=running#0 app+=running#0",
    );
}

#[test]
fn restarts() {
    check("always: app", "mounted ready app=exit(1,1s)#0", "Running SIP app=Error(1)#0");
    check("always: app", "mounted ready app=exit(1,1s)#1", "Running SIP app=CrashLoopBackOff<Error(1)#1");
    check("always: app", "mounted ready app=exit(1,9s)#0 app=run#1", "Running SIRCP app+=running<Error(1)#1");
    check(
        "on-failure: app log",
        "mounted ready app=exit(0,9s)#0 log=run#0",
        "Running SIP app=Completed(0)#0 log+=running#0",
    );
}

#[test]
fn the_end() {
    check("never: app", "ready app=exit(0,1s)#0", "Running SIP app=Completed(0)#0");
    check("never: app", "stopped cleaned app=exit(0,1s)#0", "Succeeded IP app=Completed(0)#0");
    check("never: app", "stopped cleaned app=exit(1,1s)#0", "Failed IP app=Error(1)#0");
    check("always: app del(9s)", "ready app=run#0", "Running SIRCP app+=running#0");
    check("always: app del(9s)", "stopped cleaned app=exit(0,1s)#0", "Succeeded IP app=Completed(0)#0");
    check("always: app del(9s)", "stopped cleaned app=exit(143,1s)#0", "Failed IP app=Error(143)#0");
    check(
        "never: side:p app",
        "ready p=run#0 app=exit(0,1s)#0",
        "Running SIP p+=running#0 app=Completed(0)#0",
    );
}

#[test]
fn the_same_world_is_the_same_status() {
    let later = crate::pod::after(now(), Duration::from_secs(3));
    for seen in ["", "mounted ready app=run#0", "mounted ready app=exit(1,1s)#4"] {
        let first = status("always: app", seen, &PodStatus::default(), now());
        let second = status("always: app", seen, &first, later);
        assert_eq!(difference(&first, &second), None, "{seen}");
    }
}

#[test]
fn a_terminal_phase_is_never_left() {
    let before =
        PodStatus { phase: Some("Failed".into()), reason: Some("Evicted".into()), ..PodStatus::default() };
    let after = status("always: app", "stopped cleaned app=exit(0,1s)#0", &before, now());
    assert_eq!((after.phase.as_deref(), after.reason.as_deref()), (Some("Failed"), Some("Evicted")));
}

#[test]
fn what_the_runtime_forgot_the_api_still_knows() {
    let before = status("never: app", "stopped cleaned app=exit(3,1s)#0", &PodStatus::default(), now());
    let after = status("never: app", "cleaned", &before, now());
    assert_eq!(show(&after), "Failed IP app=Error(3)#0");
    let before = status("always: app", "mounted ready app=run#2", &PodStatus::default(), now());
    let after = status("always: app", "mounted", &before, now());
    assert_eq!(show(&after), "Running IP app=ContainerCreating<ContainerStatusUnknown(137)#2");
}

#[test]
fn times_of_transition_are_kept() {
    let before = status("always: app", "mounted ready app=run#0", &PodStatus::default(), now());
    let later = crate::pod::after(now(), Duration::from_secs(60));
    let after = status("always: app", "mounted ready app=exit(1,1s)#0", &before, later);
    let at = |status: &PodStatus, kind: &str| {
        status
            .conditions
            .iter()
            .flatten()
            .find(|it| it.type_ == kind)
            .unwrap()
            .last_transition_time
            .clone()
            .unwrap()
            .0
    };
    assert_eq!(at(&after, "PodScheduled"), now());
    assert_eq!(at(&after, "Ready"), later);
    assert_eq!(after.host_ip.as_deref(), Some("192.0.2.1"));
    assert_eq!(before.pod_ip.as_deref(), Some("10.0.0.1"));
}
