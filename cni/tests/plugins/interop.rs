use crate::world::{Namespace, REFERENCE, World, address, footprint, with_result};
use serde_json::{Value, json};
use std::path::Path;

/// Plugins out of two folders: ours, but for the named ones, which are the reference's.
fn mixed(theirs: &[&str]) -> World {
    assert!(Path::new(REFERENCE).join("bridge").exists(), "install the package containernetworking-plugins");
    let mut world = World::new();
    let first = world.dir.path().join("mixed");
    std::fs::create_dir(&first).unwrap();
    for name in theirs {
        std::os::unix::fs::symlink(Path::new(REFERENCE).join(name), first.join(name)).unwrap();
    }
    world.path = format!("{}:{}", first.display(), world.path);
    world
}

fn conf(world: &World, version: &str) -> Value {
    world.bridge_conf(&json!({"cniVersion": version}))
}

#[test]
fn their_bridge_with_our_host_local_and_the_reverse() {
    for theirs in [["bridge"], ["host-local"]] {
        for version in ["0.3.1", "0.4.0", "1.0.0"] {
            let world = mixed(&theirs);
            let container = Namespace::new();
            let conf = conf(&world, version);
            let result = world.add("c", &container, &conf).unwrap();
            assert_eq!(
                (address(&result).as_str(), result["cniVersion"].as_str()),
                ("10.77.0.2", Some(version))
            );
            assert!(container.run("ip addr show eth0").contains("10.77.0.2/24"));
            let conf = with_result(&conf, &result);
            if version != "0.3.1" {
                world.act("CHECK", "c", &container.path(), &conf).unwrap();
            }
            world.del("c", &container.path(), &conf).unwrap();
            assert_eq!(footprint(&world, "net"), "", "{theirs:?} {version}");
        }
    }
}

#[test]
fn either_releases_what_the_other_leased() {
    let (ours, theirs) = (World::new(), mixed(&["host-local", "bridge"]));
    let mut conf = conf(&ours, "1.0.0");
    conf["type"] = "host-local".into();
    for (adds, dels) in [(&ours, &theirs), (&theirs, &ours)] {
        let result = adds.act("ADD", "c", "/x", &conf).unwrap();
        assert_eq!(ours.leases("net").len(), 1);
        let err = dels.act("ADD", "c", "/x", &conf).unwrap_err();
        assert!(err["msg"].as_str().unwrap().contains(&address(&result)), "{err}");
        dels.act("CHECK", "c", "/x", &with_result(&conf, &result)).unwrap();
        dels.act("DEL", "c", "/x", &conf).unwrap();
        assert_eq!(ours.leases("net").len(), 0);
    }
    let last = std::fs::read_to_string(ours.lease_dir().join("net/last_reserved_ip.0")).unwrap();
    assert_eq!(last, "10.77.0.3", "each goes on where the other was");
}

#[test]
fn results_are_what_the_reference_prints() {
    for version in ["0.2.0", "0.3.1", "0.4.0", "1.0.0"] {
        let results = [mixed(&["bridge", "host-local"]), World::new()].map(|world| {
            let container = Namespace::new();
            let mut result = world.add("c", &container, &conf(&world, version)).unwrap();
            for interface in result["interfaces"].as_array_mut().into_iter().flatten() {
                interface["mac"] = "".into();
                if interface["name"].as_str().unwrap().starts_with("veth") {
                    interface["name"] = "veth".into();
                }
                if interface["sandbox"].is_string() {
                    interface["sandbox"] = "inside".into();
                }
            }
            result
        });
        assert_eq!(results[0], results[1], "{version}");
    }
}

/// A chain as a runtime runs it: the result goes from plugin to plugin.
fn whole_chain(world: &World, theirs: &[&str], plugins: &[Value]) {
    let container = Namespace::new();
    let mut result = Value::Null;
    for plugin in plugins {
        let conf = if result.is_null() { plugin.clone() } else { with_result(plugin, &result) };
        let made = world.add("c", &container, &conf);
        result = made.unwrap_or_else(|err| panic!("ADD {}: {err}", plugin["type"]));
    }
    assert_eq!(address(&result), "10.77.0.2");
    // The reference's bridge looks for routes where sbr has taken them from, and its portmap for IPv6 where none is.
    let unfit =
        |plugin: &&Value| ["bridge", "portmap"].iter().any(|it| plugin["type"] == *it && theirs.contains(it));
    for plugin in plugins.iter().filter(|it| !unfit(it)) {
        let done = world.act("CHECK", "c", &container.path(), &with_result(plugin, &result));
        done.unwrap_or_else(|err| panic!("CHECK {}: {err}", plugin["type"]));
    }
    // The reference's sbr leaves no route to those who do not say where they send from.
    assert!(theirs.contains(&"sbr") || container.reaches("10.77.0.1"), "{theirs:?}");
    for again in [false, true] {
        // The reference's sbr does not bear to be called twice.
        for plugin in
            plugins.iter().rev().filter(|it| !(again && theirs.contains(&"sbr") && it["type"] == "sbr"))
        {
            let done = world.del("c", &container.path(), &with_result(plugin, &result));
            done.unwrap_or_else(|err| panic!("DEL {}: {err}", plugin["type"]));
        }
    }
    assert_eq!(footprint(world, "net"), "");
    assert!(!world.host.run("ip -br link").contains("bwp"));
    assert!(!world.host.run("iptables-save").contains("10.77.0.2"));
}

