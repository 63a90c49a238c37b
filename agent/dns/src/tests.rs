//! Over sockets, in a network namespace: the whole server, an API server in memory, a resolver for other names.

use crate::{Dns, DnsConfig, cleanup};
use coracle_client::testing::FakeApi;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use nix::sched::{CloneFlags, unshare};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

const SERVER: &str = "10.96.0.10:53";
const SERVICES: &str = "/api/v1/namespaces/default/services";

/// Runs `test` beside a server, in a namespace of its own.
fn with_dns(resolv_conf: &str, test: impl FnOnce(&FakeApi) + Send) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("resolv.conf");
    std::fs::write(&file, resolv_conf).unwrap();
    let (api, token) = (FakeApi::new(), CancellationToken::new());
    api.create(
        "/api/v1/namespaces",
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}}),
    );
    let address: IpAddr = "10.96.0.10".parse().unwrap();
    let config = DnsConfig { upstream_resolv_conf: file, ..DnsConfig::new(vec![address], "cluster.local") };
    std::thread::scope(|scope| {
        let body = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("these tests need root");
            std::thread::scope(|scope| {
                let stop = token.clone();
                let client = || api.client();
                let server = scope.spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                    runtime.block_on(async {
                        Dns::new(config, client()).run(stop).await.unwrap();
                        assert!(
                            Command::new("ip").args(["addr", "show", "lo"]).output().unwrap().stdout.len()
                                > 10
                        );
                        cleanup(vec![address]).await.unwrap();
                        cleanup(vec![address]).await.unwrap();
                    });
                    let left = Command::new("ip").args(["addr", "show", "lo"]).output().unwrap().stdout;
                    assert!(!String::from_utf8_lossy(&left).contains("10.96.0.10"), "nothing is left");
                });
                let guard = token.clone().drop_guard();
                test(&api);
                drop(guard);
                server.join().unwrap();
            });
        });
        if let Err(panic) = body.join() {
            std::panic::resume_unwind(panic)
        }
    });
}

fn query(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

fn by_udp(message: &Message) -> Option<Message> {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(6))).unwrap();
    socket.connect(SERVER).ok()?;
    socket.send(&message.to_vec().unwrap()).ok()?;
    let mut buffer = [0; 4096];
    let length = socket.recv(&mut buffer).ok()?;
    Some(Message::from_vec(&buffer[..length]).unwrap())
}

fn by_tcp(message: &Message) -> Message {
    let mut stream = TcpStream::connect(SERVER).unwrap();
    let bytes = message.to_vec().unwrap();
    stream.write_all(&u16::try_from(bytes.len()).unwrap().to_be_bytes()).unwrap();
    stream.write_all(&bytes).unwrap();
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut bytes = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut bytes).unwrap();
    Message::from_vec(&bytes).unwrap()
}

/// The answer in a line: code, then the data of its records.
fn line(message: &Message) -> String {
    let data: Vec<String> = message.answers.iter().map(|it| it.data.to_string()).collect();
    format!("{} {}", message.metadata.response_code, data.join(" ")).trim().to_owned()
}

fn ask(name: &str, kind: RecordType) -> String {
    by_udp(&query(name, kind)).map_or_else(|| "silence".to_owned(), |it| line(&it))
}

/// Waits for an answer, at most 10 s.
fn until(name: &str, wanted: &str) {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let seen = ask(name, RecordType::A);
        if seen == wanted {
            return;
        }
        assert!(Instant::now() < deadline, "{name}: {seen:?} is not {wanted:?}");
        std::thread::yield_now();
    }
}

fn service(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"}, "spec": spec})
}

#[test]
fn the_cluster_by_udp_and_tcp_as_it_changes() {
    with_dns("", |api| {
        let name = "web.default.svc.cluster.local.";
        until(name, "Non-Existent Domain");
        api.create(SERVICES, service("web", json!({"clusterIP": "10.96.0.5", "clusterIPs": ["10.96.0.5"]})));
        until(name, "No Error 10.96.0.5");
        assert_eq!(line(&by_tcp(&query(name, RecordType::A))), "No Error 10.96.0.5");
        assert_eq!(ask("5.0.96.10.in-addr.arpa.", RecordType::PTR), format!("No Error {name}"));
        let negative = by_udp(&query("gone.default.svc.cluster.local.", RecordType::A)).unwrap();
        assert!(matches!(negative.authorities[0].data, RData::SOA(SOA { minimum: 5, .. })));
        assert!(negative.metadata.authoritative && negative.metadata.recursion_available);
        api.delete(&format!("{SERVICES}/web"), &json!({}));
        until(name, "Non-Existent Domain");
        assert_eq!(ask("example.com.", RecordType::A), "Server Failure", "no resolver is named");
    });
}

