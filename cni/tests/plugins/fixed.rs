//! `static`.

use crate::world::{Call, World, with_result};
use serde_json::{Value, json};

fn conf(extra: &Value, ipam: &Value) -> Value {
    let mut conf = json!({"cniVersion": "1.1.0", "name": "net", "type": "static", "ipam": ipam});
    for (key, value) in extra.as_object().unwrap() {
        conf[key] = value.clone();
    }
    conf
}

#[test]
fn addresses_routes_and_name_servers_from_each_place() {
    let world = World::new();
    let ipam = json!({"type": "static", "addresses": [{"address": "10.1.0.5/24", "gateway": "10.1.0.1"}, {"address": "fd00::5/64"}],
        "routes": [{"dst": "0.0.0.0/0"}, {"dst": "10.9.0.0/16", "gw": "10.1.0.9"}],
        "dns": {"nameservers": ["10.0.0.10"], "domain": "a.b", "search": ["c.d"], "options": ["ndots:5"]}});
    let act = |conf: &Value| world.act("ADD", "c", "/unused", conf);
    let result = act(&conf(&json!({}), &ipam)).unwrap();
    assert_eq!(
        result,
        json!({"cniVersion": "1.1.0",
            "ips": [{"address": "10.1.0.5/24", "gateway": "10.1.0.1"}, {"address": "fd00::5/64"}],
            "routes": [{"dst": "0.0.0.0/0"}, {"dst": "10.9.0.0/16", "gw": "10.1.0.9"}],
            "dns": {"nameservers": ["10.0.0.10"], "domain": "a.b", "search": ["c.d"], "options": ["ndots:5"]}})
    );
    let addresses = |conf: &Value| -> Vec<String> {
        let ips = act(conf).unwrap()["ips"].clone();
        ips.as_array().unwrap().iter().map(|it| it["address"].as_str().unwrap().to_owned()).collect()
    };
    let by_runtime = json!({"runtimeConfig": {"ips": ["10.1.0.6/24", "fd00::6/64"]}, "args": {"cni": {"ips": ["10.1.0.7/24"]}}});
    assert_eq!(
        addresses(&conf(&by_runtime, &ipam)),
        ["10.1.0.6/24", "fd00::6/64"],
        "the capability comes first"
    );
    let by_args = json!({"args": {"cni": {"ips": ["10.1.0.7/24"]}}});
    assert_eq!(addresses(&conf(&by_args, &ipam)), ["10.1.0.7/24"], "then args");
    let call = Call {
        command: "ADD",
        plugin: "static",
        id: "c",
        netns: "/unused".into(),
        args: "IgnoreUnknown=1;IP=10.1.0.8/24,fd00::8/64;GATEWAY=10.1.0.1,fd00::1",
    };
    let by_environment = world.call(&call, &conf(&json!({}), &ipam)).unwrap();
    assert_eq!(
        by_environment["ips"],
        json!([{"address": "10.1.0.8/24", "gateway": "10.1.0.1"}, {"address": "fd00::8/64", "gateway": "fd00::1"}])
    );

    let plain = conf(&json!({}), &ipam);
    world.act("CHECK", "c", "/unused", &with_result(&plain, &result)).unwrap();
    let mut other = with_result(&plain, &result);
    other["prevResult"]["ips"] = json!([]);
    assert_eq!(world.act("CHECK", "c", "/unused", &other).unwrap_err()["code"], 101);
    for command in ["DEL", "DEL"] {
        world.act(command, "c", "/unused", &plain).unwrap();
    }
    world.act("STATUS", "", "", &plain).unwrap();
}

#[test]
fn bad_addresses_are_named() {
    let world = World::new();
    let check = |ipam: Value, msg: &str| {
        let err = world.act("ADD", "c", "/unused", &conf(&json!({}), &ipam)).unwrap_err();
        assert!(err["code"] == 7 && err["msg"].as_str().unwrap().contains(msg), "{err}");
    };
    check(json!({"type": "static"}), "no address is given");
    check(
        json!({"type": "static", "addresses": [{"address": "10.1.0.5"}]}),
        "\"10.1.0.5\" is not an address with a prefix",
    );
    check(
        json!({"type": "static", "addresses": [{"address": "10.1.0.5/24", "gateway": "fd00::1"}]}),
        "not of the family",
    );
}
