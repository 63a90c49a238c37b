use crate::world::{Namespace, World, with_result};
use serde_json::{Value, json};

fn conf(extra: &Value, before: &Value) -> Value {
    let mut conf = json!({"cniVersion": "1.1.0", "name": "net", "type": "sbr"});
    for (key, value) in extra.as_object().unwrap() {
        conf[key] = value.clone();
    }
    with_result(&conf, before)
}

#[test]
fn answers_leave_by_the_interface_they_were_asked_through() {
    let (world, container) = (World::new(), Namespace::new());
    // A first interface that has the default route.
    container
        .run("ip link add eth9 type veth peer name other9 && ip link set eth9 up && ip link set other9 up");
    container.run("ip addr add 10.99.0.2/24 dev eth9 && ip route add default via 10.99.0.1 metric 5");
    let ipam = json!({"type": "host-local", "dataDir": world.lease_dir(),
        "ranges": [[{"subnet": "10.77.0.0/24"}], [{"subnet": "fd00:77::/64"}]],
        "routes": [{"dst": "0.0.0.0/0", "priority": 10}, {"dst": "10.5.0.0/16"}]});
    let attached = world.add("c", &container, &world.bridge_conf(&json!({"ipam": ipam}))).unwrap();
    let conf = conf(&json!({}), &attached);
    assert_eq!(world.add("c", &container, &conf).unwrap(), attached);
    assert!(container.run("ip route get 192.0.2.1").contains("dev eth9"));
    assert!(container.run("ip route get 192.0.2.1 from 10.77.0.2").contains("via 10.77.0.1 dev eth0"));
    assert!(container.run("ip -6 route get 2001:db8::1 from fd00:77::2").contains("via fd00:77::1 dev eth0"));
    assert_eq!(
        container.run("ip route show dev eth0").trim(),
        "10.77.0.0/24 proto kernel scope link src 10.77.0.2"
    );
    assert!(container.run("ip route show table 100").contains("10.5.0.0/16 via 10.77.0.1 dev eth0"));
    world.act("CHECK", "c", &container.path(), &conf).unwrap();
    container.run("ip rule del from 10.77.0.2");
    let err = world.act("CHECK", "c", &container.path(), &conf).unwrap_err();
    assert_eq!(
        (&err["code"], &err["msg"]),
        (&json!(101), &json!("packets from 10.77.0.2 have no rule any more"))
    );
    for _ in 0..2 {
        world.del("c", &container.path(), &conf).unwrap();
    }
    assert!(!container.run("ip rule; ip -6 rule").contains("77"));
    world.del("c", "/gone", &conf).unwrap();
}

#[test]
fn the_table_may_be_named_and_what_makes_no_sense_is_refused() {
    let (world, container) = (World::new(), Namespace::new());
    let attached = world.add("c", &container, &world.bridge_conf(&json!({}))).unwrap();
    world.add("c", &container, &conf(&json!({"table": 4321}), &attached)).unwrap();
    assert!(container.run("ip rule").contains("from 10.77.0.2 lookup 4321"));
    world.del("c", &container.path(), &conf(&json!({"table": 4321}), &attached)).unwrap();
    let mut bare = attached.clone();
    bare["ips"] = json!([]);
    let err = world.add("c", &container, &conf(&json!({}), &bare)).unwrap_err();
    assert_eq!((&err["code"], &err["msg"]), (&json!(7), &json!("sbr: prevResult gives eth0 no address")));
}
