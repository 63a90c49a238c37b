//! What is planned, case by case.

use std::time::Duration;

use super::dsl::{now, pod, world};
use crate::worker::action::{Plan, Stage};
use crate::worker::ending::ending_of;
use crate::worker::facts::Failed;
use crate::worker::facts::{Ending, Facts};
use crate::worker::plan::plan;

fn planned(spec: &str, seen: &str, gone: Option<Duration>, failed: Option<Failed>) -> Plan {
    let (pod, world) = (pod(spec), world(seen));
    let ending: Option<Ending> = ending_of(&pod, gone, failed.as_ref(), None, now());
    plan(&Facts {
        pod: &pod,
        seen: &world.seen,
        memory: &world.memory,
        probes: &world.probes,
        ending: ending.as_ref(),
        max_backoff: Duration::from_secs(300),
        now: now(),
    })
}

fn show(plan: &Plan) -> String {
    let mut words: Vec<String> = plan.actions.iter().map(ToString::to_string).collect();
    words.extend(plan.waiting.iter().map(|(name, it)| format!("{name}: {}", it.reason)));
    if let Some(at) = plan.wake_at {
        words.push(format!("wake {}s", crate::pod::since(at, now()).as_secs()));
    }
    match plan.stage {
        Stage::Living => {}
        Stage::Ending => words.push("[ending]".into()),
        Stage::Ended => words.push("[ended]".into()),
        Stage::Vanished => words.push("[vanished]".into()),
    }
    words.join(", ")
}

#[track_caller]
fn check(spec: &str, seen: &str, expected: &str) {
    assert_eq!(show(&planned(spec, seen, None, None)), expected, "{spec} | {seen}");
}

#[track_caller]
fn check_gone(spec: &str, seen: &str, expected: &str) {
    assert_eq!(show(&planned(spec, seen, Some(Duration::from_secs(1)), None)), expected, "{spec} | {seen}");
}

#[track_caller]
fn check_failed(spec: &str, seen: &str, expected: &str) {
    let failed = Some(Failed { reason: "Evicted".to_owned(), message: "memory".to_owned(), grace: None });
    assert_eq!(show(&planned(spec, seen, None, failed)), expected, "{spec} | {seen}");
}

#[test]
fn the_way_up() {
    check("always: app", "", "mount, pull app");
    check("always: app", "busy(volumes) pulling(app)", "");
    check("always: app", "mounted pulling(app)", "run-sandbox#0");
    check("always: app", "mounted img(app) busy(sandbox)", "");
    check("always: app log", "mounted img(app) img(log) ready", "launch app#0, launch log#0");
    check("always: app log", "mounted img(app) pulling(log) ready", "launch app#0");
    check("always: app", "img(app) ready", "mount");
    check("always: app", "mounted ready app=run#0", "");
    check("always: app log", "mounted ready app=run#0", "pull log");
}

#[test]
fn images() {
    check("always: app", "mounted ready noimg(app,8s)", "app: ErrImagePull, wake 3s");
    check("always: app", "mounted ready noimg(app,8s,3s)", "app: ImagePullBackOff, wake 8s");
    check("always: app", "mounted ready noimg(app,0s,9s)", "pull app, app: ImagePullBackOff");
    check("always: app", "mounted ready noimg(app,0s,9s) pulling(app)", "app: ImagePullBackOff");
    check("always: app", "mounted ready img(app) launchfail(app,5s)", "app: CreateContainerError, wake 5s");
    check(
        "always: app",
        "mounted ready img(app) launchfail(app,0s)",
        "launch app#0, app: CreateContainerError",
    );
}

#[test]
fn restarts() {
    let img = "mounted ready img(app) ";
    let seen = |it: &str| format!("{img}{it}");
    check("always: app", &seen("app=exit(1,1s)#0"), "launch app#1");
    check("always: app", &seen("app=exit(1,1s)#1"), "app: CrashLoopBackOff, wake 9s");
    check("always: app", &seen("app=exit(0,1s)#2"), "app: CrashLoopBackOff, wake 19s");
    check("always: app", &seen("app=exit(1,21s)#2"), "launch app#3");
    check("always: app", &seen("app=exit(1,1s)#30"), "app: CrashLoopBackOff, wake 299s");
    check("always: app", &seen("app=exit(1,1s,600s)#30"), "launch app#31");
    check("always: app", &seen("app=exit(1,1s)#31 base(app,30)"), "app: CrashLoopBackOff, wake 9s");
    check("on-failure: app log", &seen("log=run#0 app=exit(0,1s)#0"), "");
    check("on-failure: app", &seen("app=exit(3,1s)#0"), "launch app#1");
    check("never: app log", &seen("app=exit(3,1s)#0 log=run#0"), "");
    check("always: app", &seen("app=created#2"), "launch app#2 from app-2");
    check("always: app", "mounted ready app=exit(1,1s)#0", "pull app");
    assert_eq!(planned("always: app", &seen("app=exit(1,1s,600s)#9"), None, None).fresh_backoff["app"], 9);
}

