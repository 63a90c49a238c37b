use crate::world::{Namespace, World, with_result};
use serde_json::json;

/// Our table as `nft` has to show it.
const TABLE: &str = r#"
table inet coracle_cni {
  set masq4 { type ipv4_addr; }
  set masq6 { type ipv6_addr; }
  set near4 { type ipv4_addr . ipv4_addr; flags interval; }
  set near6 { type ipv6_addr . ipv6_addr; flags interval; }
  map one4 { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }
  map any4 { type inet_proto . inet_service : ipv4_addr . inet_service; }
  set back4 { type ipv4_addr . ipv4_addr; flags interval; }
  set all4 { type ipv4_addr; }
  map one6 { type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service; }
  map any6 { type inet_proto . inet_service : ipv6_addr . inet_service; }
  set back6 { type ipv6_addr . ipv6_addr; flags interval; }
  set all6 { type ipv6_addr; }
  chain pods_out {
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr @masq4 ip saddr . ip daddr != @near4 ip daddr != 224.0.0.0/4 masquerade fully-random
    ip6 saddr @masq6 ip6 saddr . ip6 daddr != @near6 ip6 daddr != ff00::/8 masquerade fully-random
  }
  chain hostports {
    dnat ip to ip daddr . meta l4proto . th dport map @one4
    dnat ip6 to ip6 daddr . meta l4proto . th dport map @one6
    meta nfproto ipv4 dnat ip to meta l4proto . th dport map @any4
    ip6 daddr != ::1 dnat ip6 to meta l4proto . th dport map @any6
  }
  chain hostports_in { type nat hook prerouting priority dstnat; policy accept; fib daddr type local jump hostports; }
  chain hostports_local { type nat hook output priority -100; policy accept; fib daddr type local jump hostports; }
  chain hostports_back {
    type nat hook postrouting priority srcnat - 5; policy accept;
    ct status dnat ip saddr . ip daddr @back4 masquerade fully-random
    ct status dnat ip6 saddr . ip6 daddr @back6 masquerade fully-random
    ct status dnat ip daddr @all4 masquerade fully-random
    ct status dnat ip6 daddr @all6 masquerade fully-random
  }
  chain hostports_guard {
    type filter hook input priority filter; policy accept;
    iifname != "lo" ip daddr 127.0.0.0/8 ct state new,invalid,untracked drop
  }
}
"#;

const ELEMENTS: &str = r#"
add element inet coracle_cni masq4 { 10.77.0.2 comment "OWNER" }
add element inet coracle_cni near4 { 10.77.0.2 . 10.77.0.0/24 comment "OWNER" }
add element inet coracle_cni masq6 { fd00:77::2 comment "OWNER" }
add element inet coracle_cni near6 { fd00:77::2 . fd00:77::/64 comment "OWNER" }
add element inet coracle_cni any4 { tcp . 8080 comment "OWNER" : 10.77.0.2 . 80 }
add element inet coracle_cni any6 { tcp . 8080 comment "OWNER" : fd00:77::2 . 80 }
add element inet coracle_cni one4 { 192.0.2.1 . udp . 53 comment "OWNER" : 10.77.0.2 . 53 }
add element inet coracle_cni back4 { 10.77.0.0/24 . 10.77.0.2 comment "OWNER" }
add element inet coracle_cni back4 { 127.0.0.0/8 . 10.77.0.2 comment "OWNER" }
add element inet coracle_cni back6 { fd00:77::/64 . fd00:77::2 comment "OWNER" }
"#;

/// The kernel lists elements as they come; `nft` breaks long lists.
fn shown(host: &Namespace) -> String {
    let listed = host.run("nft -n list table inet coracle_cni");
    let joined = listed.replace(",\n\t\t\t     ", ", ");
    let sorted = joined.lines().map(|line| match line.trim().strip_prefix("elements = { ") {
        Some(elements) => {
            let mut all: Vec<&str> = elements.trim_end_matches(" }").split(", ").collect();
            all.sort_unstable();
            all.join(", ")
        }
        None => line.to_owned(),
    });
    sorted.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_tables_are_as_nft_would_have_made_them() {
    let world = World::new();
    let container = Namespace::new();
    let ipam = json!({"type": "host-local", "dataDir": world.lease_dir(),
        "ranges": [[{"subnet": "10.77.0.0/24"}], [{"subnet": "fd00:77::/64"}]]});
    let bridge = world.bridge_conf(&json!({"ipMasq": true, "ipam": ipam}));
    let result = world.add("c", &container, &bridge).unwrap();
    let mappings = json!([{"hostPort": 8080, "containerPort": 80},
        {"hostPort": 53, "containerPort": 53, "protocol": "udp", "hostIP": "192.0.2.1"}]);
    let portmap = with_result(
        &json!({"cniVersion": "1.1.0", "name": "net", "type": "portmap", "runtimeConfig": {"portMappings": mappings}}),
        &result,
    );
    world.add("c", &container, &portmap).unwrap();
    let ours = shown(&world.host);
    world.add("c", &container, &portmap).unwrap();
    assert_eq!(shown(&world.host), ours, "once more changes nothing");

    let tool = Namespace::new();
    let owner = ours.split("comment \"").nth(1).unwrap().split('"').next().unwrap();
    std::fs::write(
        world.dir.path().join("table.nft"),
        format!("{TABLE}{}", ELEMENTS.replace("OWNER", owner)),
    )
    .unwrap();
    tool.run(&format!("nft -f {}", world.dir.path().join("table.nft").display()));
    assert_eq!(ours, shown(&tool));
    // What an older version left through nft is taken over, not fought.
    let (old, mut conf) = (World::new(), bridge);
    conf["ipam"]["dataDir"] = json!(old.lease_dir());
    old.host.run(&format!("nft -f {}", world.dir.path().join("table.nft").display()));
    old.add("c", &Namespace::new(), &conf).unwrap();
    assert_eq!(shown(&old.host), ours);
}
