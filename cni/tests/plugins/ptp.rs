use crate::world::{Namespace, World, address, footprint, with_result};
use serde_json::{Value, json};

fn conf(world: &World, extra: &Value) -> Value {
    world.conf(
        "ptp",
        &json!({"type": "host-local", "dataDir": world.lease_dir(),
        "ranges": [[{"subnet": "10.77.0.0/24"}], [{"subnet": "fd00:77::/64"}]],
        "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]}),
        extra,
    )
}

#[test]
fn containers_reach_each_other_through_the_host_only() {
    let world = World::new();
    let (one, two) = (Namespace::new(), Namespace::new());
    let conf = conf(&world, &json!({"mtu": 1400, "ipMasq": true}));
    let first = world.add("one", &one, &conf).unwrap();
    world.add("two", &two, &conf).unwrap();
    assert_eq!(address(&first), "10.77.0.2");
    assert_eq!(
        (&first["ips"][0]["interface"], &first["ips"][1]["gateway"]),
        (&json!(1), &json!("fd00:77::1"))
    );
    assert_eq!(first["interfaces"].as_array().unwrap().len(), 2);
    assert_eq!(one.json("ip -j link show eth0")[0]["mtu"], 1400);
    let outer = first["interfaces"][0]["name"].as_str().unwrap();
    assert!(world.host.run(&format!("ip addr show {outer}")).contains("10.77.0.1/32"));
    for target in ["10.77.0.3", "10.77.0.1", "fd00:77::3", "fd00:77::1"] {
        assert!(one.reaches(target), "{target}");
    }
    assert!(
        one.run("ip route get 10.77.0.3").contains("via 10.77.0.1"),
        "neighbours too are behind the host"
    );
    assert!(world.host.run("nft list set inet coracle_cni masq4").contains("10.77.0.2"));

    let with = with_result(&conf, &first);
    world.act("CHECK", "one", &one.path(), &with).unwrap();
    world.host.run("ip route del 10.77.0.2");
    let err = world.act("CHECK", "one", &one.path(), &with).unwrap_err();
    assert_eq!(
        (&err["code"], &err["msg"]),
        (&json!(101), &json!("the host has lost its route to 10.77.0.2"))
    );
    for _ in 0..2 {
        world.del("one", &one.path(), &conf).unwrap();
    }
    world.del("two", "", &conf).unwrap();
    assert_eq!(footprint(&world, "net"), "");
}

#[test]
fn masquerade_by_iptables() {
    let (world, outside, container) = (World::new(), Namespace::new(), Namespace::new());
    let conf = conf(&world, &json!({"ipMasq": true, "ipMasqBackend": "iptables"}));
    let result = world.add("c", &container, &conf).unwrap();
    world.host.run(&format!("ip link add up0 type veth peer name eth0 netns {}", outside.path()));
    world.host.run("ip addr add 192.0.2.1/24 dev up0 && ip link set up0 up");
    outside.run("ip addr add 192.0.2.2/24 dev eth0 && ip link set eth0 up");
    assert!(container.reaches("192.0.2.2")); // it has no way back but to the host's own address
    let with = with_result(&conf, &result);
    world.act("CHECK", "c", &container.path(), &with).unwrap();
    world.host.run("iptables -t nat -F POSTROUTING");
    assert_eq!(world.act("CHECK", "c", &container.path(), &with).unwrap_err()["code"], 101);
    world.del("c", &container.path(), &conf).unwrap();
    world.add("c", &container, &conf).unwrap();
    let mut gc = conf.clone();
    gc["cni.dev/valid-attachments"] = json!([]);
    world.act("GC", "", "", &gc).unwrap();
    let left = world.host.run("iptables-save -t nat; ip6tables-save -t nat");
    assert!(!left.contains("MASQUERADE"), "{left}");
}

#[test]
fn refusals() {
    let world = World::new();
    let container = Namespace::new();
    let check = |extra: Value, code: u32, msg: &str| {
        let err = world.add("c", &container, &conf(&world, &extra)).unwrap_err();
        assert!(err["code"] == code && err["msg"].as_str().unwrap().contains(msg), "{err}");
        assert_eq!(footprint(&world, "net"), "");
    };
    check(json!({"ipam": {}}), 7, "ptp needs ipam");
    check(json!({"ipMasqBackend": "x"}), 7, "ipMasqBackend \"x\" is unknown");
    check(json!({"mtu": 70000}), 7, "mtu is larger");
    // Somebody else has the address: nothing of ours stays.
    world
        .host
        .run("ip link add x0 type veth peer name x1 && ip link set x0 up && ip route add 10.77.0.2 dev x0");
    let err = world.add("c", &container, &conf(&world, &json!({}))).unwrap_err();
    assert!(
        err["msg"].as_str().unwrap().contains("10.77.0.2 is reached through another link already"),
        "{err}"
    );
    world.host.run("ip link del x0");
    assert_eq!(footprint(&world, "net"), "");
    assert!(!container.run("ip -br link").contains("eth0"));
}