#[test]
fn a_failed_probe_counts_from_the_end_of_the_instance_before() {
    let ended = |count: u32| format!("mounted ready img(app) app=exit(137,1s)#{count} probed(app,15s)");
    check("always: app", &ended(1), "launch app#2");
    check("always: app", &ended(2), "launch app#3");
    check("always: app", &ended(3), "app: CrashLoopBackOff, wake 19s");
    check("always: app", &ended(4), "app: CrashLoopBackOff, wake 39s");
    check("always: app", "mounted ready img(app) app=exit(137,1s)#0 probed(app)", "launch app#1");
}

#[test]
fn dead_containers_but_one_are_removed() {
    check("always: app", "mounted ready app=exit(1,99s)#0 app=exit(1,60s)#1 app=run#2", "remove app-0");
    check("always: app", "mounted ready app=exit(1,99s)#0 app=run#1", "");
    check("always: app", "mounted ready app=created#0 app=run#1", "remove app-0");
}

#[test]
fn probes() {
    check("always: app+live", "mounted ready app=run#0 live-(app)", "stop app 30s liveness");
    check("always: app+startup", "mounted ready app=run#0 startup-(app)", "stop app 30s startup");
    check("always: app+live", "mounted ready app=run#0 live-(app) stopping(app,30s)", "");
}

#[test]
fn init_containers_in_order() {
    let pod = "always: init:a init:b app";
    check(pod, "mounted ready", "pull a");
    check(pod, "mounted ready img(a)", "launch a#0");
    check(pod, "mounted ready a=run#0", "");
    check(pod, "mounted ready img(b) a=exit(0,1s)#0", "launch b#0");
    check(pod, "mounted ready img(app) a=exit(0,1s)#0 b=exit(0,1s)#0", "launch app#0");
    check(pod, "mounted ready img(a) a=exit(1,1s)#0", "launch a#1");
    check(pod, "mounted ready img(a) a=exit(1,1s)#1", "a: CrashLoopBackOff, wake 9s");
    check(pod, "mounted ready app=run#0", "");
    check("never: init:a app", "mounted ready a=exit(1,1s)#0", "stop-sandbox s0, [ending]");
    check("never: init:a app", "mounted stopped cleaned a=exit(1,1s)#0", "[ended]");
}

#[test]
fn sidecars() {
    let pod = "always: side:proxy init:a app";
    check(pod, "mounted ready", "pull proxy");
    check(pod, "mounted ready proxy=run#0", "pull a");
    check(pod, "mounted ready proxy=run#0 a=exit(0,1s)#0", "pull app");
    check(pod, "mounted ready img(proxy) proxy=exit(1,5s)#0 app=run#0", "launch proxy#1");
    let slow = "always: side:proxy+startup app";
    check(slow, "mounted ready proxy=run#0", "");
    check(slow, "mounted ready proxy=run#0 startup+(proxy)", "pull app");
    let job = "never: side:a side:b app";
    check(job, "mounted ready a=run#0 b=run#0 app=exit(0,1s)#0", "stop b 30s end, [ending]");
    check(job, "mounted ready a=run#0 b=exit(0,1s)#0 app=exit(0,1s)#0", "stop a 30s end, [ending]");
    check(job, "mounted ready a=exit(0,1s)#0 b=exit(0,1s)#0 app=exit(0,1s)#0", "stop-sandbox s0, [ending]");
}

#[test]
fn a_sandbox_that_died() {
    check("always: app", "mounted dead app=run#0", "stop app 30s sandbox");
    check("always: app", "mounted dead app=exit(137,1s)#0", "stop-sandbox s0, pull app");
    check("always: app", "mounted stopped img(app) app=exit(137,1s)#0", "run-sandbox#1");
    check("always: app", "mounted stopped#0 app@0=exit(137,1s)#0 ready#1 img(app)", "launch app#1");
    check("always: app", "mounted stopped#0 ready#1 app@1=run#1", "remove-sandbox s0");
    check("never: app", "mounted dead app=exit(137,1s)#0", "stop-sandbox s0, [ending]");
    check(
        "always: init:a app",
        "mounted stopped#0 a@0=exit(0,9s)#0 app@0=exit(1,9s)#0 ready#1 img(a)",
        "launch a#1",
    );
    check("always: host app", "mounted ready app=run#0", "stop app 30s sandbox");
}

