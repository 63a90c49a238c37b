use crate::world::{Namespace, World, with_result};
use serde_json::{Value, json};

fn conf(world: &World, before: &Value, extra: Value) -> Value {
    let dir = world.dir.path().join("tuning");
    let mut conf = json!({"cniVersion": "1.1.0", "name": "net", "type": "tuning", "dataDir": dir});
    for (key, value) in extra.as_object().unwrap() {
        conf[key] = value.clone();
    }
    if conf.get("prevResult").is_some() { conf } else { with_result(&conf, before) }
}

#[test]
fn every_setting_is_made_checked_and_taken_back() {
    let (world, container) = (World::new(), Namespace::new());
    let attached = world.add("c", &container, &world.bridge_conf(&json!({}))).unwrap();
    let before = container.json("ip -j link show eth0")[0].clone();
    let conf = conf(
        &world,
        &attached,
        json!({
        "sysctl": {"net.core.somaxconn": "600", "net/ipv4/conf/IFNAME/arp_filter": "1", "net.ipv4.ip_local_port_range": "2000 3000"},
        "mac": "02:11:22:33:44:77", "mtu": 1400, "promisc": true, "allmulti": true, "txQLen": 777}),
    );
    let result = world.add("c", &container, &conf).unwrap();
    assert_eq!(
        (&result["interfaces"][2]["mac"], &result["interfaces"][2]["mtu"]),
        (&json!("02:11:22:33:44:77"), &json!(1400))
    );
    let now = container.json("ip -j -d link show eth0")[0].clone();
    assert_eq!(now["address"], "02:11:22:33:44:77");
    assert_eq!((&now["mtu"], &now["txqlen"], &now["promiscuity"]), (&json!(1400), &json!(777), &json!(1)));
    assert!(now["flags"].to_string().contains("ALLMULTI"));
    assert_eq!(container.run("cat /proc/sys/net/core/somaxconn").trim(), "600");
    assert_eq!(container.run("cat /proc/sys/net/ipv4/conf/eth0/arp_filter").trim(), "1");
    let with = with_result(&conf, &result);
    world.act("CHECK", "c", &container.path(), &with).unwrap();
    let spoil = |line: &str, msg: &str, back: &str| {
        container.run(line);
        let err = world.act("CHECK", "c", &container.path(), &with).unwrap_err();
        assert!(err["code"] == 101 && err["msg"].as_str().unwrap().contains(msg), "{err}");
        container.run(back);
    };
    spoil("ip link set eth0 mtu 1300", "mtu is 1300, not 1400", "ip link set eth0 mtu 1400");
    spoil("ip link set eth0 promisc off", "promisc is false", "ip link set eth0 promisc on");
    spoil("ip link set eth0 allmulticast off", "allmulti is false", "ip link set eth0 allmulticast on");
    spoil("ip link set eth0 txqueuelen 5", "txQLen is 5, not 777", "ip link set eth0 txqueuelen 777");
    spoil(
        "ip link set eth0 address 02:00:00:00:00:01",
        "mac is 02:00:00:00:00:01",
        "ip link set eth0 address 02:11:22:33:44:77",
    );
    spoil("echo 1 > /proc/sys/net/core/somaxconn", "sysctl net/core/somaxconn is 1, not 600", "true");
    for _ in 0..2 {
        world.del("c", &container.path(), &conf).unwrap();
    }
    let after = container.json("ip -j link show eth0")[0].clone();
    for key in ["address", "mtu", "txqlen", "flags"] {
        assert_eq!(after[key], before[key], "{key}");
    }
    assert_eq!(std::fs::read_dir(world.dir.path().join("tuning")).unwrap().count(), 0);
    world.del("c", "/gone", &conf).unwrap();
}

#[test]
fn by_the_capability_and_by_args() {
    let (world, container) = (World::new(), Namespace::new());
    let attached = world.add("c", &container, &world.bridge_conf(&json!({}))).unwrap();
    let conf = conf(
        &world,
        &attached,
        json!({"mac": "02:00:00:00:00:01", "mtu": 1300,
        "runtimeConfig": {"mac": "02:00:00:00:00:02"}, "args": {"cni": {"mtu": 1350, "mac": "02:00:00:00:00:03"}}}),
    );
    let result = world.add("c", &container, &conf).unwrap();
    assert_eq!(result["interfaces"][2]["mac"], "02:00:00:00:00:02");
    assert_eq!(container.json("ip -j link show eth0")[0]["mtu"], 1350);
}

#[test]
fn refusals_leave_the_interface_as_it_was() {
    let (world, container) = (World::new(), Namespace::new());
    let attached = world.add("c", &container, &world.bridge_conf(&json!({}))).unwrap();
    let before = container.json("ip -j link show eth0")[0].clone();
    let check = |extra: Value, code: u32, msg: &str| {
        let err = world.add("c", &container, &conf(&world, &attached, extra)).unwrap_err();
        assert!(err["code"] == code && format!("{err}").contains(msg), "{err}");
        assert_eq!(container.json("ip -j link show eth0")[0], before);
    };
    check(json!({"sysctl": {"kernel.hostname": "x"}}), 7, "not one of the container's network");
    check(json!({"sysctl": {"net/../kernel/hostname": "x"}}), 7, "not one of the container's network");
    check(json!({"sysctl": {"net.core.nope": "1"}}), 5, "set sysctl net/core/nope");
    check(json!({"mac": "zz"}), 7, "is not a hardware address");
    check(json!({"mac": "02:00:00:00:00:01", "mtu": 7}), 100, "change eth0 in the container");
    check(json!({"prevResult": null}), 7, "needs prevResult");
}
