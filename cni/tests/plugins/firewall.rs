use crate::world::{Namespace, World, with_result};
use serde_json::{Value, json};

fn conf(extra: &Value, before: &Value) -> Value {
    let mut conf = json!({"cniVersion": "1.1.0", "name": "net", "type": "firewall", "backend": "iptables"});
    for (key, value) in extra.as_object().unwrap() {
        conf[key] = value.clone();
    }
    if conf.get("prevResult").is_some() { conf } else { with_result(&conf, before) }
}

/// A container on a bridge of its own, on a host that forwards nothing by itself.
fn attach(world: &World, number: u8, id: &str) -> (Namespace, Value) {
    let container = Namespace::new();
    let ipam = json!({"type": "host-local", "dataDir": world.lease_dir(), "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
        "ranges": [[{"subnet": format!("10.{number}.0.0/24")}], [{"subnet": format!("fd00:{number}::/64")}]]});
    let extra = json!({"bridge": format!("br{number}"), "ipam": ipam, "name": format!("net{number}")});
    let result = world.add(id, &container, &world.bridge_conf(&extra)).unwrap();
    (container, result)
}

#[test]
fn packets_pass_a_firewall_that_lets_nothing_else_pass() {
    let world = World::new();
    world.host.run("iptables -P FORWARD DROP && ip6tables -P FORWARD DROP");
    let (one, first) = attach(&world, 71, "one");
    let (_two, _second) = attach(&world, 72, "two");
    assert!(one.is_cut_off_from("10.72.0.2"));
    let conf = conf(&json!({"iptablesAdminChainName": "MY-ADMIN"}), &first);
    assert_eq!(world.add("one", &one, &conf).unwrap(), first);
    assert!(one.reaches("10.72.0.2"));
    assert!(one.reaches("fd00:72::2"));
    // The administrator's chain comes before.
    world.host.run("iptables -A MY-ADMIN -d 10.72.0.2 -j DROP");
    assert!(one.is_cut_off_from("10.72.0.2"));
    world.host.run("iptables -F MY-ADMIN");
    world.add("one", &one, &conf).unwrap();
    let rules = world.host.run("iptables-save -t filter");
    assert_eq!(rules.matches("10.71.0.2").count(), 2, "once more changes nothing: {rules}");
    assert_eq!(rules.matches("-A FORWARD ").count(), 1, "{rules}");
    world.act("CHECK", "one", &one.path(), &conf).unwrap();
    world.host.run("iptables -D FORWARD 1");
    assert_eq!(world.act("CHECK", "one", &one.path(), &conf).unwrap_err()["code"], 101);
    world.add("one", &one, &conf).unwrap();
    world.act("STATUS", "", "", &conf).unwrap();
    let mut without = conf.clone();
    without.as_object_mut().unwrap().remove("prevResult");
    for _ in 0..2 {
        world.del("one", "", &without).unwrap();
    }
    assert!(!world.host.run("iptables-save; ip6tables-save").contains("71"));
    world.add("one", &one, &conf).unwrap();
    let mut gc = without;
    gc["cni.dev/valid-attachments"] = json!([]);
    world.act("GC", "", "", &gc).unwrap();
    assert!(!world.host.run("iptables-save; ip6tables-save").contains("71"));
}

