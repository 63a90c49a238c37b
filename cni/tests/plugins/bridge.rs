use crate::world::{Namespace, World, address, footprint, with_result};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

/// A connection from one namespace to a listener in another; the address that the listener saw.
fn connect(from: &Namespace, to: &Namespace, addr: &str) -> String {
    let listener = to.enter(|| TcpListener::bind(("::", 0)).unwrap());
    let port = listener.local_addr().unwrap().port();
    let target = if addr.contains(':') { format!("[{addr}]:{port}") } else { format!("{addr}:{port}") };
    let client = from.enter(|| TcpStream::connect_timeout(&target.parse().unwrap(), Duration::from_secs(5)));
    let mut client = client.unwrap_or_else(|err| panic!("{target}: {err}"));
    let (mut server, peer) = listener.accept().unwrap();
    server.write_all(b"hello").unwrap();
    drop(server);
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    assert_eq!(text, "hello");
    peer.ip().to_canonical().to_string()
}

#[test]
fn containers_reach_each_other_and_the_host_and_leave_nothing() {
    let world = World::new();
    let (one, two) = (Namespace::new(), Namespace::new());
    let conf = world.bridge_conf(&json!({"mtu": 1450, "ipMasq": true}));
    let empty = footprint(&world, "net");
    let first = world.add("one", &one, &conf).unwrap();
    let second = world.add("two", &two, &conf).unwrap();
    assert_eq!((address(&first).as_str(), address(&second).as_str()), ("10.77.0.2", "10.77.0.3"));

    let inside = one.json("ip -j addr show eth0");
    assert_eq!((&inside[0]["mtu"], &inside[0]["operstate"]), (&json!(1450), &json!("UP")));
    assert_eq!(inside[0]["address"], first["interfaces"][2]["mac"]);
    assert_eq!(one.run("ip route show default").trim(), "default via 10.77.0.1 dev eth0");
    assert_eq!(first["interfaces"][0]["name"], "br0");
    assert_eq!(first["interfaces"][2]["sandbox"], one.path());
    assert_eq!(first["ips"][0]["interface"], 2);

    assert_eq!(connect(&one, &two, "10.77.0.3"), "10.77.0.2");
    assert_eq!(connect(&one, &world.host, "10.77.0.1"), "10.77.0.2");
    assert_eq!(connect(&world.host, &two, "10.77.0.3"), "10.77.0.1");

    let mac = world.host.json("ip -j link show br0")[0]["address"].clone();
    for (id, container, result) in [("one", &one, &first), ("two", &two, &second)] {
        let conf = with_result(&conf, result);
        world.act("CHECK", id, &container.path(), &conf).unwrap();
        for _ in 0..2 {
            assert_eq!(world.del(id, &container.path(), &conf), Ok(Value::Null), "DEL may be repeated");
        }
        assert!(!container.run("ip -br link").contains("eth0"));
    }
    assert_eq!(footprint(&world, "net"), empty);
    assert_eq!(world.host.json("ip -j link show br0")[0]["address"], mac, "the bridge keeps its address");
}

#[test]
fn both_families_at_once_usable_at_once() {
    let world = World::new();
    let container = Namespace::new();
    let ipam = json!({"type": "host-local", "dataDir": world.lease_dir(),
        "ranges": [[{"subnet": "10.77.0.0/24"}], [{"subnet": "fd00:77::/64"}]]});
    let conf = world.bridge_conf(&json!({"isDefaultGateway": true, "ipam": ipam, "ipMasq": true}));
    let result = world.add("c", &container, &conf).unwrap();
    assert_eq!(result["ips"][1]["address"], "fd00:77::2/64");
    assert!(!container.run("ip -6 addr show dev eth0 scope global").contains("tentative"));
    assert_eq!(connect(&world.host, &container, "fd00:77::2"), "fd00:77::1");
    assert_eq!(connect(&world.host, &container, "10.77.0.2"), "10.77.0.1");
    assert!(container.run("ip -6 route show default").starts_with("default via fd00:77::1 dev eth0"));
    world.act("CHECK", "c", &container.path(), &with_result(&conf, &result)).unwrap();
    world.del("c", &container.path(), &conf).unwrap();
    assert_eq!(footprint(&world, "net"), "");
}

