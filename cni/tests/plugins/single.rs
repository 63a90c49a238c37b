//! Plugins whose link is only in the container: macvlan, vlan, ipvlan, dummy, host-device.

use crate::world::{Namespace, World, address, with_result};
use serde_json::{Value, json};

fn ipam(world: &World) -> Value {
    json!({"type": "host-local", "dataDir": world.lease_dir(), "subnet": "10.77.0.0/24"})
}

/// A device that other hosts are behind.
fn uplink(world: &World) -> Namespace {
    let outside = Namespace::new();
    world.host.run(&format!("ip link add up0 type veth peer name eth0 netns {}", outside.path()));
    world.host.run("ip link set up0 up");
    outside.run("ip addr add 10.77.0.1/24 dev eth0 && ip link set eth0 up");
    outside
}

/// Some kernels lack a type of link: then the plugin has to say so, and the test that it could not go on.
fn kernel_has(kind: &str) -> bool {
    let probe = Namespace::new();
    probe.run("ip link add p0 type veth peer name p1");
    let more = if kind == "vlan" { "id 5" } else { "" };
    probe.try_run(&format!("ip link add link p0 name x0 type {kind} {more}")).0
        || probe.try_run(&format!("ip link add x1 type {kind}")).0
}

/// ADD on a kernel without the type: a code and a sentence, and nothing is left.
fn refused_by_the_kernel(kind: &str, world: &World, conf: &Value) {
    let container = Namespace::new();
    let err = world.add("c", &container, conf).unwrap_err();
    let wanted = format!("this kernel has no links of type {kind}");
    assert_eq!((&err["code"], err["msg"].as_str()), (&json!(100), Some(wanted.as_str())));
    assert_eq!(world.leases("net").len(), 0);
    world.del("c", &container.path(), conf).unwrap();
    crate::world::not_run(kind, &wanted);
}

/// ADD, traffic, CHECK, DEL twice.
fn whole_life(world: &World, outside: &Namespace, conf: &Value, kind: &str) {
    let container = Namespace::new();
    let result = world.add("c", &container, conf).unwrap();
    assert_eq!(address(&result), "10.77.0.2");
    assert_eq!(result["interfaces"][0]["sandbox"], container.path());
    assert_eq!(result["ips"][0]["interface"], 0);
    assert!(container.run("ip -d link show eth0").contains(kind));
    assert!(outside.reaches("10.77.0.2"));
    let with = with_result(conf, &result);
    world.act("CHECK", "c", &container.path(), &with).unwrap();
    container.run("ip addr flush dev eth0");
    assert_eq!(world.act("CHECK", "c", &container.path(), &with).unwrap_err()["code"], 101);
    for _ in 0..2 {
        world.del("c", &container.path(), conf).unwrap();
    }
    assert!(!container.run("ip -br link").contains("eth0"));
    assert_eq!(world.leases("net").len(), 0);
    world.del("c", "/gone", conf).unwrap();
}

#[test]
fn macvlan_with_each_option() {
    let world = World::new();
    let outside = uplink(&world);
    let conf = |extra: Value| world.conf("macvlan", &ipam(&world), &extra);
    whole_life(&world, &outside, &conf(json!({"master": "up0", "mtu": 1400})), "macvlan");
    for mode in ["private", "vepa", "passthru", "bridge"] {
        let container = Namespace::new();
        let conf = conf(json!({"master": "up0", "mode": mode, "mtu": 1300, "bcqueuelen": 2000,
            "runtimeConfig": {"mac": "02:11:22:33:44:66"}}));
        let result = world.add("c", &container, &conf).unwrap();
        let link = container.run("ip -d link show eth0");
        assert!(link.contains(&format!("macvlan mode {mode}")) && link.contains("mtu 1300"), "{link}");
        assert!(link.contains("02:11:22:33:44:66") && link.contains("bcqueuelen 2000"), "{link}");
        assert_eq!(result["interfaces"][0]["mac"], "02:11:22:33:44:66");
        world.del("c", &container.path(), &conf).unwrap();
    }
    // Without a master it is the device of the default route; without ipam it is only switched on.
    world.host.run("ip addr add 10.77.0.254/24 dev up0 && ip route add default via 10.77.0.1");
    let container = Namespace::new();
    let plain = json!({"cniVersion": "1.1.0", "name": "net", "type": "macvlan"});
    let result = world.add("c", &container, &plain).unwrap();
    assert!(result["ips"].is_null());
    assert!(container.run("ip -br link show eth0").contains("UP"));
    // The link below is in the container itself.
    let inner = json!({"cniVersion": "1.1.0", "name": "net", "type": "macvlan", "master": "lower", "linkInContainer": true});
    let container = Namespace::new();
    container.run("ip link add lower type veth peer name other && ip link set lower up");
    world.add("c", &container, &inner).unwrap();
    assert!(container.run("ip -d link show eth0").contains("eth0@lower"));
    world.act("STATUS", "", "", &inner).unwrap();
}

