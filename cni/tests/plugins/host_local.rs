use crate::world::{Call, World};
use serde_json::{Value, json};
use std::collections::BTreeSet;

fn conf(world: &World, ipam: &Value) -> Value {
    let mut ipam = ipam.clone();
    ipam["type"] = "host-local".into();
    ipam["dataDir"] = json!(world.lease_dir());
    json!({"cniVersion": "1.1.0", "name": "net", "type": "host-local", "ipam": ipam})
}

fn act(world: &World, command: &str, id: &str, conf: &Value) -> Result<Value, Value> {
    world.act(command, id, "/unused", conf)
}

#[test]
fn a_hundred_at_once_have_a_hundred_addresses() {
    let world = World::new();
    let conf = conf(&world, &json!({"subnet": "10.1.0.0/24"}));
    let given: Vec<String> = std::thread::scope(|scope| {
        let one = |number: usize| {
            let (world, conf) = (&world, &conf);
            scope.spawn(move || {
                act(world, "ADD", &format!("c{number}"), conf).unwrap()["ips"][0]["address"].to_string()
            })
        };
        let all: Vec<_> = (0..100).map(one).collect();
        all.into_iter().map(|it| it.join().unwrap()).collect()
    });
    assert_eq!(given.iter().collect::<BTreeSet<_>>().len(), 100);
    assert_eq!(world.leases("net").len(), 100);
}

#[test]
fn an_address_rests_before_it_is_given_again() {
    let world = World::new();
    let conf = conf(&world, &json!({"subnet": "10.1.0.0/29"}));
    let next = |id: &str| {
        act(&world, "ADD", id, &conf).map(|it| it["ips"][0]["address"].as_str().unwrap().to_owned())
    };
    assert_eq!(next("a").unwrap(), "10.1.0.2/29");
    act(&world, "DEL", "a", &conf).unwrap();
    assert_eq!(next("b").unwrap(), "10.1.0.3/29");
    for id in ["c", "d", "e", "f"] {
        next(id).unwrap();
    }
    let err = next("g").unwrap_err();
    assert_eq!(err["msg"], "no address is left in 10.1.0.1-10.1.0.6 of network net");
    assert_eq!(act(&world, "STATUS", "", &conf).unwrap_err()["code"], 50);
    act(&world, "DEL", "d", &conf).unwrap();
    act(&world, "STATUS", "", &conf).unwrap();
    assert_eq!(next("g").unwrap(), "10.1.0.5/29");
    assert!(next("g").unwrap_err()["msg"].as_str().unwrap().contains("leased to container g already"));
}

#[test]
fn ranges_gateways_routes_and_name_servers() {
    let world = World::new();
    let resolv = world.dir.path().join("resolv.conf");
    std::fs::write(&resolv, "nameserver 10.0.0.10\nsearch a.b\noptions ndots:5\n").unwrap();
    let ipam = json!({"resolvConf": resolv, "routes": [{"dst": "0.0.0.0/0"}, {"dst": "10.9.0.0/16", "gw": "10.1.0.9"}],
        "ranges": [[{"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.20", "rangeEnd": "10.1.0.21", "gateway": "10.1.0.20"},
                    {"subnet": "10.2.0.0/24"}],
                   [{"subnet": "fd00::/64", "rangeStart": "fd00::100"}]]});
    let conf = conf(&world, &ipam);
    let wanted = json!({"cniVersion": "1.1.0",
        "ips": [{"address": "10.1.0.21/24", "gateway": "10.1.0.20"}, {"address": "fd00::100/64", "gateway": "fd00::1"}],
        "routes": [{"dst": "0.0.0.0/0"}, {"dst": "10.9.0.0/16", "gw": "10.1.0.9"}],
        "dns": {"nameservers": ["10.0.0.10"], "search": ["a.b"], "options": ["ndots:5"]}});
    assert_eq!(act(&world, "ADD", "a", &conf).unwrap(), wanted);
    let second = act(&world, "ADD", "b", &conf).unwrap();
    assert_eq!(
        (&second["ips"][0]["address"], &second["ips"][1]["address"]),
        (&json!("10.2.0.2/24"), &json!("fd00::101/64"))
    );
}

#[test]
fn requested_addresses() {
    let world = World::new();
    let plain = conf(&world, &json!({"subnet": "10.1.0.0/24", "rangeEnd": "10.1.0.100"}));
    let by_capability = |ip: &str| {
        let mut conf = plain.clone();
        conf["runtimeConfig"] = json!({"ips": [ip]});
        conf
    };
    let result = act(&world, "ADD", "a", &by_capability("10.1.0.50/24")).unwrap();
    assert_eq!(result["ips"][0]["address"], "10.1.0.50/24");
    let refused = |id: &str, ip: &str, msg: &str| {
        let err = act(&world, "ADD", id, &by_capability(ip)).unwrap_err();
        assert!(err["msg"].as_str().unwrap().contains(msg), "{err}");
        assert_eq!(world.leases("net"), ["10.1.0.50"]);
    };
    refused("b", "10.1.0.50", "is leased to another container");
    refused("b", "10.1.0.1", "is the gateway");
    refused("b", "10.1.0.101", "outside its ranges");
    refused("b", "10.7.0.1", "is in no range of network net");
    let args = Call {
        command: "ADD",
        plugin: "host-local",
        id: "c",
        netns: "/x".into(),
        args: "IgnoreUnknown=1;IP=10.1.0.60",
    };
    assert_eq!(world.call(&args, &plain).unwrap()["ips"][0]["address"], "10.1.0.60/24");
}

#[test]
fn bad_ranges_are_named() {
    let world = World::new();
    let check = |ipam: Value, msg: &str| {
        let err = act(&world, "ADD", "a", &conf(&world, &ipam)).unwrap_err();
        assert!(err["msg"].as_str().unwrap().contains(msg) && err["code"] == 7, "{err}");
    };
    check(json!({}), "ipam has no range");
    check(json!({"subnet": "10.1.0.5/24"}), "did you mean 10.1.0.0/24");
    check(json!({"subnet": "10.1.0.0/33"}), "too long");
    check(json!({"ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "10.1.0.0/25"}]]}), "ranges overlap");
    check(json!({"ranges": [[{"subnet": "10.1.0.0/24"}, {"subnet": "fd00::/64"}]]}), "mixes IPv4 and IPv6");
}

#[test]
fn one_of_two_families_exhausted_gives_the_other_back() {
    let world = World::new();
    let conf = conf(
        &world,
        &json!({"ranges": [[{"subnet": "10.1.0.0/24"}],
        [{"subnet": "10.2.0.0/24", "rangeStart": "10.2.0.2", "rangeEnd": "10.2.0.2"}]]}),
    );
    act(&world, "ADD", "a", &conf).unwrap();
    act(&world, "ADD", "b", &conf).unwrap_err();
    assert_eq!(world.leases("net"), ["10.1.0.2", "10.2.0.2"]);
}
