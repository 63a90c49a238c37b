use crate::world::{Namespace, World, with_result};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Instant;

struct Setup {
    world: World,
    container: Namespace,
    attached: Value,
}

fn setup() -> Setup {
    let (world, container) = (World::new(), Namespace::new());
    let attached = world.add("c", &container, &world.bridge_conf(&json!({}))).unwrap();
    Setup { world, container, attached }
}

fn conf(it: &Setup, extra: Value) -> Value {
    let mut conf = json!({"cniVersion": "1.1.0", "name": "net", "type": "bandwidth"});
    for (key, value) in extra.as_object().unwrap() {
        conf[key] = value.clone();
    }
    with_result(&conf, &it.attached)
}

/// Bytes a second from one namespace to an address in another.
fn speed(from: &Namespace, to: &Namespace, addr: &str) -> f64 {
    const SIZE: usize = 1_000_000;
    let listener = to.enter(|| TcpListener::bind((addr, 0)).unwrap());
    let target = listener.local_addr().unwrap();
    let mut client = from.enter(|| TcpStream::connect(target).unwrap());
    let (mut server, _) = listener.accept().unwrap();
    let started = Instant::now();
    let sender = std::thread::spawn(move || client.write_all(&vec![0; SIZE]).unwrap());
    let mut got = Vec::new();
    server.read_to_end(&mut got).unwrap();
    sender.join().unwrap();
    SIZE as f64 / started.elapsed().as_secs_f64()
}

#[test]
fn each_direction_has_its_rate() {
    let it = setup();
    // 8 Mbit/s to the container, 16 from it: a megabyte takes most of a second, without a limit some milliseconds.
    let conf = conf(
        &it,
        json!({"ingressRate": 8_000_000, "ingressBurst": 800_000,
        "egressRate": 16_000_000, "egressBurst": 800_000}),
    );
    let result = it.world.add("c", &it.container, &conf).unwrap();
    let queue = result["interfaces"].as_array().unwrap().last().unwrap()["name"].as_str().unwrap().to_owned();
    assert!(queue.starts_with("bwp"), "{result}");
    let into = speed(&it.world.host, &it.container, "10.77.0.2");
    let out = speed(&it.container, &it.world.host, "10.77.0.1");
    assert!(into < 1_500_000.0, "{into} bytes/s to the container");
    assert!(out < 3_000_000.0, "{out} bytes/s from the container");
    let with = with_result(&conf, &result);
    it.world.act("CHECK", "c", &it.container.path(), &with).unwrap();
    let port = it.attached["interfaces"][1]["name"].as_str().unwrap();
    let shown = it.world.host.run(&format!("tc qdisc show dev {port}"));
    assert!(shown.contains("tbf") && shown.contains("rate 8Mbit") && shown.contains("ingress"), "{shown}");
    it.world.host.run(&format!("tc qdisc del dev {port} root"));
    assert_eq!(it.world.act("CHECK", "c", &it.container.path(), &with).unwrap_err()["code"], 101);
    for _ in 0..2 {
        it.world.del("c", "", &conf).unwrap();
    }
    assert!(!it.world.host.run("ip -br link").contains("bwp"));
}

#[test]
fn what_the_runtime_says_comes_first_and_gc_removes_what_is_left() {
    let it = setup();
    let conf = conf(
        &it,
        json!({"ingressRate": 8, "ingressBurst": 8,
        "runtimeConfig": {"bandwidth": {"egressRate": 80_000_000, "egressBurst": 8_000_000}}}),
    );
    it.world.add("c", &it.container, &conf).unwrap();
    let port = it.attached["interfaces"][1]["name"].as_str().unwrap();
    assert!(!it.world.host.run(&format!("tc qdisc show dev {port}")).contains("tbf"), "no ingress");
    let mut gc = conf.clone();
    gc["cni.dev/valid-attachments"] = json!([{"containerID": "c", "ifname": "eth0"}]);
    it.world.act("GC", "", "", &gc).unwrap();
    assert!(it.world.host.run("ip -br link").contains("bwp"));
    gc["cni.dev/valid-attachments"] = json!([]);
    it.world.act("GC", "", "", &gc).unwrap();
    assert!(!it.world.host.run("ip -br link").contains("bwp"));
}

#[test]
fn some_networks_only_or_all_but_some() {
    for (key, limited) in [("unshapedSubnets", false), ("shapedSubnets", true)] {
        let it = setup();
        it.world.host.run("ip addr add 10.88.0.1/32 dev br0");
        it.container.run("ip route add default via 10.77.0.1 2>/dev/null || true");
        let conf = conf(
            &it,
            json!({"egressRate": 8_000_000, "egressBurst": 800_000, key: ["10.88.0.0/16", "fd00::/8"]}),
        );
        let result = it.world.add("c", &it.container, &conf).unwrap();
        it.world.act("CHECK", "c", &it.container.path(), &with_result(&conf, &result)).unwrap();
        let named = speed(&it.container, &it.world.host, "10.88.0.1");
        let other = speed(&it.container, &it.world.host, "10.77.0.1");
        let (slow, fast) = if limited { (named, other) } else { (other, named) };
        assert!(slow < 1_500_000.0 && fast > 3.0 * slow, "{key}: {slow} and {fast} bytes/s");
        it.world.del("c", "", &conf).unwrap();
    }
}

#[test]
fn refusals() {
    let it = setup();
    let check = |extra: Value, msg: &str| {
        let err = it.world.add("c", &it.container, &conf(&it, extra)).unwrap_err();
        assert!(err["code"] == 7 && err["msg"].as_str().unwrap().contains(msg), "{err}");
        assert!(!it.world.host.run("ip -br link").contains("bwp"));
    };
    check(json!({"ingressRate": 8000}), "so ingressBurst must be too");
    check(json!({"egressBurst": 8000}), "so egressRate must be too");
    check(json!({"egressRate": 8000, "egressBurst": 1_u64 << 40}), "more than 4 GiB");
    let rate = json!({"egressRate": 8000, "egressBurst": 8000, "shapedSubnets": ["x"]});
    check(rate, "a subnet is not one");
    let both = json!({"egressRate": 8000, "egressBurst": 8000, "shapedSubnets": ["::/0"], "unshapedSubnets": ["::/0"]});
    check(both, "exclude each other");
    let mut alone = conf(&it, json!({"egressRate": 8000, "egressBurst": 8000}));
    alone["prevResult"]["interfaces"] = json!([{"name": "br0"}]);
    let err = it.world.add("c", &it.container, &alone).unwrap_err();
    assert!(err["msg"].as_str().unwrap().contains("no link on the host that leads to eth0"), "{err}");
    let nothing = conf(&it, json!({}));
    assert_eq!(
        it.world.add("c", &it.container, &nothing).unwrap(),
        it.attached,
        "nothing asked, nothing done"
    );
}
