//! Services as text: compared whole, and loaded by nft in a namespace of its own.

use super::host::Namespace;
use crate::state::{Input, State};
use crate::views::{Service, Slice};
use crate::{PodTraffic, ProxyConfig};
use coracle_client::Key;
use expect_test::{Expect, expect};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A service and its slices.
type Objects = (Value, Vec<Value>);

/// A cluster in memory, and a kernel that must accept every text.
struct Cluster {
    state: State,
    objects: BTreeMap<Key, Objects>,
    kernel: Namespace,
}

impl Cluster {
    fn new() -> Cluster {
        let pods = PodTraffic::Cidrs(vec!["10.77.0.0/16".parse().unwrap(), "fd00:77::/48".parse().unwrap()]);
        let node_ips = vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
        let cluster = Cluster {
            state: State::new(ProxyConfig::new("n1", node_ips, pods)),
            objects: BTreeMap::new(),
            kernel: Namespace::new(),
        };
        cluster.load(&cluster.state.full());
        cluster
    }

    fn load(&self, text: &str) {
        let loaded = self.kernel.enter(|| coracle_cni::nft::apply(text));
        loaded.unwrap_or_else(|err| panic!("{err}\n{text}"));
    }

    /// Changes services in one batch; the text must load, and the table must be what a full load makes it.
    fn change(&mut self, changes: &[(&str, Option<Objects>)]) -> String {
        for (name, object) in changes {
            let key = Key::new("ns", *name);
            match object {
                Some(object) => self.objects.insert(key, object.clone()),
                None => self.objects.remove(&key),
            };
        }
        let read = |key: &Key| {
            let (service, slices) = self.objects.get(key)?;
            let service: Service = serde_json::from_value(service.clone()).unwrap();
            let slices =
                slices.iter().map(|it| Arc::new(serde_json::from_value::<Slice>(it.clone()).unwrap()));
            Some(Input { service: Arc::new(service), slices: slices.collect() })
        };
        let keys = changes.iter().map(|(name, _)| Key::new("ns", *name)).collect();
        let delta = self.state.change(keys, read);
        let text = if delta.whole { self.state.full() } else { delta.text };
        self.load(&text);
        let rules = |kernel: &Namespace| kernel.run("nft -s list table inet coracle");
        let fresh = Namespace::new();
        fresh.enter(|| coracle_cni::nft::apply(&self.state.full())).unwrap();
        assert_eq!(sorted(&rules(&self.kernel)), sorted(&rules(&fresh)), "after:\n{text}");
        text
    }
}

/// The listing with the elements of each set and the objects in one order: nft's depends on history.
fn sorted(listing: &str) -> Vec<String> {
    let text = listing.replace(",\n", ", ").replace("elements = {", "\nelements = {\n").replace(", ", "\n");
    let mut lines: Vec<String> = text
        .lines()
        .map(|line| line.trim().trim_end_matches('}').trim().to_owned())
        .filter(|it| !it.is_empty())
        .collect();
    lines.sort();
    lines
}

fn service(spec: Value) -> Value {
    let mut spec = spec;
    spec["clusterIP"] = spec["clusterIPs"][0].clone();
    json!({"metadata": {"name": "web", "namespace": "ns"}, "spec": spec})
}

/// Endpoints as `address`, `address@node`, with `!` for one that is not ready and `~` for one that ends.
fn slice(kind: &str, port: Value, endpoints: &[&str]) -> Value {
    let endpoint = |text: &&str| {
        let (state, rest) = match text.split_at(1) {
            ("!", rest) => (json!({"ready": false}), rest),
            ("~", rest) => (json!({"ready": false, "serving": true, "terminating": true}), rest),
            _ => (json!({"ready": true}), *text),
        };
        let (addr, node) = rest.split_once('@').unwrap_or((rest, "n2"));
        json!({"addresses": [addr], "nodeName": node, "conditions": state})
    };
    let endpoints: Vec<Value> = endpoints.iter().map(endpoint).collect();
    json!({"metadata": {"name": "web-1", "namespace": "ns"}, "addressType": kind, "ports": [port], "endpoints": endpoints})
}