#[test]
fn macvlan_refuses() {
    let world = World::new();
    let container = Namespace::new();
    let _outside = uplink(&world);
    let check = |extra: Value, code: u32, msg: &str| {
        let err = world.add("c", &container, &world.conf("macvlan", &ipam(&world), &extra)).unwrap_err();
        assert!(err["code"] == code && err["msg"].as_str().unwrap().contains(msg), "{err}");
        assert_eq!(world.leases("net").len(), 0);
        assert!(!container.run("ip -br link").contains("eth0"));
    };
    check(json!({"master": "nope"}), 7, "no device nope (master)");
    check(json!({}), 7, "there is no default route");
    check(json!({"master": "up0", "mode": "x"}), 7, "mode \"x\" is unknown");
    check(json!({"master": "up0", "mtu": 9000}), 7, "mtu 9000 is more than the 1500 of up0");
    check(
        json!({"master": "up0", "ipam": {"type": "host-local", "dataDir": world.lease_dir()}}),
        7,
        "no range",
    );
    let bad = world.conf("macvlan", &ipam(&world), &json!({"master": "nope"}));
    assert_eq!(world.act("STATUS", "", "", &bad).unwrap_err()["code"], 50);
}

#[test]
fn vlan() {
    let world = World::new();
    let outside = uplink(&world);
    let conf = |extra: Value| world.conf("vlan", &ipam(&world), &extra);
    let check = |extra: Value, msg: &str| {
        let err = world.add("c", &Namespace::new(), &conf(extra)).unwrap_err();
        assert!(err["code"] == 7 && err["msg"].as_str().unwrap().contains(msg), "{err}");
    };
    check(json!({"vlanId": 5}), "vlan needs master");
    check(json!({"master": "up0"}), "vlan needs vlanId");
    check(json!({"master": "up0", "vlanId": 4095}), "vlanId 4095 is not from 0 to 4094");
    check(json!({"master": "up0", "vlanId": 5, "mtu": 9000}), "more than the 1500");
    let conf = conf(json!({"master": "up0", "vlanId": 5, "mtu": 1400}));
    if !kernel_has("vlan") {
        return refused_by_the_kernel("vlan", &world, &conf);
    }
    outside.run("ip addr flush dev eth0 && ip link add link eth0 name v5 type vlan id 5");
    outside.run("ip addr add 10.77.0.1/24 dev v5 && ip link set v5 up");
    whole_life(&world, &outside, &conf, "vlan protocol 802.1Q id 5");
}

#[test]
fn ipvlan() {
    let world = World::new();
    let outside = uplink(&world);
    let conf = |extra: Value| world.conf("ipvlan", &ipam(&world), &extra);
    let err = world.add("c", &Namespace::new(), &conf(json!({"master": "up0", "mode": "l9"}))).unwrap_err();
    assert!(err["msg"].as_str().unwrap().contains("mode \"l9\" is unknown"), "{err}");
    // In a chain the link below is the one before's.
    let mut chained = conf(json!({}));
    chained["prevResult"] = json!({"cniVersion": "1.1.0", "interfaces": [{"name": "a"}, {"name": "b"}]});
    let err = world.add("c", &Namespace::new(), &chained).unwrap_err();
    assert!(err["msg"].as_str().unwrap().contains("not name exactly one interface"), "{err}");
    chained["prevResult"]["interfaces"] = json!([{"name": "gone0"}]);
    let err = world.add("c", &Namespace::new(), &chained).unwrap_err();
    assert!(err["msg"].as_str().unwrap().contains("no device gone0"), "{err}");
    if !kernel_has("ipvlan") {
        return refused_by_the_kernel("ipvlan", &world, &conf(json!({"master": "up0"})));
    }
    whole_life(&world, &outside, &conf(json!({"master": "up0", "mtu": 1400})), "ipvlan");
    for mode in ["l2", "l3", "l3s"] {
        let container = Namespace::new();
        let conf = conf(json!({"master": "up0", "mode": mode, "mtu": 1300}));
        let result = world.add("c", &container, &conf).unwrap();
        let link = container.run("ip -d link show eth0");
        assert!(link.contains(&format!("ipvlan  mode {mode} ")) && link.contains("mtu 1300"), "{link}");
        world.act("CHECK", "c", &container.path(), &with_result(&conf, &result)).unwrap();
        world.del("c", &container.path(), &conf).unwrap();
    }
}

