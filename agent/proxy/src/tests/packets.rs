//! Packets through the rules: the whole proxy, against an API server in memory.

use super::host::{Host, ask, serve, until};
use crate::{PodTraffic, Proxy, ProxyConfig};
use coracle_client::testing::FakeApi;
use serde_json::{Value, json};
use std::net::UdpSocket;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const SERVICES: &str = "/api/v1/namespaces/ns/services";
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/ns/endpointslices";

fn config() -> ProxyConfig {
    let pods = PodTraffic::Cidrs(vec!["10.77.0.0/16".parse().unwrap()]);
    ProxyConfig {
        healthz: Some("127.0.0.1:10256".parse().unwrap()),
        ..ProxyConfig::new("n1", vec!["192.0.2.1".parse().unwrap()], pods)
    }
}

fn service(name: &str, ip: &str, extra: Value) -> Value {
    let mut spec = json!({"type": "NodePort", "clusterIP": ip, "clusterIPs": [ip],
        "ports": [{"name": "http", "protocol": "TCP", "port": 80, "nodePort": 30080}]});
    for (key, value) in extra.as_object().unwrap() {
        spec[key] = value.clone();
    }
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "ns"}, "spec": spec})
}

fn slice(service: &str, port: Value, addresses: &[&str]) -> Value {
    let endpoints: Vec<Value> = addresses
        .iter()
        .map(|addr| json!({"addresses": [addr], "nodeName": "n1", "conditions": {"ready": true}}))
        .collect();
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": format!("{service}-1"), "namespace": "ns", "labels": {"kubernetes.io/service-name": service}},
        "ports": [port], "endpoints": endpoints})
}

fn endpoints(addresses: &[&str]) -> Value {
    json!({"endpoints": slice("", json!({}), addresses)["endpoints"]})
}

fn http() -> Value {
    json!({"name": "http", "protocol": "TCP", "port": 8080})
}

fn with_proxy(host: &Host, api: &FakeApi, test: impl FnOnce()) {
    let client = || api.client();
    host.with(
        |token: CancellationToken| async move { Proxy::new(config(), client()).run(token).await.unwrap() },
        test,
    );
}

#[test]
fn from_everywhere_to_an_endpoint_and_back() {
    let (host, api) = (Host::new(), FakeApi::new());
    serve(&host.pods[0], "10.77.0.2:8080", "one");
    api.create(SERVICES, service("web", "10.96.0.5", json!({})));
    api.create(SLICES, slice("web", http(), &["10.77.0.2"]));
    with_proxy(&host, &api, || {
        let says = |text: &str| text.to_owned();
        until(&says("one 10.77.0.3"), || ask(&host.pods[1], "10.96.0.5:80")); // a pod keeps its address
        assert_eq!(ask(&host.node, "10.96.0.5:80"), "one 10.77.0.1", "the node itself");
        assert_eq!(ask(&host.client, "10.96.0.5:80"), "one 10.77.0.1", "not a pod: masqueraded");
        assert_eq!(ask(&host.pods[0], "10.96.0.5:80"), "one 10.77.0.1", "itself, through the bridge");
        assert_eq!(ask(&host.client, "192.0.2.1:30080"), "one 10.77.0.1", "node port");
        assert_eq!(ask(&host.node, "192.0.2.1:30080"), "one 10.77.0.1", "node port from the node");
        assert_eq!(ask(&host.node, "127.0.0.1:30080"), "one 10.77.0.1", "node port on localhost");
        assert_eq!(ask(&host.pods[1], "192.0.2.1:30080"), "one 10.77.0.1", "node port from a pod");
        assert_eq!(ask(&host.pods[1], "10.96.0.5:81"), "ConnectionRefused", "no such port of a cluster IP");
        assert_eq!(ask(&host.node, "10.96.0.5:81"), "ConnectionRefused");
        assert!(host.node.run("printf 'GET /healthz HTTP/1.0\\r\\n\\r\\n' | timeout 2 bash -c 'exec 3<>/dev/tcp/127.0.0.1/10256; cat >&3; cat <&3'").contains("200 OK"));
    });
    assert_eq!(ask(&host.client, "192.0.2.1:30080"), "one 10.77.0.1", "services go on without the proxy");
}