fn check(spec: Value, slices: Vec<Value>, wanted: &Expect) {
    let mut cluster = Cluster::new();
    wanted.assert_eq(&cluster.change(&[("web", Some((service(spec), slices)))]));
    let gone = cluster.change(&[("web", None)]);
    assert!(
        cluster.state.full().lines().filter(|line| line.starts_with("add element")).count() == 0,
        "{gone}"
    );
}

fn http() -> Value {
    json!({"name": "http", "protocol": "TCP", "port": 8080})
}

#[test]
fn a_cluster_ip() {
    let spec = json!({"type": "ClusterIP", "clusterIPs": ["10.96.0.5"],
        "ports": [{"name": "http", "protocol": "TCP", "port": 80}]});
    let slices = vec![slice("IPv4", http(), &["10.77.0.2@n1", "10.77.1.2", "!10.77.1.3", "~10.77.1.4"])];
    check(
        spec,
        slices,
        &expect![[r#"
            add chain inet coracle pick4-2/cluster
            flush chain inet coracle pick4-2/cluster
            add rule inet coracle pick4-2/cluster ip saddr != @pods4 meta mark set meta mark or 0x4000
            add rule inet coracle pick4-2/cluster goto pick4-2
            add element inet coracle cluster_ips4 { 10.96.0.5 }
            add element inet coracle endpoints4 { 10.96.0.5 . tcp . 80 . 0 : 10.77.0.2 . 8080, 10.96.0.5 . tcp . 80 . 1 : 10.77.1.2 . 8080 }
            add element inet coracle hairpin4 { 10.77.0.2 . 10.77.0.2 }
            add element inet coracle services4 { 10.96.0.5 . tcp . 80 : goto pick4-2/cluster }
        "#]],
    );
}

#[test]
fn both_families_and_a_node_port() {
    let spec = json!({"type": "NodePort", "clusterIPs": ["10.96.0.5", "fd00:96::5"],
        "ports": [{"name": "http", "protocol": "TCP", "port": 80, "nodePort": 30080}]});
    let slices = vec![slice("IPv4", http(), &["10.77.1.2"]), slice("IPv6", http(), &["fd00:77:1::2"])];
    check(
        spec,
        slices,
        &expect![[r#"
            add chain inet coracle pick4-1/cluster
            add chain inet coracle pick6-1/cluster
            add chain inet coracle picknode4-1/masq
            add chain inet coracle picknode6-1/masq
            flush chain inet coracle pick4-1/cluster
            add rule inet coracle pick4-1/cluster ip saddr != @pods4 meta mark set meta mark or 0x4000
            add rule inet coracle pick4-1/cluster goto pick4-1
            flush chain inet coracle pick6-1/cluster
            add rule inet coracle pick6-1/cluster ip6 saddr != @pods6 meta mark set meta mark or 0x4000
            add rule inet coracle pick6-1/cluster goto pick6-1
            flush chain inet coracle picknode4-1/masq
            add rule inet coracle picknode4-1/masq meta mark set meta mark or 0x4000
            add rule inet coracle picknode4-1/masq goto picknode4-1
            flush chain inet coracle picknode6-1/masq
            add rule inet coracle picknode6-1/masq meta mark set meta mark or 0x4000
            add rule inet coracle picknode6-1/masq goto picknode6-1
            add element inet coracle cluster_ips4 { 10.96.0.5 }
            add element inet coracle cluster_ips6 { fd00:96::5 }
            add element inet coracle endpoints4 { 10.96.0.5 . tcp . 80 . 0 : 10.77.1.2 . 8080 }
            add element inet coracle endpoints6 { fd00:96::5 . tcp . 80 . 0 : fd00:77:1::2 . 8080 }
            add element inet coracle node_endpoints4 { tcp . 30080 . 0 : 10.77.1.2 . 8080 }
            add element inet coracle node_endpoints6 { tcp . 30080 . 0 : fd00:77:1::2 . 8080 }
            add element inet coracle nodeports4 { tcp . 30080 : goto picknode4-1/masq }
            add element inet coracle nodeports6 { tcp . 30080 : goto picknode6-1/masq }
            add element inet coracle services4 { 10.96.0.5 . tcp . 80 : goto pick4-1/cluster }
            add element inet coracle services6 { fd00:96::5 . tcp . 80 : goto pick6-1/cluster }
        "#]],
    );
}

#[test]
fn only_endpoints_on_this_node() {
    let spec = json!({"type": "LoadBalancer", "clusterIPs": ["10.96.0.5"], "externalIPs": ["198.51.100.7"],
        "internalTrafficPolicy": "Local", "externalTrafficPolicy": "Local",
        "ports": [{"name": "http", "protocol": "TCP", "port": 80, "nodePort": 30080}]});
    let slices = vec![slice("IPv4", http(), &["10.77.0.2@n1", "10.77.1.2"])];
    check(
        spec.clone(),
        slices,
        &expect![[r#"
            add chain inet coracle pick4-1/cluster
            add chain inet coracle pick4-2/masq
            add chain inet coracle pick4-2/picklocal4-1
            add chain inet coracle picknode4-2/masq
            add chain inet coracle picknode4-2/picknodelocal4-1
            flush chain inet coracle pick4-1/cluster
            add rule inet coracle pick4-1/cluster ip saddr != @pods4 meta mark set meta mark or 0x4000
            add rule inet coracle pick4-1/cluster goto pick4-1
            flush chain inet coracle pick4-2/masq
            add rule inet coracle pick4-2/masq meta mark set meta mark or 0x4000
            add rule inet coracle pick4-2/masq goto pick4-2
            flush chain inet coracle pick4-2/picklocal4-1
            add rule inet coracle pick4-2/picklocal4-1 ip saddr @pods4 goto pick4-2
            add rule inet coracle pick4-2/picklocal4-1 fib saddr type local goto pick4-2/masq
            add rule inet coracle pick4-2/picklocal4-1 goto picklocal4-1
            flush chain inet coracle picknode4-2/masq
            add rule inet coracle picknode4-2/masq meta mark set meta mark or 0x4000
            add rule inet coracle picknode4-2/masq goto picknode4-2
            flush chain inet coracle picknode4-2/picknodelocal4-1
            add rule inet coracle picknode4-2/picknodelocal4-1 ip saddr @pods4 goto picknode4-2
            add rule inet coracle picknode4-2/picknodelocal4-1 fib saddr type local goto picknode4-2/masq
            add rule inet coracle picknode4-2/picknodelocal4-1 goto picknodelocal4-1
            add element inet coracle cluster_ips4 { 10.96.0.5 }
            add element inet coracle endpoints4 { 10.96.0.5 . tcp . 80 . 0 : 10.77.0.2 . 8080, 198.51.100.7 . tcp . 80 . 0 : 10.77.0.2 . 8080, 198.51.100.7 . tcp . 80 . 1 : 10.77.1.2 . 8080 }
            add element inet coracle hairpin4 { 10.77.0.2 . 10.77.0.2 }
            add element inet coracle local_endpoints4 { 198.51.100.7 . tcp . 80 . 0 : 10.77.0.2 . 8080 }
            add element inet coracle node_endpoints4 { tcp . 30080 . 0 : 10.77.0.2 . 8080, tcp . 30080 . 1 : 10.77.1.2 . 8080 }
            add element inet coracle node_local_endpoints4 { tcp . 30080 . 0 : 10.77.0.2 . 8080 }
            add element inet coracle nodeports4 { tcp . 30080 : goto picknode4-2/picknodelocal4-1 }
            add element inet coracle services4 { 10.96.0.5 . tcp . 80 : goto pick4-1/cluster, 198.51.100.7 . tcp . 80 : goto pick4-2/picklocal4-1 }
        "#]],
    );
    check(
        spec,
        vec![slice("IPv4", http(), &["10.77.1.2"])],
        &expect![[r#"
            add chain inet coracle pick4-1/drop
            add chain inet coracle pick4-1/masq
            add chain inet coracle picknode4-1/drop
            add chain inet coracle picknode4-1/masq
            flush chain inet coracle pick4-1/drop
            add rule inet coracle pick4-1/drop ip saddr @pods4 goto pick4-1
            add rule inet coracle pick4-1/drop fib saddr type local goto pick4-1/masq
            add rule inet coracle pick4-1/drop drop
            flush chain inet coracle pick4-1/masq
            add rule inet coracle pick4-1/masq meta mark set meta mark or 0x4000
            add rule inet coracle pick4-1/masq goto pick4-1
            flush chain inet coracle picknode4-1/drop
            add rule inet coracle picknode4-1/drop ip saddr @pods4 goto picknode4-1
            add rule inet coracle picknode4-1/drop fib saddr type local goto picknode4-1/masq
            add rule inet coracle picknode4-1/drop drop
            flush chain inet coracle picknode4-1/masq
            add rule inet coracle picknode4-1/masq meta mark set meta mark or 0x4000
            add rule inet coracle picknode4-1/masq goto picknode4-1
            add element inet coracle cluster_ips4 { 10.96.0.5 }
            add element inet coracle endpoints4 { 198.51.100.7 . tcp . 80 . 0 : 10.77.1.2 . 8080 }
            add element inet coracle node_endpoints4 { tcp . 30080 . 0 : 10.77.1.2 . 8080 }
            add element inet coracle nodeports4 { tcp . 30080 : goto picknode4-1/drop }
            add element inet coracle refused4 { 10.96.0.5 . tcp . 80 : drop }
            add element inet coracle services4 { 198.51.100.7 . tcp . 80 : goto pick4-1/drop }
        "#]],
    );
}

#[test]
fn a_client_keeps_its_endpoint() {
    let spec = json!({"type": "NodePort", "clusterIPs": ["10.96.0.5"], "sessionAffinity": "ClientIP",
        "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}},
        "ports": [{"name": "http", "protocol": "TCP", "port": 80, "nodePort": 30080}]});
    check(
        spec,
        vec![slice("IPv4", http(), &["10.77.1.2", "10.77.1.3"])],
        &expect![[r#"
            add set inet coracle clients-aeceae8400b4087f4 { type ipv4_addr; size 65535; flags dynamic,timeout; timeout 60s; }
            add set inet coracle clients-c9153d4cfe082d244 { type ipv4_addr; size 65535; flags dynamic,timeout; timeout 60s; }
            add chain inet coracle endpoint-aeceae8400b4087f4
            add chain inet coracle endpoint-c9153d4cfe082d244
            add chain inet coracle sticky-40f0bd5ce44f9f534
            add chain inet coracle sticky-40f0bd5ce44f9f534/cluster
            add chain inet coracle sticky-40f0bd5ce44f9f534/masq
            flush chain inet coracle endpoint-aeceae8400b4087f4
            add rule inet coracle endpoint-aeceae8400b4087f4 update @clients-aeceae8400b4087f4 { ip saddr }
            add rule inet coracle endpoint-aeceae8400b4087f4 meta l4proto tcp dnat ip to 10.77.1.2:8080
            flush chain inet coracle endpoint-c9153d4cfe082d244
            add rule inet coracle endpoint-c9153d4cfe082d244 update @clients-c9153d4cfe082d244 { ip saddr }
            add rule inet coracle endpoint-c9153d4cfe082d244 meta l4proto tcp dnat ip to 10.77.1.3:8080
            flush chain inet coracle sticky-40f0bd5ce44f9f534
            add rule inet coracle sticky-40f0bd5ce44f9f534 ip saddr @clients-aeceae8400b4087f4 goto endpoint-aeceae8400b4087f4
            add rule inet coracle sticky-40f0bd5ce44f9f534 ip saddr @clients-c9153d4cfe082d244 goto endpoint-c9153d4cfe082d244
            add rule inet coracle sticky-40f0bd5ce44f9f534 numgen random mod 2 vmap { 0 : goto endpoint-aeceae8400b4087f4, 1 : goto endpoint-c9153d4cfe082d244 }
            flush chain inet coracle sticky-40f0bd5ce44f9f534/cluster
            add rule inet coracle sticky-40f0bd5ce44f9f534/cluster ip saddr != @pods4 meta mark set meta mark or 0x4000
            add rule inet coracle sticky-40f0bd5ce44f9f534/cluster goto sticky-40f0bd5ce44f9f534
            flush chain inet coracle sticky-40f0bd5ce44f9f534/masq
            add rule inet coracle sticky-40f0bd5ce44f9f534/masq meta mark set meta mark or 0x4000
            add rule inet coracle sticky-40f0bd5ce44f9f534/masq goto sticky-40f0bd5ce44f9f534
            add element inet coracle cluster_ips4 { 10.96.0.5 }
            add element inet coracle nodeports4 { tcp . 30080 : goto sticky-40f0bd5ce44f9f534/masq }
            add element inet coracle services4 { 10.96.0.5 . tcp . 80 : goto sticky-40f0bd5ce44f9f534/cluster }
        "#]],
    );
}

#[test]
fn no_endpoint_and_source_ranges() {
    let mut service = service(json!({"type": "LoadBalancer", "clusterIPs": ["10.96.0.5"],
        "loadBalancerSourceRanges": ["203.0.113.0/24", "198.51.100.0/25"],
        "ports": [{"protocol": "UDP", "port": 53, "nodePort": 30053}]}));
    service["status"] = json!({"loadBalancer": {"ingress": [{"ip": "198.51.100.9"}, {"ip": "198.51.100.10", "ipMode": "Proxy"}]}});
    let mut cluster = Cluster::new();
    expect![[r#"
        add element inet coracle cluster_ips4 { 10.96.0.5 }
        add element inet coracle fenced4 { 198.51.100.9 . udp . 53 }
        add element inet coracle let_in4 { 198.51.100.9 . udp . 53 . 198.51.100.0/25, 198.51.100.9 . udp . 53 . 203.0.113.0/24 }
        add element inet coracle refused4 { 198.51.100.9 . udp . 53 : goto refuse }
        add element inet coracle refused_nodeports4 { udp . 30053 : goto refuse }
    "#]].assert_eq(&cluster.change(&[("web", Some((service, vec![])))]));
}

#[test]
fn a_change_costs_what_changes() {
    let spec = json!({"type": "ClusterIP", "clusterIPs": ["10.96.0.5"],
        "ports": [{"name": "http", "protocol": "TCP", "port": 80}]});
    let with = |endpoints: &[&str]| Some((service(spec.clone()), vec![slice("IPv4", http(), endpoints)]));
    let mut cluster = Cluster::new();
    cluster.change(&[("web", with(&["10.77.1.2", "10.77.1.3"]))]);
    let mut step =
        |endpoints: &[&str], wanted: Expect| wanted.assert_eq(&cluster.change(&[("web", with(endpoints))]));
    step(&["10.77.1.2", "10.77.1.3"], expect![[""]]);
    step(
        &["10.77.1.2", "10.77.1.4"],
        expect![[r#"
        delete element inet coracle endpoints4 { 10.96.0.5 . tcp . 80 . 1 }
        add element inet coracle endpoints4 { 10.96.0.5 . tcp . 80 . 1 : 10.77.1.4 . 8080 }
    "#]],
    );
    step(
        &["10.77.1.2"],
        expect![[r#"
            add chain inet coracle pick4-1/cluster
            flush chain inet coracle pick4-1/cluster
            add rule inet coracle pick4-1/cluster ip saddr != @pods4 meta mark set meta mark or 0x4000
            add rule inet coracle pick4-1/cluster goto pick4-1
            delete element inet coracle endpoints4 { 10.96.0.5 . tcp . 80 . 1 }
            delete element inet coracle services4 { 10.96.0.5 . tcp . 80 }
            add element inet coracle services4 { 10.96.0.5 . tcp . 80 : goto pick4-1/cluster }
        "#]],
    );
    step(
        &[],
        expect![[r#"
        delete element inet coracle endpoints4 { 10.96.0.5 . tcp . 80 . 0 }
        delete element inet coracle services4 { 10.96.0.5 . tcp . 80 }
    "#]],
    );
}

#[test]
fn more_backends_than_usual_and_fewer_again() {
    let spec = json!({"type": "NodePort", "clusterIPs": ["10.96.0.5"],
        "ports": [{"name": "http", "protocol": "TCP", "port": 80, "nodePort": 30080}]});
    let mut cluster = Cluster::new();
    for (count, whole) in [(1, false), (8, false), (9, true), (20, true), (9, false), (0, false)] {
        let endpoints: Vec<String> = (0..count).map(|number| format!("10.77.1.{number}")).collect();
        let endpoints: Vec<&str> = endpoints.iter().map(String::as_str).collect();
        let text = cluster
            .change(&[("web", Some((service(spec.clone()), vec![slice("IPv4", http(), &endpoints)])))]);
        assert_eq!(text.contains("delete table"), whole, "{count}");
    }
}

#[test]
fn affinity_follows_its_endpoints() {
    let spec = |timeout: u32| {
        json!({"type": "ClusterIP", "clusterIPs": ["10.96.0.5"], "sessionAffinity": "ClientIP",
        "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": timeout}},
        "ports": [{"name": "http", "protocol": "TCP", "port": 80}]})
    };
    let with =
        |timeout, endpoints: &[&str]| Some((service(spec(timeout)), vec![slice("IPv4", http(), endpoints)]));
    let mut cluster = Cluster::new();
    cluster.change(&[("web", with(60, &["10.77.1.2", "10.77.1.3"]))]);
    let text = cluster.change(&[("web", with(60, &["10.77.1.3", "10.77.1.4"]))]);
    assert_eq!((text.matches("delete set").count(), text.matches("add set").count()), (1, 1), "{text}");
    let text = cluster.change(&[("web", with(90, &["10.77.1.3", "10.77.1.4"]))]);
    assert_eq!((text.matches("delete set").count(), text.matches("add set").count()), (2, 2), "{text}");
    cluster.change(&[("web", None)]);
}

#[test]
fn the_first_keeps_an_address_until_it_gives_it_up() {
    let spec = |ip: &str| {
        json!({"type": "ClusterIP", "clusterIPs": [ip], "externalIPs": ["198.51.100.7"],
        "ports": [{"name": "http", "protocol": "TCP", "port": 80}]})
    };
    let with = |ip, endpoint| Some((service(spec(ip)), vec![slice("IPv4", http(), &[endpoint])]));
    let mut cluster = Cluster::new();
    cluster.change(&[("a", with("10.96.0.1", "10.77.1.1"))]);
    let text = cluster.change(&[("b", with("10.96.0.2", "10.77.1.2"))]);
    assert!(!text.contains("198.51.100.7"), "{text}");
    let text = cluster.change(&[("a", None)]);
    assert!(text.contains("198.51.100.7 . tcp . 80 . 0 : 10.77.1.2 . 8080"), "{text}");
    // Deleted and made again under another name in one batch, with the same cluster IP.
    cluster.change(&[
        ("b", None),
        ("c", with("10.96.0.2", "10.77.1.2")),
        ("a", with("10.96.0.1", "10.77.1.1")),
    ]);
}

#[test]
fn others_are_left_alone() {
    let kernel = Namespace::new();
    kernel.run("nft add table ip kube-proxy && nft add chain ip kube-proxy x && nft add table inet coracle2");
    let config = ProxyConfig::new("n1", vec![], PodTraffic::Interface("cni0".into()));
    let text = State::new(config).full();
    for _ in 0..2 {
        kernel.enter(|| coracle_cni::nft::apply(&text)).unwrap();
    }
    let cleanup = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(crate::cleanup("coracle")).unwrap();
        runtime.block_on(crate::cleanup("coracle")).unwrap();
    };
    kernel.enter(cleanup);
    let left = kernel.run("nft list tables");
    assert_eq!(left, "table ip kube-proxy\ntable inet coracle2\n");
}

#[test]
fn names_that_are_no_text_for_nft_are_refused() {
    let config = |change: fn(&mut ProxyConfig)| {
        let mut config = ProxyConfig::new("n1", vec![], PodTraffic::Unknown);
        change(&mut config);
        config.validate().is_ok()
    };
    assert!(config(|_| {}));
    assert!(!config(|it| it.table = "a; flush ruleset".into()));
    assert!(!config(|it| it.table = "1".into()));
    assert!(!config(|it| it.masquerade_bit = 32));
    assert!(!config(|it| it.pod_traffic = PodTraffic::Interface("a\" drop".into())));
}