#[test]
fn packets_for_others_take_the_hosts_address() {
    let (world, outside, container) = (World::new(), Namespace::new(), Namespace::new());
    world.host.run(&format!("ip link add up0 type veth peer name eth0 netns {}", outside.path()));
    world.host.run("ip addr add 192.0.2.1/24 dev up0 && ip link set up0 up");
    outside.run("ip addr add 192.0.2.2/24 dev eth0 && ip link set eth0 up");
    let conf = world.bridge_conf(&json!({"ipMasq": true}));
    world.add("c", &container, &conf).unwrap();
    assert_eq!(connect(&container, &outside, "192.0.2.2"), "192.0.2.1");
    world.del("c", &container.path(), &conf).unwrap();
    // Without it, the other side has no way back to the container's own address.
    let conf = world.bridge_conf(&json!({"ipMasq": false}));
    let result = world.add("c", &container, &conf).unwrap();
    outside.run("ip route add 10.77.0.0/24 via 192.0.2.1");
    assert_eq!(connect(&container, &outside, "192.0.2.2"), address(&result));
}

#[test]
fn hairpin_promisc_isolation_and_a_wanted_mac() {
    let world = World::new();
    let (one, two) = (Namespace::new(), Namespace::new());
    let conf = world.bridge_conf(&json!({"hairpinMode": true, "portIsolation": true,
        "runtimeConfig": {"mac": "02:11:22:33:44:55"}}));
    let result = world.add("one", &one, &conf).unwrap();
    assert_eq!(result["interfaces"][2]["mac"], "02:11:22:33:44:55");
    assert_eq!(one.json("ip -j link show eth0")[0]["address"], "02:11:22:33:44:55");
    let port =
        world.host.run(&format!("ip -d link show {}", result["interfaces"][1]["name"].as_str().unwrap()));
    assert!(port.contains("hairpin on") && port.contains("isolated on"), "{port}");
    world.add("two", &two, &world.bridge_conf(&json!({"promiscMode": true}))).unwrap();
    assert!(world.host.run("ip -d link show br0").contains("promiscuity 1"));
}

#[test]
fn a_bridge_with_another_address_is_refused_or_changed() {
    let world = World::new();
    let container = Namespace::new();
    world.host.run("ip link add br0 type bridge && ip addr add 10.99.0.1/16 dev br0");
    let err = world.add("c", &container, &world.bridge_conf(&json!({}))).unwrap_err();
    assert_eq!(err["msg"], "bridge br0 has the address 10.99.0.1/16 already, not 10.77.0.1/24");
    assert_eq!(footprint(&world, "net"), "", "nothing is left half made");
    assert!(!container.run("ip -br link").contains("eth0"));
    world.add("c", &container, &world.bridge_conf(&json!({"forceAddress": true}))).unwrap();
    assert!(!world.host.run("ip addr show br0").contains("10.99.0.1"));
}

#[test]
fn refusals_have_codes_and_leave_nothing() {
    let world = World::new();
    let container = Namespace::new();
    container.run("ip link add taken type bridge && ip link set taken name eth0");
    world.host.run("ip link add x0 type veth peer name x1");
    let before = footprint(&world, "net");
    let check = |netns: &str, extra: Value, code: u32, msg: &str| {
        let err = world.act("ADD", "c", netns, &world.bridge_conf(&extra)).unwrap_err();
        let text = format!("{} {}", err["msg"], err["details"]);
        assert!(err["code"] == code && text.contains(msg), "{err} should be {code} {msg}");
        assert_eq!(footprint(&world, "net"), before);
    };
    let free = Namespace::new();
    check("/no/such/netns", json!({}), 3, "no network namespace at /no/such/netns");
    check(&container.path(), json!({}), 4, "interface eth0 already");
    check(&free.path(), json!({"bridge": "x0"}), 100, "x0 exists already, but is veth instead of a bridge");
    check(&free.path(), json!({"vlan": 4095}), 7, "vlan 4095 is not from 1 to 4094");
    check(&free.path(), json!({"vlanTrunk": [{"minID": 5}]}), 7, "minID and maxID together");
    check(&free.path(), json!({"ipMasq": true, "ipMasqBackend": "x"}), 7, "is unknown");
    check(&free.path(), json!({"hairpinMode": true, "promiscMode": true}), 7, "exclude each other");
    check(&free.path(), json!({"cniVersion": "9.9.9"}), 1, "9.9.9");
    check(&free.path(), json!({"name": "a/b"}), 7, "network name");
    check(&free.path(), json!({"mtu": "x"}), 6, "decode the configuration");
    check(&free.path(), json!({"mtu": 1}), 100, "create bridge br0");
    check(&free.path(), json!({"ipam": {"type": "nope"}}), 7, "plugin nope is not installed");
    check(&free.path(), json!({"runtimeConfig": {"mac": "zz"}}), 7, "is not a hardware address");
    let full = json!({"type": "host-local", "dataDir": world.lease_dir(), "subnet": "10.77.0.0/24",
        "rangeStart": "10.77.0.1", "rangeEnd": "10.77.0.1"});
    check(&free.path(), json!({"ipam": full}), 102, "no address is left in 10.77.0.1-10.77.0.1");
}