#[test]
fn pods_are_known_by_their_bridge_too() {
    let (host, api) = (Host::new(), FakeApi::new());
    serve(&host.pods[0], "10.77.0.2:8080", "one");
    api.create(SERVICES, service("web", "10.96.0.5", json!({})));
    api.create(SLICES, slice("web", http(), &["10.77.0.2"]));
    let config = ProxyConfig { pod_traffic: PodTraffic::Interface("br0".into()), ..config() };
    let client = || api.client();
    let proxy =
        |token: CancellationToken| async move { Proxy::new(config, client()).run(token).await.unwrap() };
    host.with(proxy, || {
        until(&"one 10.77.0.3".to_owned(), || ask(&host.pods[1], "10.96.0.5:80"));
        assert_eq!(ask(&host.client, "10.96.0.5:80"), "one 10.77.0.1", "not a pod: masqueraded");
        assert_eq!(ask(&host.node, "10.96.0.5:80"), "one 10.77.0.1", "the node itself");
        assert_eq!(ask(&host.pods[0], "10.96.0.5:80"), "one 10.77.0.1", "itself, through the bridge");
    });
}

#[test]
fn endpoints_come_and_go() {
    let (host, api) = (Host::new(), FakeApi::new());
    serve(&host.pods[0], "10.77.0.2:8080", "one");
    serve(&host.pods[1], "10.77.0.3:8080", "two");
    api.create(SERVICES, service("web", "10.96.0.5", json!({})));
    with_proxy(&host, &api, || {
        let refused = "ConnectionRefused".to_owned();
        until(&refused, || ask(&host.pods[1], "10.96.0.5:80"));
        until(&refused, || ask(&host.client, "192.0.2.1:30080"));
        api.create(SLICES, slice("web", http(), &["10.77.0.2"]));
        until(&"one 10.77.0.3".to_owned(), || ask(&host.pods[1], "10.96.0.5:80"));
        api.merge(&format!("{SLICES}/web-1"), &endpoints(&["10.77.0.2", "10.77.0.3"]));
        until(&"two 10.77.0.1".to_owned(), || ask(&host.client, "192.0.2.1:30080"));
        until(&"one 10.77.0.1".to_owned(), || ask(&host.client, "192.0.2.1:30080")); // both have their turn
        api.merge(&format!("{SLICES}/web-1"), &endpoints(&["10.77.0.3"]));
        until(&false, || (0..20).any(|_| ask(&host.client, "192.0.2.1:30080").starts_with("one")));
        api.delete(&format!("{SERVICES}/web"), &json!({}));
        until(&false, || ask(&host.client, "192.0.2.1:30080").starts_with("two"));
    });
}

#[test]
fn a_client_stays_where_it_was() {
    let (host, api) = (Host::new(), FakeApi::new());
    serve(&host.pods[0], "10.77.0.2:8080", "one");
    serve(&host.pods[1], "10.77.0.3:8080", "two");
    api.create(SERVICES, service("web", "10.96.0.5", json!({"sessionAffinity": "ClientIP"})));
    api.create(SLICES, slice("web", http(), &["10.77.0.2", "10.77.0.3"]));
    with_proxy(&host, &api, || {
        until(&true, || ask(&host.client, "192.0.2.1:30080").ends_with("10.77.0.1"));
        let first = ask(&host.client, "192.0.2.1:30080");
        for _ in 0..20 {
            assert_eq!(ask(&host.client, "192.0.2.1:30080"), first);
        }
        // The one it was sent to goes; it is sent to the other.
        let (stays, other) =
            if first.starts_with("one") { ("10.77.0.3", "two") } else { ("10.77.0.2", "one") };
        api.merge(&format!("{SLICES}/web-1"), &endpoints(&[stays]));
        until(&format!("{other} 10.77.0.1"), || ask(&host.client, "192.0.2.1:30080"));
    });
}