#[test]
fn a_long_answer_is_cut_by_udp_and_whole_by_tcp() {
    with_dns("", |api| {
        api.create(SERVICES, service("db", json!({"clusterIP": "None"})));
        let endpoints: Vec<Value> =
            (0..100).map(|number| json!({"addresses": [format!("10.77.0.{number}")]})).collect();
        api.create("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices", json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4", "endpoints": endpoints,
            "metadata": {"name": "db-1", "namespace": "default", "labels": {"kubernetes.io/service-name": "db"}}}));
        let question = query("db.default.svc.cluster.local.", RecordType::A);
        until("10-77-0-5.db.default.svc.cluster.local.", "No Error 10.77.0.5");
        let cut = by_udp(&question).unwrap();
        assert!(cut.metadata.truncation && cut.answers.is_empty());
        assert_eq!(by_tcp(&question).answers.len(), 100);
        let mut edns = question.clone();
        edns.set_edns(Edns::new());
        assert!(by_udp(&edns).unwrap().edns.is_some());
    });
}

/// A resolver at 127.0.0.1:53 that knows one address for all names; `tc.` only by TCP; how often it was asked.
fn resolver() -> Arc<AtomicUsize> {
    let count = Arc::new(AtomicUsize::new(0));
    let answer = |bytes: &[u8], tcp: bool| {
        let request = Message::from_vec(bytes).unwrap();
        let name = request.queries[0].name().clone();
        let mut message = Message::new(request.metadata.id, MessageType::Response, OpCode::Query);
        message.add_query(request.queries[0].clone());
        if name.to_string().starts_with("gone.") {
            message.metadata.response_code = ResponseCode::NXDomain;
        } else if name.to_string().starts_with("tc.") && !tcp {
            message.metadata.truncation = true;
        } else {
            message.add_answer(Record::from_rdata(name, 20, RData::A(A([192, 0, 2, 80].into()))));
        }
        message.to_vec().unwrap()
    };
    let udp = UdpSocket::bind("127.0.0.1:53").unwrap();
    let tcp = TcpListener::bind("127.0.0.1:53").unwrap();
    let asked = Arc::clone(&count);
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((length, peer)) = udp.recv_from(&mut buffer) {
            let request = Message::from_vec(&buffer[..length]).unwrap();
            if request.queries[0].query_type() == RecordType::A {
                asked.fetch_add(1, Ordering::SeqCst);
            }
            udp.send_to(&answer(&buffer[..length], false), peer).unwrap();
        }
    });
    std::thread::spawn(move || {
        for stream in tcp.incoming() {
            let mut stream = stream.unwrap();
            let mut length = [0; 2];
            stream.read_exact(&mut length).unwrap();
            let mut bytes = vec![0; u16::from_be_bytes(length).into()];
            stream.read_exact(&mut bytes).unwrap();
            let bytes = answer(&bytes, true);
            stream.write_all(&u16::try_from(bytes.len()).unwrap().to_be_bytes()).unwrap();
            stream.write_all(&bytes).unwrap();
        }
    });
    count
}

#[test]
fn other_names_go_to_the_nodes_resolvers() {
    // The first one named does not answer; the second is ourselves, and is not asked.
    with_dns("nameserver 127.0.0.9\nnameserver 10.96.0.10\nnameserver 127.0.0.1\n", |api| {
        until("gone.default.svc.cluster.local.", "Non-Existent Domain");
        let count = resolver();
        assert_eq!(ask("Example.com.", RecordType::A), "No Error 192.0.2.80");
        let again = by_udp(&query("eXample.com.", RecordType::A)).unwrap();
        assert_eq!(
            again.answers[0].name.to_string(),
            "eXample.com.",
            "kept, but in the letters of the question"
        );
        assert_eq!(count.load(Ordering::SeqCst), 1);
        assert_eq!(ask("gone.example.com.", RecordType::A), "Non-Existent Domain");
        assert_eq!(ask("tc.example.com.", RecordType::A), "No Error 192.0.2.80", "asked again by TCP");
        api.create(SERVICES, service("out", json!({"type": "ExternalName", "externalName": "example.com"})));
        until("out.default.svc.cluster.local.", "No Error example.com. 192.0.2.80");
    });
}

#[test]
fn a_resolver_that_asks_us_back_is_left_out() {
    with_dns("nameserver 127.0.0.1\n", |_| {
        until("gone.default.svc.cluster.local.", "Non-Existent Domain");
        // A resolver that passes everything on to us.
        let socket = UdpSocket::bind("127.0.0.1:53").unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&asked);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
                // Copies of the first question may still be under way when the second is asked.
                if buffer[..length].windows(4).any(|it| it == b"\x03org") {
                    counter.fetch_add(1, Ordering::SeqCst);
                }
                if peer.ip().to_string() == "10.96.0.10" {
                    continue;
                }
                socket.send_to(&buffer[..length], SERVER).unwrap();
            }
        });
        assert_eq!(ask("example.com.", RecordType::A), "Server Failure");
        assert_eq!(ask("example.org.", RecordType::A), "Server Failure");
        assert_eq!(asked.load(Ordering::SeqCst), 0, "it was not asked again");
    });
}
