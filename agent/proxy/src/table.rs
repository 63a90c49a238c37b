//! The table around the elements: sets, maps, and the chains at the kernel's hooks.

use crate::config::{PodTraffic, ProxyConfig};
use crate::rules::{Family, Node};
use std::fmt::Write;

/// What the rules of services need to know of the node.
pub(crate) fn node(config: &ProxyConfig) -> Node {
    let mark = 1 << config.masquerade_bit;
    Node { name: config.node_name.clone(), pods: config.pod_traffic.clone(), mark }
}

/// Text that replaces the whole table by an empty one.
pub(crate) fn skeleton(config: &ProxyConfig) -> String {
    let table = &config.table;
    let mut text = format!("add table inet {table}\ndelete table inet {table}\ntable inet {table} {{\n");
    for family in Family::BOTH {
        text += &objects(family, config);
    }
    text += CHAINS;
    for family in Family::BOTH {
        text += &dispatch(family);
    }
    text += &hooks(config);
    text + "}\n"
}

fn objects(family: Family, config: &ProxyConfig) -> String {
    let (ip, n) = (family.ip(), family.digit());
    let addr = if family == Family::V4 { "ipv4_addr" } else { "ipv6_addr" };
    let front = format!("{addr} . inet_proto . inet_service");
    let pick =
        format!("typeof {ip} daddr . meta l4proto . th dport . numgen random mod 2 : {ip} daddr . th dport");
    let node_pick = format!("typeof meta l4proto . th dport . numgen random mod 2 : {ip} daddr . th dport");
    let localhost =
        config.localhost_node_ports.then(|| "127.0.0.1".to_owned()).filter(|_| family == Family::V4);
    let node_ips =
        config.node_ips.iter().filter(|addr| Family::of(**addr) == family).map(ToString::to_string);
    let node_ips: Vec<String> = node_ips.chain(localhost).collect();
    let pods: Vec<String> = match &config.pod_traffic {
        PodTraffic::Cidrs(cidrs) => cidrs
            .iter()
            .filter(|it| Family::of(it.addr()) == family)
            .map(|it| it.network().to_string())
            .collect(),
        PodTraffic::Interface(_) | PodTraffic::Unknown => vec![],
    };
    format!(
        "  set pods{n} {{ type {addr}; flags interval; auto-merge; {} }}
  set node_ips{n} {{ type {addr}; {} }}
  set cluster_ips{n} {{ type {addr}; }}
  set hairpin{n} {{ type {addr} . {addr}; }}
  set fenced{n} {{ type {front}; }}
  set let_in{n} {{ type {front} . {addr}; flags interval; }}
  map services{n} {{ type {front} : verdict; }}
  map nodeports{n} {{ type inet_proto . inet_service : verdict; }}
  map refused{n} {{ type {front} : verdict; }}
  map refused_nodeports{n} {{ type inet_proto . inet_service : verdict; }}
  map endpoints{n} {{ {pick}; }}
  map local_endpoints{n} {{ {pick}; }}
  map node_endpoints{n} {{ {node_pick}; }}
  map node_local_endpoints{n} {{ {node_pick}; }}
",
        elements(&pods),
        elements(&node_ips),
    )
}

fn elements(list: &[String]) -> String {
    if list.is_empty() { String::new() } else { format!("elements = {{ {} }}", list.join(", ")) }
}

const CHAINS: &str = "  chain refuse {
    meta l4proto tcp reject with tcp reset
    reject
  }
";

fn dispatch(family: Family) -> String {
    let (ip, n) = (family.ip(), family.digit());
    format!(
        "  chain fence{n} {{
    {ip} daddr . meta l4proto . th dport @fenced{n} {ip} daddr . meta l4proto . th dport . {ip} saddr != @let_in{n} drop
  }}
  chain translate{n} {{
    {ip} daddr . meta l4proto . th dport vmap @services{n}
    {ip} daddr @node_ips{n} meta l4proto . th dport vmap @nodeports{n}
  }}
  chain refusals{n} {{
    {ip} daddr . meta l4proto . th dport vmap @refused{n}
    {ip} daddr @node_ips{n} meta l4proto . th dport vmap @refused_nodeports{n}
    {ip} daddr @cluster_ips{n} fib daddr type != local goto refuse
  }}
"
    )
}

/// A cluster IP that is still the destination after translation has no such port, or no endpoint. One that is
/// an address of the node itself (cluster DNS) is served here.
fn hooks(config: &ProxyConfig) -> String {
    let by_family = "meta nfproto vmap { ipv4 : jump NAME4, ipv6 : jump NAME6 }";
    let hook = |name: &str, to: &str, kind: &str, state: &str| {
        format!(
            "  chain {name} {{\n    type {kind}; policy accept;\n    {state}{}\n  }}\n",
            by_family.replace("NAME", to)
        )
    };
    let mut text = hook("fence_in", "fence", "filter hook prerouting priority dstnat - 10", "ct state new ");
    text += &hook("translate_in", "translate", "nat hook prerouting priority dstnat", "");
    text += &hook("translate_out", "translate", "nat hook output priority -100", "");
    text += &hook("refuse_in", "refusals", "filter hook prerouting priority dstnat + 10", "ct state new ");
    text += &hook("refuse_out", "refusals", "filter hook output priority -90", "ct state new ");
    let (bit, rest) = (1_u32 << config.masquerade_bit, !(1_u32 << config.masquerade_bit));
    let _ = write!(
        text,
        "  chain postrouting {{
    type nat hook postrouting priority srcnat - 1; policy accept;
    meta mark & {bit:#x} != 0 meta mark set meta mark & {rest:#x} masquerade fully-random
    ct status dnat ip saddr . ip daddr @hairpin4 masquerade fully-random
    ct status dnat ip6 saddr . ip6 daddr @hairpin6 masquerade fully-random
  }}
"
    ); // writing to a String does not fail
    if config.localhost_node_ports {
        text += "  chain guard {
    type filter hook input priority filter; policy accept;
    iifname != \"lo\" ip daddr 127.0.0.0/8 ct state new,invalid,untracked drop
  }
";
    }
    text
}