#[test]
fn a_route_that_cannot_be_made_undoes_everything() {
    let world = World::new();
    let container = Namespace::new();
    let ipam = json!({"type": "host-local", "dataDir": world.lease_dir(), "subnet": "10.77.0.0/24",
        "routes": [{"dst": "10.5.0.0/16", "gw": "172.31.0.1"}]});
    let err =
        world.add("c", &container, &world.bridge_conf(&json!({"ipam": ipam, "ipMasq": true}))).unwrap_err();
    assert!(
        err["details"].as_str().unwrap().contains("add route to 10.5.0.0/16 through 172.31.0.1"),
        "{err}"
    );
    assert_eq!(footprint(&world, "net"), "");
    assert!(!container.run("ip -br link").contains("eth0"));
}

#[test]
fn del_without_a_namespace_and_with_half_of_the_state_gone() {
    let world = World::new();
    let container = Namespace::new();
    let conf = world.bridge_conf(&json!({"ipMasq": true}));
    world.add("c", &container, &conf).unwrap();
    world.del("c", "", &conf).unwrap();
    assert_eq!(footprint(&world, "net"), "", "the host's end goes although the namespace is not named");
    world.add("c", &container, &conf).unwrap();
    world.host.run("nft delete table inet coracle_cni && ip link del br0");
    world.del("c", "/gone", &conf).unwrap();
    assert_eq!(footprint(&world, "net"), "");
}

#[test]
fn check_says_what_is_lost() {
    let world = World::new();
    let container = Namespace::new();
    let conf = world.bridge_conf(&json!({"ipMasq": true}));
    let result = world.add("c", &container, &conf).unwrap();
    let conf = with_result(&conf, &result);
    let check = |msg: &str| {
        let err = world.act("CHECK", "c", &container.path(), &conf).unwrap_err();
        assert!(err["code"] == 101 && err["msg"].as_str().unwrap().contains(msg), "{err}");
    };
    world.act("CHECK", "c", &container.path(), &conf).unwrap();
    std::fs::remove_file(world.lease_dir().join("net/10.77.0.2")).unwrap();
    check("10.77.0.2 is not leased to container c");
    world.host.run("nft flush set inet coracle_cni masq4");
    check("10.77.0.2 is not masqueraded");
    container.run("ip route del default");
    check("lost its route to 0.0.0.0/0");
    container.run("ip addr flush dev eth0");
    check("lost the address 10.77.0.2/24");
    world.host.run("ip addr flush dev br0");
    check("br0 has lost the address 10.77.0.1");
    world.host.run("ip link del br0");
    check("bridge br0 is gone");
}

#[test]
fn gc_frees_what_no_attachment_holds() {
    let world = World::new();
    let (one, two) = (Namespace::new(), Namespace::new());
    let conf = world.bridge_conf(&json!({"ipMasq": true}));
    world.add("one", &one, &conf).unwrap();
    world.add("two", &two, &conf).unwrap();
    let mut gc = conf.clone();
    gc["cni.dev/valid-attachments"] = json!([{"containerID": "two", "ifname": "eth0"}]);
    world.act("GC", "", "", &gc).unwrap();
    assert_eq!(world.leases("net"), ["10.77.0.3"]);
    assert!(!one.run("ip -br link").contains("eth0"), "a container that nobody knows is cut off");
    assert!(two.reaches("10.77.0.1"));
    let rules = world.host.run("nft list set inet coracle_cni masq4");
    assert!(rules.contains("10.77.0.3") && !rules.contains("10.77.0.2"), "{rules}");
    world.act("STATUS", "", "", &conf).unwrap();
    let err = world.act("GC", "", "", &conf).unwrap_err();
    assert_eq!(err["code"], 7, "GC without the list would free everything");
}

#[test]
fn many_at_once() {
    let world = World::new();
    let conf = world.bridge_conf(&json!({"ipMasq": true}));
    let containers: Vec<Namespace> = (0..24).map(|_| Namespace::new()).collect();
    std::thread::scope(|scope| {
        for (number, container) in containers.iter().enumerate() {
            let (world, conf) = (&world, &conf);
            scope.spawn(move || world.add(&format!("c{number}"), container, conf).unwrap());
        }
    });
    assert_eq!(world.leases("net").len(), containers.len());
    std::thread::scope(|scope| {
        for (number, container) in containers.iter().enumerate() {
            let (world, conf) = (&world, &conf);
            scope.spawn(move || world.del(&format!("c{number}"), &container.path(), conf).unwrap());
        }
    });
    assert_eq!(footprint(&world, "net"), "");
}

