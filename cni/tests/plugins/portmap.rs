use crate::world::{Namespace, World, footprint, with_result};
use serde_json::{Value, json};
use std::io::Read;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

/// A host with an address, a client outside, a container behind a mapping.
struct Setup {
    world: World,
    client: Namespace,
    container: Namespace,
    conf: Value,
}

const WAIT: Duration = Duration::from_secs(5);

fn setup(extra: &Value, mappings: &Value) -> Setup {
    let (world, client, container) = (World::new(), Namespace::new(), Namespace::new());
    world.host.run(&format!("ip link add up0 type veth peer name eth0 netns {}", client.path()));
    world
        .host
        .run("ip addr add 192.0.2.1/24 dev up0 && ip addr add 192.0.2.11/24 dev up0 && ip link set up0 up");
    client.run("ip addr add 192.0.2.2/24 dev eth0 && ip link set eth0 up");
    let result = world.add("c", &container, &world.bridge_conf(&json!({"hairpinMode": true}))).unwrap();
    let mut conf = json!({"cniVersion": "1.1.0", "name": "net", "type": "portmap", "backend": "nftables",
        "runtimeConfig": {"portMappings": mappings}});
    for (key, value) in extra.as_object().unwrap() {
        conf[key] = value.clone();
    }
    let conf = with_result(&conf, &result);
    assert_eq!(world.add("c", &container, &conf).unwrap(), result, "the result is passed on");
    Setup { world, client, container, conf }
}

/// Connects; who the listener in the container believes it was.
fn reach(setup: &Setup, from: &Namespace, to: &str) -> Option<String> {
    let listener = setup.container.listen("0.0.0.0:80");
    let to: SocketAddr = to.parse().unwrap();
    let mut stream = from.enter(|| TcpStream::connect_timeout(&to, WAIT)).ok()?;
    let (server, peer) = listener.accept().unwrap();
    drop(server);
    stream.read_to_end(&mut vec![]).unwrap();
    Some(peer.ip().to_string())
}

