use crate::world::{Namespace, REFERENCE, World, address, footprint, with_result};
use serde_json::{Value, json};
use std::path::Path;

/// Plugins out of two folders: ours, but for the named ones, which are the reference's.
fn mixed(theirs: &[&str]) -> World {
    assert!(Path::new(REFERENCE).join("bridge").exists(), "install the package containernetworking-plugins");
    let mut world = World::new();
    let first = world.dir.path().join("mixed");
    std::fs::create_dir(&first).unwrap();
    for name in theirs {
        std::os::unix::fs::symlink(Path::new(REFERENCE).join(name), first.join(name)).unwrap();
    }
    world.path = format!("{}:{}", first.display(), world.path);
    world
}

fn conf(world: &World, version: &str) -> Value {
    world.bridge_conf(&json!({"cniVersion": version}))
}

#[test]
fn their_bridge_with_our_host_local_and_the_reverse() {
    for theirs in [["bridge"], ["host-local"]] {
        for version in ["0.3.1", "0.4.0", "1.0.0"] {
            let world = mixed(&theirs);
            let container = Namespace::new();
            let conf = conf(&world, version);
            let result = world.add("c", &container, &conf).unwrap();
            assert_eq!(
                (address(&result).as_str(), result["cniVersion"].as_str()),
                ("10.77.0.2", Some(version))
            );
            assert!(container.run("ip addr show eth0").contains("10.77.0.2/24"));
            let conf = with_result(&conf, &result);
            if version != "0.3.1" {
                world.act("CHECK", "c", &container.path(), &conf).unwrap();
            }
            world.del("c", &container.path(), &conf).unwrap();
            assert_eq!(footprint(&world, "net"), "", "{theirs:?} {version}");
        }
    }
}

#[test]
fn either_releases_what_the_other_leased() {
    let (ours, theirs) = (World::new(), mixed(&["host-local", "bridge"]));
    let mut conf = conf(&ours, "1.0.0");
    conf["type"] = "host-local".into();
    for (adds, dels) in [(&ours, &theirs), (&theirs, &ours)] {
        let result = adds.act("ADD", "c", "/x", &conf).unwrap();
        assert_eq!(ours.leases("net").len(), 1);
        let err = dels.act("ADD", "c", "/x", &conf).unwrap_err();
        assert!(err["msg"].as_str().unwrap().contains(&address(&result)), "{err}");
        dels.act("CHECK", "c", "/x", &with_result(&conf, &result)).unwrap();
        dels.act("DEL", "c", "/x", &conf).unwrap();
        assert_eq!(ours.leases("net").len(), 0);
    }
    let last = std::fs::read_to_string(ours.lease_dir().join("net/last_reserved_ip.0")).unwrap();
    assert_eq!(last, "10.77.0.3", "each goes on where the other was");
}

#[test]
fn results_are_what_the_reference_prints() {
    for version in ["0.2.0", "0.3.1", "0.4.0", "1.0.0"] {
        let results = [mixed(&["bridge", "host-local"]), World::new()].map(|world| {
            let container = Namespace::new();
            let mut result = world.add("c", &container, &conf(&world, version)).unwrap();
            for interface in result["interfaces"].as_array_mut().into_iter().flatten() {
                interface["mac"] = "".into();
                if interface["name"].as_str().unwrap().starts_with("veth") {
                    interface["name"] = "veth".into();
                }
                if interface["sandbox"].is_string() {
                    interface["sandbox"] = "inside".into();
                }
            }
            result
        });
        assert_eq!(results[0], results[1], "{version}");
    }
}
