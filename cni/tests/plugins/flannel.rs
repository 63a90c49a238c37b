use crate::world::{Namespace, World, address, footprint, with_result};
use serde_json::{Value, json};

const SUBNET: &str =
    "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.3.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=false\n";

fn conf(world: &World, extra: Value) -> Value {
    let dir = world.dir.path();
    let mut conf = json!({"cniVersion": "1.1.0", "name": "net", "type": "flannel",
        "subnetFile": dir.join("subnet.env"), "dataDir": dir.join("flannel"),
        "ipam": {"dataDir": world.lease_dir()}});
    for (key, value) in extra.as_object().unwrap() {
        conf[key] = value.clone();
    }
    conf
}

#[test]
fn a_bridge_by_what_the_overlay_found_out() {
    let (world, container) = (World::new(), Namespace::new());
    let conf = conf(
        &world,
        json!({"delegate": {"bridge": "br0", "hairpinMode": true},
        "runtimeConfig": {"mac": "02:11:22:33:44:88"}}),
    );
    let err = world.add("c", &container, &conf).unwrap_err();
    assert!(err["code"] == 11 && err["msg"].as_str().unwrap().contains("subnet.env yet"), "{err}");
    assert_eq!(world.act("STATUS", "", "", &conf).unwrap_err()["code"], 50);
    std::fs::write(world.dir.path().join("subnet.env"), SUBNET).unwrap();
    world.act("STATUS", "", "", &conf).unwrap();
    let result = world.add("c", &container, &conf).unwrap();
    assert_eq!(address(&result), "10.244.3.2");
    let link = container.json("ip -j link show eth0")[0].clone();
    assert_eq!((&link["mtu"], &link["address"]), (&json!(1450), &json!("02:11:22:33:44:88")));
    assert!(container.run("ip route").contains("10.244.0.0/16 via 10.244.3.1 dev eth0"));
    assert!(world.host.run("ip addr show br0").contains("10.244.3.1/24"));
    assert!(
        world.host.run("nft list set inet coracle_cni masq4").contains("10.244.3.2"),
        "FLANNEL_IPMASQ=false: here"
    );
    let with = with_result(&conf, &result);
    world.act("CHECK", "c", &container.path(), &with).unwrap();
    // The overlay has another network by now; DEL knows what was told.
    std::fs::write(world.dir.path().join("subnet.env"), SUBNET.replace("10.244", "10.99")).unwrap();
    for _ in 0..2 {
        world.del("c", &container.path(), &with).unwrap();
    }
    assert_eq!(footprint(&world, "net"), "");
    assert_eq!(std::fs::read_dir(world.dir.path().join("flannel")).unwrap().count(), 0);
    assert_eq!(world.act("CHECK", "c", &container.path(), &with).unwrap_err()["code"], 101);
}

#[test]
fn both_families_another_plugin_and_garbage() {
    let world = World::new();
    let (one, two) = (Namespace::new(), Namespace::new());
    let dual = SUBNET.replace("false", "true")
        + "FLANNEL_IPV6_NETWORK=fd00:44::/48\nFLANNEL_IPV6_SUBNET=fd00:44:0:3::1/64\n";
    std::fs::write(world.dir.path().join("subnet.env"), dual).unwrap();
    let conf = conf(
        &world,
        json!({"delegate": {"type": "ptp", "mtu": 1300},
        "ipam": {"dataDir": world.lease_dir(), "routes": [{"dst": "0.0.0.0/0"}]}}),
    );
    let result = world.add("one", &one, &conf).unwrap();
    assert_eq!(result["ips"][1]["address"], "fd00:44:0:3::2/64");
    assert_eq!(one.json("ip -j link show eth0")[0]["mtu"], 1300);
    assert!(one.run("ip route show default").contains("via 10.244.3.1"));
    assert!(one.run("ip -6 route").contains("fd00:44::/48 via fd00:44:0:3::1"));
    assert!(
        !world.host.run("nft list ruleset").contains("10.244.3.2"),
        "FLANNEL_IPMASQ=true: the overlay does it"
    );
    world.add("two", &two, &conf).unwrap();
    let mut gc = conf.clone();
    gc["cni.dev/valid-attachments"] = json!([{"containerID": "two", "ifname": "eth0"}]);
    world.act("GC", "", "", &gc).unwrap();
    assert_eq!(world.leases("net"), ["10.244.3.3", "fd00:44:0:3::3"]);
    assert_eq!(std::fs::read_dir(world.dir.path().join("flannel")).unwrap().count(), 1);
}

#[test]
fn refusals() {
    let (world, container) = (World::new(), Namespace::new());
    std::fs::write(world.dir.path().join("subnet.env"), SUBNET).unwrap();
    let check = |extra: Value, msg: &str| {
        let err = world.add("c", &container, &conf(&world, extra)).unwrap_err();
        assert!(format!("{err}").contains(msg), "{err}");
        assert_eq!(footprint(&world, "net"), "");
        assert!(std::fs::read_dir(world.dir.path().join("flannel")).map_or(0, Iterator::count) == 0);
    };
    check(json!({"delegate": {"name": "x"}}), "delegate must not have a name");
    check(json!({"delegate": {"ipam": {}}}), "delegate must not have ipam");
    check(json!({"delegate": {"type": 5}}), "delegate.type is not a text");
    check(json!({"delegate": {"type": "flannel"}}), "is flannel itself");
    check(json!({"delegate": {"type": "nope"}}), "plugin nope is not installed");
    check(json!({"delegate": {"hairpinMode": true, "promiscMode": true}}), "exclude each other");
    std::fs::write(world.dir.path().join("subnet.env"), "FLANNEL_SUBNET=x\n").unwrap();
    check(json!({}), "\\\"x\\\" is not an address");
}