#[test]
fn from_outside_from_the_host_and_from_itself() {
    let it = setup(&json!({}), &json!([{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]));
    assert_eq!(
        reach(&it, &it.client, "192.0.2.1:8080").as_deref(),
        Some("192.0.2.2"),
        "the client's address is kept"
    );
    assert_eq!(reach(&it, &it.client, "192.0.2.11:8080").as_deref(), Some("192.0.2.2"));
    assert_eq!(reach(&it, &it.world.host, "127.0.0.1:8080").as_deref(), Some("10.77.0.1"), "localhost");
    assert!(reach(&it, &it.world.host, "192.0.2.1:8080").is_some(), "the host's own address");
    assert_eq!(reach(&it, &it.container, "192.0.2.1:8080").as_deref(), Some("10.77.0.1"), "hairpin");
    assert_eq!(reach(&it, &it.client, "192.0.2.1:8081"), None);
    it.world.act("CHECK", "c", &it.container.path(), &it.conf).unwrap();
    for _ in 0..2 {
        it.world.del("c", "", &it.conf).unwrap();
    }
    assert_eq!(reach(&it, &it.client, "192.0.2.1:8080"), None);
    let err = it.world.act("CHECK", "c", &it.container.path(), &it.conf).unwrap_err();
    assert_eq!(err["code"], 101);
}

#[test]
fn one_address_of_the_host_only() {
    let mapping = json!([{"hostPort": 8080, "containerPort": 80, "hostIP": "192.0.2.11"}]);
    let it = setup(&json!({"masqAll": true}), &mapping);
    assert_eq!(
        reach(&it, &it.client, "192.0.2.11:8080").as_deref(),
        Some("10.77.0.1"),
        "masqAll hides the client"
    );
    assert_eq!(reach(&it, &it.client, "192.0.2.1:8080"), None);
}

#[test]
fn a_udp_flow_follows_the_mapping() {
    let it = setup(&json!({}), &json!([]));
    let client = it.client.enter(|| UdpSocket::bind("192.0.2.2:5000").unwrap());
    client.connect("192.0.2.1:5353").unwrap();
    client.set_read_timeout(Some(WAIT)).unwrap();
    // The host itself answers first, so that the kernel remembers the flow.
    let host = it.world.host.enter(|| UdpSocket::bind("192.0.2.1:5353").unwrap());
    host.set_read_timeout(Some(WAIT)).unwrap();
    it.world
        .host
        .run("nft add table ip track && nft add chain ip track c '{ type nat hook prerouting priority 0; }'");
    let mut buffer = [0; 16];
    client.send(b"one").unwrap();
    let (_, from) = host.recv_from(&mut buffer).unwrap();
    host.send_to(b"host", from).unwrap();
    assert_eq!(client.recv(&mut buffer).unwrap(), 4);

    let server = it.container.enter(|| UdpSocket::bind("0.0.0.0:53").unwrap());
    server.set_read_timeout(Some(WAIT)).unwrap();
    let mut conf = it.conf.clone();
    conf["runtimeConfig"] =
        json!({"portMappings": [{"hostPort": 5353, "containerPort": 53, "protocol": "UDP"}]});
    it.world.add("c", &it.container, &conf).unwrap();
    client.send(b"two").unwrap();
    let (length, _) = server.recv_from(&mut buffer).expect("the old flow is forgotten at ADD");
    assert_eq!(&buffer[..length], b"two");
    it.world.del("c", "", &conf).unwrap();
    client.send(b"three").unwrap();
    let (length, _) = host.recv_from(&mut buffer).expect("and at DEL");
    assert_eq!(&buffer[..length], b"three");
}

#[test]
fn a_port_that_is_taken_is_refused_and_a_dead_owner_is_collected() {
    let it = setup(&json!({}), &json!([{"hostPort": 8080, "containerPort": 80}]));
    let other = Namespace::new();
    let result = it.world.add("d", &other, &it.world.bridge_conf(&json!({}))).unwrap();
    let conf = with_result(&it.conf, &result);
    let before = footprint(&it.world, "net");
    let err = it.world.add("d", &other, &conf).unwrap_err();
    assert_eq!(
        (&err["code"], err["msg"].as_str().unwrap()),
        (&json!(102), "host port tcp . 8080 leads to another container already")
    );
    assert_eq!(footprint(&it.world, "net"), before);
    let mut gc = conf.clone();
    gc["cni.dev/valid-attachments"] = json!([{"containerID": "d", "ifname": "eth0"}]);
    it.world.act("GC", "", "", &gc).unwrap();
    it.world.add("d", &other, &conf).unwrap();
    it.world.act("STATUS", "", "", &conf).unwrap();
}

#[test]
fn bad_mappings_are_refused() {
    let world = World::new();
    let container = Namespace::new();
    let check = |extra: Value, mapping: Value, code: u32, msg: &str| {
        let mut conf = json!({"cniVersion": "1.0.0", "name": "net", "type": "portmap",
            "runtimeConfig": {"portMappings": [mapping]},
            "prevResult": {"cniVersion": "1.0.0", "ips": [{"address": "10.1.0.5/24"}]}});
        for (key, value) in extra.as_object().unwrap() {
            conf[key] = value.clone();
        }
        let err = world.add("c", &container, &conf).unwrap_err();
        assert!(err["code"] == code && format!("{} {}", err["msg"], err["details"]).contains(msg), "{err}");
    };
    let good = json!({"hostPort": 80, "containerPort": 80});
    check(json!({}), json!({"hostPort": 70000, "containerPort": 80}), 7, "hostPort 70000 is not a port");
    check(json!({}), json!({"hostPort": 80, "containerPort": 0}), 7, "containerPort 0 is not a port");
    check(json!({}), json!({"hostPort": 80, "containerPort": 80, "hostIP": "x"}), 7, "hostIP");
    check(
        json!({}),
        json!({"hostPort": 80, "containerPort": 80, "protocol": "icmp"}),
        6,
        "not one of tcp, udp, sctp",
    );
    check(json!({"backend": "x"}), good.clone(), 7, "not one of nftables, iptables");
    check(json!({"markMasqBit": 32}), good.clone(), 7, "markMasqBit 32 is not from 0 to 31");
    check(json!({"markMasqBit": 5, "externalSetMarkChain": "X"}), good.clone(), 7, "exclude each other");
    check(json!({"externalSetMarkChain": "X"}), good.clone(), 7, "is for the backend iptables");
    check(json!({"conditionsV4": ["x; flush ruleset"]}), good.clone(), 7, "part of one rule");
    check(json!({"conditionsV4": ["no such thing"]}), good.clone(), 7, "under conditions");
    check(json!({"prevResult": null}), good.clone(), 7, "needs prevResult");
    check(json!({"prevResult": {"cniVersion": "1.0.0"}}), good, 7, "has no address");
}

#[test]
fn the_same_by_iptables() {
    let mappings = json!([{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"},
        {"hostPort": 8081, "containerPort": 80, "hostIP": "192.0.2.11"}]);
    let it = setup(&json!({"backend": "iptables", "markMasqBit": 5}), &mappings);
    assert_eq!(
        reach(&it, &it.client, "192.0.2.1:8080").as_deref(),
        Some("192.0.2.2"),
        "the client's address is kept"
    );
    assert_eq!(reach(&it, &it.world.host, "127.0.0.1:8080").as_deref(), Some("10.77.0.1"), "localhost");
    assert_eq!(reach(&it, &it.container, "192.0.2.1:8080").as_deref(), Some("10.77.0.1"), "hairpin");
    assert_eq!(reach(&it, &it.client, "192.0.2.11:8081").as_deref(), Some("192.0.2.2"));
    assert_eq!(reach(&it, &it.client, "192.0.2.1:8081"), None, "of one address only");
    let rules = it.world.host.run("iptables-save -t nat");
    assert!(rules.contains("--set-xmark 0x20/0x20"), "{rules}");
    it.world.add("c", &it.container, &it.conf).unwrap();
    let again = it.world.host.run("iptables-save -t nat");
    assert_eq!(
        again.matches(" -j ").count(),
        rules.matches(" -j ").count(),
        "once more changes nothing: {again}"
    );
    it.world.act("CHECK", "c", &it.container.path(), &it.conf).unwrap();
    it.world.act("STATUS", "", "", &it.conf).unwrap();
    it.world.host.run("iptables -t nat -F CNI-HOSTPORT-DNAT");
    assert_eq!(it.world.act("CHECK", "c", &it.container.path(), &it.conf).unwrap_err()["code"], 101);
    it.world.add("c", &it.container, &it.conf).unwrap();
    for _ in 0..2 {
        it.world.del("c", "", &it.conf).unwrap();
    }
    assert!(!it.world.host.run("iptables-save -t nat").contains("10.77.0.2"));
    it.world.add("c", &it.container, &it.conf).unwrap();
    let mut gc = it.conf.clone();
    gc["cni.dev/valid-attachments"] = json!([]);
    it.world.act("GC", "", "", &gc).unwrap();
    assert!(!it.world.host.run("iptables-save -t nat").contains("10.77.0.2"));
}

#[test]
fn somebody_elses_chain_marks_and_conditions_hold() {
    let mapping = json!([{"hostPort": 8080, "containerPort": 80}]);
    let (world, container) = (World::new(), Namespace::new());
    world.host.run("iptables -t nat -N MY-MARK; ip6tables -t nat -N MY-MARK");
    let result = world.add("c", &container, &world.bridge_conf(&json!({}))).unwrap();
    let conf = json!({"cniVersion": "1.1.0", "name": "net", "type": "portmap", "backend": "iptables",
        "externalSetMarkChain": "MY-MARK", "conditionsV4": ["-s", "198.51.100.0/24"],
        "runtimeConfig": {"portMappings": mapping}});
    world.add("c", &container, &with_result(&conf, &result)).unwrap();
    let rules = world.host.run("iptables-save -t nat");
    assert!(rules.contains("-j MY-MARK") && !rules.contains("CNI-HOSTPORT-MASQ"), "{rules}");
    assert!(rules.contains("-s 198.51.100.0/24"), "{rules}");

    for (condition, open) in [("ip saddr 192.0.2.0/24", true), ("ip saddr 198.51.100.0/24", false)] {
        let it = setup(&json!({"conditionsV4": [condition]}), &mapping);
        assert_eq!(reach(&it, &it.client, "192.0.2.1:8080").is_some(), open, "{condition}");
        it.world.act("CHECK", "c", &it.container.path(), &it.conf).unwrap();
        it.world.del("c", "", &it.conf).unwrap();
        let left = it.world.host.run("nft list table inet coracle_cni");
        assert!(!left.contains("10.77.0.2"), "{left}");
        assert_eq!(it.world.act("CHECK", "c", &it.container.path(), &it.conf).unwrap_err()["code"], 101);
    }
}