#[test]
fn loopback_goes_up_and_versions_are_told() {
    let world = World::new();
    let container = Namespace::new();
    let conf = json!({"cniVersion": "1.0.0", "name": "lo", "type": "loopback"});
    let result = world.add("c", &container, &conf).unwrap();
    assert_eq!(
        result["ips"],
        json!([{"interface": 0, "address": "127.0.0.1/8"}, {"interface": 0, "address": "::1/128"}])
    );
    assert_eq!(container.json("ip -j link show lo")[0]["flags"][1], "UP");
    world.act("CHECK", "c", &container.path(), &with_result(&conf, &result)).unwrap();
    world.del("c", &container.path(), &conf).unwrap();
    assert!(world.act("CHECK", "c", &container.path(), &with_result(&conf, &result)).is_err());
    world.del("c", "/gone", &conf).unwrap();
    let err = world.act(
        "CHECK",
        "c",
        &container.path(),
        &json!({"cniVersion": "0.3.1", "name": "lo", "type": "loopback"}),
    );
    assert_eq!(err.unwrap_err()["code"], 1);
    let versions = world.act("VERSION", "", "", &conf).unwrap();
    assert_eq!(versions["supportedVersions"].as_array().unwrap().len(), 7);
}

#[test]
fn a_container_cannot_send_as_another() {
    let world = World::new();
    let (one, two) = (Namespace::new(), Namespace::new());
    let conf = world.bridge_conf(&json!({"macspoofchk": true}));
    let result = world.add("one", &one, &conf).unwrap();
    world.add("two", &two, &conf).unwrap();
    assert!(one.reaches("10.77.0.3"));
    let with = with_result(&conf, &result);
    world.act("CHECK", "one", &one.path(), &with).unwrap();
    one.run("ip link set eth0 address 02:00:00:00:00:66");
    assert!(one.is_cut_off_from("10.77.0.3"), "another hardware address does not get through");
    let mac = result["interfaces"][2]["mac"].as_str().unwrap();
    one.run(&format!("ip link set eth0 address {mac}"));
    assert!(one.reaches("10.77.0.3"));
    world.host.run("nft flush set bridge coracle_cni guarded");
    assert_eq!(world.act("CHECK", "one", &one.path(), &with).unwrap_err()["code"], 101);
    let mut gc = conf.clone();
    gc["cni.dev/valid-attachments"] = json!([{"containerID": "two", "ifname": "eth0"}]);
    world.act("GC", "", "", &gc).unwrap();
    assert!(!world.host.run("nft list table bridge coracle_cni").contains(mac));
    world.del("one", &one.path(), &conf).unwrap();
    world.del("two", &two.path(), &conf).unwrap();
    assert_eq!(footprint(&world, "net"), "");
}

#[test]
fn vlans() {
    let world = World::new();
    let (one, two, other) = (Namespace::new(), Namespace::new(), Namespace::new());
    let conf = |id: u16| world.bridge_conf(&json!({"vlan": id, "preserveDefaultVlan": false}));
    if !world.host.try_run("ip link add probe type bridge vlan_filtering 1 && ip link del probe").0 {
        let err = world.add("one", &one, &conf(5)).unwrap_err();
        let wanted = "this kernel's bridges know no VLANs: cannot create bridge br0";
        assert_eq!((&err["code"], err["msg"].as_str()), (&json!(100), Some(wanted)));
        assert_eq!(footprint(&world, "net"), "");
        return crate::world::not_run("bridge vlan, vlanTrunk, preserveDefaultVlan", wanted);
    }
    let result = world.add("one", &one, &conf(5)).unwrap();
    world.add("two", &two, &conf(5)).unwrap();
    world
        .add(
            "other",
            &other,
            &world.bridge_conf(&json!({"vlan": 6, "isGateway": false,
        "vlanTrunk": [{"id": 7}, {"minID": 10, "maxID": 12}]})),
        )
        .unwrap();
    assert!(one.reaches("10.77.0.3"));
    assert!(one.reaches("10.77.0.1"));
    assert!(world.host.run("ip addr show br0.5").contains("10.77.0.1/24"));
    assert!(one.is_cut_off_from("10.77.0.4"), "another VLAN");
    let ports = world.host.run("bridge vlan show");
    assert!(ports.contains("10-12") || ports.contains("\t11") || ports.contains(" 11"), "{ports}");
    world.act("CHECK", "one", &one.path(), &with_result(&conf(5), &result)).unwrap();
    for (id, container) in [("one", &one), ("two", &two), ("other", &other)] {
        world.del(id, &container.path(), &conf(5)).unwrap();
    }
}
