//! kill -9 at any moment: what is left can be taken away, and stands in nobody's way.

use crate::world::{Namespace, World, footprint, with_result};
use serde_json::{Value, json};
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Starts a plugin and kills it after a time; false when it had ended by then.
fn killed_after(world: &World, command: &str, netns: &str, conf: &Value, after: Duration) -> bool {
    let mut process = Command::new(format!("{}/{}", world.path, conf["type"].as_str().unwrap()));
    process
        .env("CNI_COMMAND", command)
        .env("CNI_CONTAINERID", "c")
        .env("CNI_NETNS", netns)
        .env("CNI_IFNAME", "eth0")
        .env("CNI_PATH", &world.path)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut child = world.host.enter(|| process.spawn().unwrap());
    child.stdin.take().unwrap().write_all(conf.to_string().as_bytes()).unwrap();
    let started = Instant::now();
    while started.elapsed() < after {
        std::hint::spin_loop(); // finer than the system's timers
    }
    child.kill().unwrap();
    child.wait().unwrap().code().is_none()
}

/// Close together at first, where most happens, and not too many on a slow machine.
fn later(after: Duration) -> Duration {
    after + after / 8 + Duration::from_micros(300)
}

/// Kills `command` ever later until it ends by itself; `then` looks at what each time left.
fn at_any_moment(world: &World, command: &str, netns: &str, conf: &Value, then: impl Fn()) {
    let (mut after, mut killed) = (Duration::ZERO, 0);
    loop {
        let was_killed = killed_after(world, command, netns, conf, after);
        then();
        if !was_killed {
            break;
        }
        killed += 1;
        after = later(after);
    }
    assert!(killed > 3, "the plugin was killed {killed} times only");
}

#[test]
fn an_add_that_was_killed_is_taken_away_by_del() {
    let world = World::new();
    let container = Namespace::new();
    let conf = world.bridge_conf(&json!({"ipMasq": true, "macspoofchk": true}));
    at_any_moment(&world, "ADD", &container.path(), &conf, || {
        world.del("c", &container.path(), &conf).unwrap();
        assert_eq!(footprint(&world, "net"), "");
        assert!(!container.run("ip -br link").contains("eth0"));
    });
    world.add("c", &container, &conf).unwrap();
}

#[test]
fn an_add_that_was_killed_is_found_by_gc_and_by_the_next_add() {
    let world = World::new();
    let conf = world.bridge_conf(&json!({"ipMasq": true}));
    let mut gc = conf.clone();
    gc["cni.dev/valid-attachments"] = json!([]);
    let container = Namespace::new();
    at_any_moment(&world, "ADD", &container.path(), &conf, || {
        // Its namespace goes with the container, and with it the link.
        container.run("ip link del eth0 2>/dev/null; true");
        world.host.run("for it in $(ip -br link show type veth | cut -d@ -f1); do ip link del $it; done");
        for lease in world.leases("net") {
            let text = std::fs::read_to_string(world.lease_dir().join("net").join(&lease)).unwrap();
            assert_eq!(text, "c\r\neth0", "a lease is whole or not there");
        }
        world.act("GC", "", "", &gc).unwrap();
        assert_eq!(footprint(&world, "net"), "");
    });
    world.del("c", &container.path(), &conf).unwrap();
    let result = world.add("c", &container, &conf).unwrap();
    world.act("CHECK", "c", &container.path(), &with_result(&conf, &result)).unwrap();
}

#[test]
fn a_del_that_was_killed_is_finished_by_the_next() {
    let world = World::new();
    let container = Namespace::new();
    let conf = world.bridge_conf(&json!({"ipMasq": true}));
    let (mut after, mut ended) = (Duration::ZERO, false);
    while !ended {
        world.add("c", &container, &conf).unwrap();
        ended = !killed_after(&world, "DEL", &container.path(), &conf, after);
        world.del("c", &container.path(), &conf).unwrap();
        assert_eq!(footprint(&world, "net"), "");
        after = later(after);
    }
}