#[test]
fn any_of_them_in_one_chain() {
    let mixes: [&[&str]; 7] = [
        &["bridge", "host-local"],
        &["portmap", "bandwidth"],
        &["tuning", "firewall"],
        &["bridge", "tuning", "portmap"],
        &["host-local", "bandwidth", "firewall"],
        &["sbr"],
        &["bridge", "sbr", "firewall"],
    ];
    for version in ["0.4.0", "1.0.0"] {
        for theirs in mixes {
            let world = mixed(theirs);
            let base = |kind: &str| json!({"cniVersion": version, "name": "net", "type": kind});
            let with = |kind: &str, extra: Value| {
                let mut conf = base(kind);
                conf.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
                conf
            };
            let mappings =
                json!({"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]});
            let plugins = [
                world.bridge_conf(&json!({"cniVersion": version, "ipMasq": true, "hairpinMode": true})),
                with(
                    "tuning",
                    json!({"mtu": 1400, "sysctl": {"net.core.somaxconn": "500"},
                    "dataDir": world.dir.path().join("tuning")}),
                ),
                with(
                    "bandwidth",
                    json!({"ingressRate": 80_000_000, "ingressBurst": 8_000_000,
                    "egressRate": 80_000_000, "egressBurst": 8_000_000}),
                ),
                with("firewall", json!({"backend": "iptables"})),
                with("portmap", json!({"runtimeConfig": mappings})),
                base("sbr"),
            ];
            whole_chain(&world, theirs, &plugins);
        }
    }
}

/// What differs from run to run.
fn plain(mut result: Value) -> Value {
    let interfaces = result.get_mut("interfaces").and_then(Value::as_array_mut);
    for interface in interfaces.into_iter().flatten() {
        interface["mac"] = "".into();
        if interface["name"].as_str().unwrap().starts_with("veth") {
            interface["name"] = "veth".into();
        }
        if interface["sandbox"].is_string() {
            interface["sandbox"] = "inside".into();
        }
    }
    result
}

#[test]
fn other_plugins_print_what_the_reference_prints() {
    for version in ["0.2.0", "0.3.1", "0.4.0", "1.0.0"] {
        for kind in ["ptp", "macvlan", "host-device", "static", "loopback"] {
            if kind == "loopback" && version != "1.0.0" {
                continue; // the reference prints the form of a later version
            }
            let results = [mixed(&[kind, "host-local"]), World::new()].map(|world| {
                world.host.run("ip link add up0 type veth peer name up1 && ip link set up0 up && ip link set up1 up");
                let ipam = match kind {
                    "static" => json!({"type": "static", "addresses": [{"address": "10.77.0.9/24", "gateway": "10.77.0.1"}],
                        "routes": [{"dst": "0.0.0.0/0"}], "dns": {"nameservers": ["10.0.0.10"]}}),
                    _ => json!({"type": "host-local", "dataDir": world.lease_dir(), "subnet": "10.77.0.0/24",
                        "routes": [{"dst": "0.0.0.0/0"}]}),
                };
                let mut conf = world.conf(kind, &ipam, &json!({"cniVersion": version}));
                match kind {
                    "macvlan" => conf["master"] = "up0".into(),
                    "host-device" => conf["device"] = "up0".into(),
                    "loopback" => drop(conf.as_object_mut().unwrap().remove("ipam")),
                    _ => {}
                }
                let container = Namespace::new();
                let result = world.add("c", &container, &conf).unwrap();
                // The other one's result may be what DEL gets, after a change of plugins.
                world.del("c", &container.path(), &with_result(&conf, &result)).unwrap();
                plain(result)
            });
            assert_eq!(results[0], results[1], "{kind} {version}");
        }
    }
}
