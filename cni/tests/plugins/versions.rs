//! Every version of the specification, every plugin.

use crate::world::{Namespace, World, with_result};
use serde_json::{Value, json};

const VERSIONS: [&str; 7] = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// What a version lets a result say of addresses.
fn addresses(result: &Value) -> Vec<String> {
    let text = |it: &Value| it.as_str().map(str::to_owned);
    let new = result["ips"].as_array().into_iter().flatten().filter_map(|it| text(&it["address"]));
    let old = ["ip4", "ip6"].into_iter().filter_map(|key| text(&result[key]["ip"]));
    new.chain(old).collect()
}

#[test]
fn every_plugin_speaks_every_version() {
    // At once: where IPv6 looks for duplicates an ADD takes a second or two.
    std::thread::scope(|scope| {
        for version in VERSIONS {
            for kind in ["bridge", "ptp", "macvlan", "host-device", "static", "host-local", "flannel"] {
                scope.spawn(move || whole_life(kind, version));
            }
        }
    });
}

fn whole_life(kind: &str, version: &str) {
    let (world, container) = (World::new(), Namespace::new());
    world.host.run("ip link add up0 type veth peer name up1 && ip link set up0 up && ip link set up1 up");
    let subnet =
        "FLANNEL_NETWORK=10.77.0.0/16\nFLANNEL_SUBNET=10.77.0.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n";
    std::fs::write(world.dir.path().join("subnet.env"), subnet).unwrap();
    let local = json!({"type": "host-local", "dataDir": world.lease_dir(),
                "ranges": [[{"subnet": "10.77.0.0/24"}], [{"subnet": "fd00:77::/64"}]]});
    let ipam = match kind {
        "static" => {
            json!({"type": "static", "addresses": [{"address": "10.77.0.2/24"}, {"address": "fd00:77::2/64"}]})
        }
        "flannel" => json!({"dataDir": world.lease_dir()}),
        _ => local,
    };
    let conf = world.conf(kind, &ipam, &json!({"cniVersion": version, "master": "up0", "device": "up0",
                "subnetFile": world.dir.path().join("subnet.env"), "dataDir": world.dir.path().join("flannel")}));
    let result = world.add("c", &container, &conf).unwrap_or_else(|err| panic!("{kind} {version}: {err}"));
    assert_eq!(result["cniVersion"], version);
    let wanted: &[&str] =
        if kind == "flannel" { &["10.77.0.2/24"] } else { &["10.77.0.2/24", "fd00:77::2/64"] };
    assert_eq!(addresses(&result), wanted, "{kind} {version}");
    let with = with_result(&conf, &result);
    let checked = world.act("CHECK", "c", &container.path(), &with);
    if version < "0.4.0" {
        assert_eq!(checked.unwrap_err()["code"], 1, "{kind} {version} has no CHECK");
    } else {
        checked.unwrap_or_else(|err| panic!("CHECK {kind} {version}: {err}"));
    }
    let status = world.act("STATUS", "", "", &conf);
    assert_eq!(status.is_ok(), version == "1.1.0", "{kind} {version}: {status:?}");
    // Before 0.4.0 a runtime has no result to pass.
    world.del("c", &container.path(), if version < "0.4.0" { &conf } else { &with }).unwrap();
    assert_eq!(world.leases("net").len(), 0, "{kind} {version}");
}

#[test]
fn plugins_of_a_chain_pass_the_result_on_in_every_version() {
    for version in VERSIONS {
        let (world, container) = (World::new(), Namespace::new());
        let result = world.add("c", &container, &world.bridge_conf(&json!({"cniVersion": version}))).unwrap();
        for kind in ["tuning", "bandwidth", "portmap", "firewall", "sbr"] {
            let conf = json!({"cniVersion": version, "name": "net", "type": kind, "backend": "iptables",
                "dataDir": world.dir.path().join("tuning")});
            let conf = with_result(&conf, &result);
            let passed =
                world.add("c", &container, &conf).unwrap_or_else(|err| panic!("{kind} {version}: {err}"));
            assert_eq!(addresses(&passed), addresses(&result), "{kind} {version}");
            world.del("c", &container.path(), &conf).unwrap();
        }
    }
}

#[test]
fn name_servers_of_the_runtime_come_before_those_of_the_configuration() {
    let (world, container) = (World::new(), Namespace::new());
    let conf = world.bridge_conf(&json!({"dns": {"nameservers": ["10.0.0.1"], "domain": "a.b"}}));
    let result = world.add("c", &container, &conf).unwrap();
    assert_eq!(result["dns"], json!({"nameservers": ["10.0.0.1"], "domain": "a.b"}));
    world.del("c", &container.path(), &conf).unwrap();
    let mut conf = conf;
    conf["runtimeConfig"] = json!({"dns": {"servers": ["10.0.0.2"], "searches": ["c.d"], "options": ["ndots:5"]},
        "aliases": ["web"]});
    let result = world.add("c", &container, &conf).unwrap();
    assert_eq!(
        result["dns"],
        json!({"nameservers": ["10.0.0.2"], "search": ["c.d"], "options": ["ndots:5"]})
    );
}