#[test]
fn bridges_are_kept_apart() {
    let world = World::new();
    let (one, first) = attach(&world, 71, "one");
    let (two, second) = attach(&world, 72, "two");
    let (_more, third) = attach(&world, 71, "more");
    assert!(one.reaches("10.72.0.2"));
    let policy = |policy: &str, before: &Value| conf(&json!({"ingressPolicy": policy}), before);
    world.add("one", &one, &policy("open", &first)).unwrap();
    assert!(one.reaches("10.72.0.2"));
    world.add("one", &one, &policy("same-bridge", &first)).unwrap();
    world.add("one", &one, &policy("same-bridge", &first)).unwrap();
    let rules = world.host.run("iptables-save -t filter");
    assert_eq!(rules.matches("-A CNI-ISOLATION-STAGE-1").count(), 2, "once more changes nothing: {rules}");
    world.add("two", &two, &policy("same-bridge", &second)).unwrap();
    for target in ["10.72.0.2", "fd00:72::2"] {
        assert!(one.is_cut_off_from(target), "{target}");
    }
    assert!(one.reaches("10.71.0.3"));
    assert!(one.reaches("10.71.0.1"));
    // Isolated ones do not see each other on the same bridge either.
    world.add("one", &one, &policy("isolated", &first)).unwrap();
    world.add("more", &_more, &policy("isolated", &third)).unwrap();
    assert!(one.is_cut_off_from("10.71.0.3"));
    assert!(one.reaches("10.71.0.1"));
    let mut lost = policy("same-bridge", &first);
    lost["prevResult"]["interfaces"] = json!([]);
    let err = world.add("one", &one, &lost).unwrap_err();
    assert!(err["msg"].as_str().unwrap().contains("ingressPolicy needs a bridge"), "{err}");
}

#[test]
fn firewalld_through_its_client() {
    // The daemon needs a system bus: its client is played by a script that keeps a list of sources.
    let (world, container) = (World::new(), Namespace::new());
    let list = world.dir.path().join("sources");
    let tools = world.dir.path().join("tools");
    std::fs::create_dir(&tools).unwrap();
    let script = format!(
        "#!/bin/sh\ncase \"$1\" in --zone=pods|--info-zone=pods) ;; *) echo INVALID_ZONE >&2; exit 112;; esac\n\
         case \"$2\" in\n--add-source=*) echo \"${{2#*=}}\" >> {0};;\n\
         --remove-source=*) grep -qx \"${{2#*=}}\" {0} || {{ echo NOT_ENABLED >&2; exit 1; }}; sed -i \"/^${{2#*=}}$/d\" {0};;\n\
         --query-source=*) grep -qx \"${{2#*=}}\" {0};;\nesac\n",
        list.display()
    );
    let tool = tools.join("firewall-cmd");
    std::fs::write(&tool, script).unwrap();
    container.run(&format!("chmod +x {}", tool.display()));
    let before =
        json!({"cniVersion": "1.1.0", "ips": [{"address": "10.1.0.5/24"}, {"address": "fd00::5/64"}]});
    let conf = |zone: &str| conf(&json!({"backend": "firewalld", "firewalldZone": zone}), &before);
    let path = format!("{}:{}", tools.display(), std::env::var("PATH").unwrap());
    let act = |command: &str, conf: &Value| {
        world.act_with(command, "c", &container.path(), conf, &[("PATH", &path)])
    };
    act("STATUS", &conf("pods")).unwrap();
    act("ADD", &conf("pods")).unwrap();
    assert_eq!(std::fs::read_to_string(&list).unwrap(), "10.1.0.5\nfd00::5\n");
    act("CHECK", &conf("pods")).unwrap();
    for _ in 0..2 {
        act("DEL", &conf("pods")).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&list).unwrap(), "");
    assert_eq!(act("CHECK", &conf("pods")).unwrap_err()["code"], 101);
    let err = act("ADD", &conf("nope")).unwrap_err();
    assert!(err["code"] == 100 && format!("{err}").contains("INVALID_ZONE"), "{err}");
    assert_eq!(act("STATUS", &conf("nope")).unwrap_err()["code"], 50);
}

#[test]
fn refusals() {
    let world = World::new();
    let before = json!({"cniVersion": "1.1.0", "ips": [{"address": "10.1.0.5/24"}]});
    let check = |extra: Value, msg: &str| {
        let err = world.act("ADD", "c", "/unused", &conf(&extra, &before)).unwrap_err();
        assert!(err["code"] == 7 && format!("{err}").contains(msg), "{err}");
    };
    check(json!({"backend": "x"}), "not one of iptables, firewalld");
    check(json!({"ingressPolicy": "x"}), "not one of open, same-bridge, isolated");
    check(json!({"iptablesAdminChainName": "a b"}), "is not the name of a chain");
    check(json!({"prevResult": null}), "needs prevResult");
}