#[test]
fn local_policy_keeps_the_clients_address() {
    let (host, api) = (Host::new(), FakeApi::new());
    serve(&host.pods[0], "10.77.0.2:8080", "one");
    api.create(SERVICES, service("web", "10.96.0.5", json!({"externalTrafficPolicy": "Local"})));
    api.create(SLICES, slice("web", http(), &["10.77.0.2"]));
    with_proxy(&host, &api, || {
        until(&"one 192.0.2.2".to_owned(), || ask(&host.client, "192.0.2.1:30080"));
        assert_eq!(ask(&host.pods[1], "192.0.2.1:30080"), "one 10.77.0.3", "a pod is not outside");
        let mut elsewhere = endpoints(&["10.77.0.2"]);
        elsewhere["endpoints"][0]["nodeName"] = "n2".into();
        api.merge(&format!("{SLICES}/web-1"), &elsewhere);
        until(&"TimedOut".to_owned(), || ask(&host.client, "192.0.2.1:30080"));
        assert_eq!(ask(&host.pods[1], "192.0.2.1:30080"), "one 10.77.0.3", "a pod reaches other nodes");
    });
}

#[test]
fn a_udp_flow_moves_to_the_endpoint_that_is_there() {
    let (host, api) = (Host::new(), FakeApi::new());
    let wait = Some(Duration::from_millis(300));
    let server = |pod: usize, addr: &str| {
        let socket = host.pods[pod].enter(|| UdpSocket::bind(addr).unwrap());
        socket.set_read_timeout(wait).unwrap();
        socket
    };
    let (one, two) = (server(0, "10.77.0.2:53"), server(1, "10.77.0.3:53"));
    let ports = json!({"ports": [{"protocol": "UDP", "port": 53}]});
    api.create(SERVICES, service("dns", "10.96.0.10", ports));
    let client = host.client.enter(|| UdpSocket::bind("192.0.2.2:5000").unwrap());
    let arrives = |socket: &UdpSocket| {
        client.send_to(b"x", "10.96.0.10:53").ok(); // an ICMP error of the try before may come back here
        socket.recv(&mut [0; 8]).is_ok()
    };
    let port = json!({"protocol": "UDP", "port": 53});
    with_proxy(&host, &api, || {
        assert!(!arrives(&one));
        api.create(SLICES, slice("dns", port.clone(), &["10.77.0.2"]));
        until(&true, || arrives(&one));
        api.merge(&format!("{SLICES}/dns-1"), &endpoints(&["10.77.0.3"]));
        until(&true, || arrives(&two));
        until(&false, || arrives(&one)); // after what was under way to it
    });
}

#[test]
fn a_table_that_somebody_removed_comes_back_with_the_next_change() {
    let (host, api) = (Host::new(), FakeApi::new());
    serve(&host.pods[0], "10.77.0.2:8080", "one");
    api.create(SERVICES, service("web", "10.96.0.5", json!({})));
    api.create(SLICES, slice("web", http(), &["10.77.0.2"]));
    with_proxy(&host, &api, || {
        until(&true, || ask(&host.client, "192.0.2.1:30080").starts_with("one"));
        host.node.run("nft delete table inet coracle");
        assert_ne!(ask(&host.client, "192.0.2.1:30080"), "one 10.77.0.1");
        let ports = json!({"ports": [{"name": "http", "protocol": "TCP", "port": 81, "nodePort": 30081}]});
        api.create(SERVICES, service("other", "10.96.0.6", ports));
        until(&true, || ask(&host.client, "192.0.2.1:30080").starts_with("one"));
    });
}