#[test]
fn ephemeral_containers_run_once() {
    check("always: app debug:sh", "mounted ready app=run#0", "pull sh");
    check("always: app debug:sh", "mounted ready app=run#0 img(sh)", "launch sh#0");
    check("always: app debug:sh", "mounted ready app=run#0 sh=exit(0,1s)#0", "");
}

#[test]
fn deletion() {
    let pod = "always: app log del(30s)";
    check(pod, "mounted ready app=run#0 log=run#0", "stop app 30s end, stop log 30s end, [ending]");
    check(pod, "mounted ready app=run#0 stopping(app,30s)", "[ending]");
    check(pod, "mounted ready app=run#0 stopping(app,60s)", "stop app 30s end, [ending]");
    check(pod, "mounted ready pulling(app)", "cancel app, [ending]");
    check(pod, "mounted ready busy(app)", "[ending]");
    check(pod, "mounted busy(sandbox)", "[ending]");
    check(pod, "mounted ready app=exit(0,1s)#0", "stop-sandbox s0, [ending]");
    check(pod, "mounted stopped app=exit(0,1s)#0", "clean-up, [ending]");
    check(pod, "mounted stopped cleaned app=exit(0,1s)#0", "delete, [ended]");
    check(pod, "mounted stopped cleaned deleted app=exit(0,1s)#0", "remove app-0, [ended]");
    check(pod, "mounted stopped cleaned deleted", "remove-sandbox s0, [ended]");
    check(pod, "mounted cleaned deleted", "[vanished]");
    check(pod, "", "clean-up, [ending]");
    check("always: app del(0s)", "mounted ready app=run#0", "stop app 0s end, [ending]");
    check(
        "always: side:p app del(9s)",
        "mounted ready p=run#0 app=run#0",
        "stop app 9s end, wake 9s, [ending]",
    );
}

#[test]
fn no_source_has_it() {
    check_gone("always: app", "ready app=run#0", "stop app 1s end, [ending]");
    check_gone("always: ", "ready odd=run#0", "stop odd 1s end, [ending]");
    check_gone("always: ", "stopped cleaned odd=exit(0,1s)#0", "remove odd-0, [ended]");
    check_gone("always: ", "cleaned", "[vanished]");
}

#[test]
fn over_but_kept() {
    check_failed("always: app", "mounted ready app=run#0", "stop app 30s end, [ending]");
    check_failed("always: app", "mounted stopped cleaned app=exit(0,1s)#0", "[ended]");
    check("never: app", "mounted ready app=exit(0,1s)#0", "stop-sandbox s0, [ending]");
    check("never: app", "mounted stopped app=exit(0,1s)#0", "clean-up, [ending]");
    check("never: app", "mounted stopped cleaned app=exit(0,1s)#0", "[ended]");
}

/// Whatever the world is: carrying the plan out in thought, one step after the other, comes to an end.
#[test]
fn a_plan_is_never_repeated_while_it_is_carried_out() {
    for spec in ["always: app", "never: side:p init:a app", "always: app del(5s)"] {
        for seen in ["", "mounted ready app=run#0", "dead app=exit(1,1s)#0", "mounted stopped"] {
            let (pod, mut world) = (pod(spec), world(seen));
            let ending = ending_of(&pod, None, None, None, now());
            let facts = |world: &super::dsl::World| {
                plan(&Facts {
                    pod: &pod,
                    seen: &world.seen,
                    memory: &world.memory,
                    probes: &world.probes,
                    ending: ending.as_ref(),
                    max_backoff: Duration::from_secs(300),
                    now: now(),
                })
            };
            let first = facts(&world);
            for action in &first.actions {
                world.memory.busy.insert(action.subject(), crate::worker::facts::Busy::Working);
            }
            let second = facts(&world);
            for action in &second.actions {
                assert!(!first.actions.contains(action), "{spec} | {seen}: {action} twice");
            }
        }
    }
}

#[test]
fn a_deadline_never_moves_out() {
    let first = ending_of(&pod("always: app del(30s)"), None, None, None, now());
    let later = crate::pod::after(now(), Duration::from_secs(10));
    let same = ending_of(&pod("always: app del(30s)"), None, None, first.as_ref(), later);
    assert_eq!(first, same);
    let sooner = ending_of(&pod("always: app del(5s)"), None, None, first.as_ref(), later).unwrap();
    assert_eq!(sooner.grace_left(later), Duration::from_secs(5));
    let gone =
        ending_of(&pod("always: app"), Some(Duration::from_secs(90)), None, first.as_ref(), later).unwrap();
    assert_eq!(gone.grace_left(later), Duration::from_secs(20));
}