#[test]
fn dummy() {
    let world = World::new();
    let conf = world.conf("dummy", &ipam(&world), &json!({}));
    let err = world.add("c", &Namespace::new(), &world.conf("dummy", &json!({}), &json!({}))).unwrap_err();
    assert_eq!(err["msg"], "dummy needs ipam, which gives it addresses");
    if !kernel_has("dummy") {
        return refused_by_the_kernel("dummy", &world, &conf);
    }
    let container = Namespace::new();
    container.run("ip link set lo up"); // the way to addresses of one's own
    let result = world.add("c", &container, &conf).unwrap();
    assert!(container.reaches("10.77.0.2"));
    world.act("CHECK", "c", &container.path(), &with_result(&conf, &result)).unwrap();
    world.del("c", &container.path(), &conf).unwrap();
    assert_eq!(world.leases("net").len(), 0);
}

#[test]
fn a_device_of_the_host_goes_and_comes_back() {
    let world = World::new();
    let outside = uplink(&world);
    let mac = world.host.json("ip -j link show up0")[0]["address"].as_str().unwrap().to_owned();
    for by in [json!({"device": "up0"}), json!({"hwaddr": mac})] {
        let conf = world.conf("host-device", &ipam(&world), &by);
        whole_life_of_device(&world, &outside, &conf);
    }
    // Without addresses, for somebody else to give them.
    let container = Namespace::new();
    let plain = json!({"cniVersion": "1.1.0", "name": "net", "type": "host-device", "device": "up0"});
    world.add("c", &container, &plain).unwrap();
    world.del("c", &container.path(), &plain).unwrap();
    assert!(world.host.run("ip -br link").contains("up0"));
    let check = |extra: Value, msg: &str| {
        let err = world.add("c", &container, &world.conf("host-device", &ipam(&world), &extra)).unwrap_err();
        assert!(err["code"] == 7 && err["msg"].as_str().unwrap().contains(msg), "{err}");
        assert!(world.host.run("ip -br link").contains("up0"));
    };
    check(json!({}), "needs device, hwaddr, kernelpath or pciBusID");
    check(json!({"device": "nope"}), "the host has no device named nope");
    check(json!({"hwaddr": "02:00:00:00:00:99"}), "no device with the hardware address 02:00:00:00:00:99");
    check(json!({"hwaddr": "zz"}), "is not a hardware address");
    check(json!({"kernelpath": "/etc"}), "not below /sys/devices");
    check(json!({"pciBusID": "../.."}), "is not one such as");
    check(
        json!({"runtimeConfig": {"deviceID": "0000:ff:1f.7"}}),
        "no device at /sys/bus/pci/devices/0000:ff:1f.7",
    );
    // No address is left: the device is where it was.
    let full = json!({"type": "host-local", "dataDir": world.lease_dir(), "subnet": "10.77.0.0/24",
        "rangeStart": "10.77.0.1", "rangeEnd": "10.77.0.1"});
    let err =
        world.add("c", &container, &world.conf("host-device", &full, &json!({"device": "up0"}))).unwrap_err();
    assert_eq!(err["code"], 102, "{err}");
    assert!(world.host.run("ip -br link").contains("up0"));
}

fn whole_life_of_device(world: &World, outside: &Namespace, conf: &Value) {
    let container = Namespace::new();
    let result = world.add("c", &container, conf).unwrap();
    assert!(!world.host.run("ip -br link").contains("up0"));
    assert!(outside.reaches(&address(&result)));
    world.act("CHECK", "c", &container.path(), &with_result(conf, &result)).unwrap();
    for _ in 0..2 {
        world.del("c", &container.path(), conf).unwrap();
    }
    assert!(world.host.run("ip -br link").contains("up0"));
    assert!(!world.host.run("ip addr show up0").contains(&address(&result)));
    world.host.run("ip link set up0 up");
}
