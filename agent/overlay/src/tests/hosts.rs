use crate::{Overlay, OverlayConfig, cleanup};
use coracle_client::testing::FakeApi;
use nix::sched::{CloneFlags, unshare};
use serde_json::json;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::process::Command;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

struct Namespace(File);

impl Namespace {
    fn new() -> Namespace {
        let open = || {
            unshare(CloneFlags::CLONE_NEWNET).expect("these tests need root");
            File::open("/proc/thread-self/ns/net").unwrap()
        };
        let made = Namespace(std::thread::spawn(open).join().unwrap());
        made.run("ip link set lo up");
        made
    }

    fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }

    fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        coracle_cni::netns::enter(&self.0, work).unwrap()
    }

    fn run(&self, line: &str) -> String {
        self.enter(|| {
            let output = Command::new("/bin/sh").args(["-c", line]).output().unwrap();
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{line}: {error}");
            String::from_utf8_lossy(&output.stdout).into_owned()
        })
    }

    /// Waits until a command prints what is wanted.
    #[track_caller]
    fn until(&self, line: &str, wanted: impl Fn(&str) -> bool) {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            let text = self.run(line);
            if wanted(&text) {
                return;
            }
            assert!(Instant::now() < end, "{line}: {text}");
            std::thread::yield_now();
        }
    }
}

/// A host with a bridge and a pod, and an overlay that runs in it.
struct Host {
    net: Namespace,
    pod: Namespace,
    stop: CancellationToken,
    overlay: Option<JoinHandle<()>>,
    dir: tempfile::TempDir,
}

impl Host {
    fn new(number: u8) -> Host {
        let (net, pod) = (Namespace::new(), Namespace::new());
        net.run("sysctl -qw net.ipv4.ip_forward=1; ip link add cni0 type bridge");
        net.run(&format!("ip address add 10.244.{number}.1/24 dev cni0; ip link set cni0 up"));
        let path = pod.path();
        net.run(&format!(
            "ip link add p0 type veth peer name eth0 netns {path}; ip link set p0 up master cni0"
        ));
        pod.run(&format!("ip address add 10.244.{number}.2/24 dev eth0; ip link set eth0 up mtu 1450"));
        pod.run(&format!("ip route add default via 10.244.{number}.1"));
        Host { net, pod, stop: CancellationToken::new(), overlay: None, dir: tempfile::tempdir().unwrap() }
    }

    fn start(&mut self, api: &Arc<FakeApi>, number: u8) {
        let mut config = OverlayConfig::new(
            format!("n{number}"),
            vec![format!("192.0.2.{number}").parse().unwrap()],
            vec!["10.244.0.0/16".parse().unwrap()],
            self.dir.path().join("subnet.env"),
        );
        config.port = 8472;
        let (api, stop) = (Arc::clone(api), self.stop.clone());
        let netns = self.net.0.try_clone().unwrap();
        let work = move || {
            coracle_cni::netns::enter(&netns, move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async move {
                    let client = api.client();
                    let (prepared, _keep) = watch::channel(None);
                    let overlay = Overlay::new(config, client.clone(), client);
                    overlay.run(prepared, stop).await.unwrap();
                });
            })
            .unwrap();
        };
        self.overlay = Some(std::thread::spawn(work));
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.stop.cancel();
        let ended = self.overlay.take().is_none_or(|it| it.join().is_ok());
        assert!(ended || std::thread::panicking());
    }
}

fn node(api: &FakeApi, number: u8) {
    let name = format!("n{number}");
    api.create(
        "/api/v1/nodes",
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name},
            "spec": {"podCIDR": format!("10.244.{number}.0/24"), "podCIDRs": [format!("10.244.{number}.0/24")]}}),
    );
}

/// The address from which a pod is seen by another; bytes go both ways, more than a packet has room for.
fn seen_from(from: &Namespace, to: &Namespace, addr: &str) -> String {
    let listener = to.enter(|| TcpListener::bind((addr, 80)).unwrap());
    let send = || {
        let mut stream =
            TcpStream::connect_timeout(&format!("{addr}:80").parse().unwrap(), Duration::from_secs(5));
        stream.as_mut().unwrap().write_all(&vec![7; 200_000]).unwrap();
    };
    std::thread::scope(|scope| {
        scope.spawn(|| from.enter(send));
        let (mut stream, peer) = listener.accept().unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        assert_eq!(all.len(), 200_000);
        peer.ip().to_string()
    })
}

#[test]
fn pods_of_two_hosts_are_one_network() {
    let api = Arc::new(FakeApi::new());
    let (mut a, mut b) = (Host::new(1), Host::new(2));
    a.net.run(&format!("ip link add eth0 type veth peer name eth0 netns {}", b.net.path()));
    a.net.run("ip address add 192.0.2.1/24 dev eth0; ip link set eth0 up");
    b.net.run("ip address add 192.0.2.2/24 dev eth0; ip link set eth0 up");
    node(&api, 1);
    a.start(&api, 1);
    a.net.until("nft list tables", |text| text.contains("coracle_overlay"));
    let said = || api.get("/api/v1/nodes/n1").unwrap()["metadata"]["annotations"].clone();
    a.net.until("true", |_| said()["flannel.alpha.coreos.com/public-ip"] == "192.0.2.1");
    assert!(!a.net.run("ip link").contains("flannel.1"), "alone no link is made");
    let env = std::fs::read_to_string(a.dir.path().join("subnet.env")).unwrap();
    assert!(env.contains("FLANNEL_SUBNET=10.244.1.1/24") && env.contains("FLANNEL_MTU=1450"), "{env}");

    node(&api, 2);
    b.start(&api, 2);
    let routed = |text: &str| text.contains("10.244.2.0/24 via 10.244.2.0 dev flannel.1");
    a.net.until("ip route", routed);
    b.net.until("ip route", |text| text.contains("10.244.1.0/24 via 10.244.1.0 dev flannel.1"));
    a.net.until("ip neigh; bridge fdb", |text| {
        text.contains("10.244.2.0 dev") && text.contains("dst 192.0.2.2")
    });
    assert_eq!(seen_from(&a.pod, &b.pod, "10.244.2.2"), "10.244.1.2", "pods see each other's own addresses");
    assert_eq!(seen_from(&b.pod, &a.pod, "10.244.1.2"), "10.244.2.2");
    assert_eq!(seen_from(&a.pod, &b.net, "192.0.2.2"), "192.0.2.1", "outside they have the host's");
    let mac = said()["flannel.alpha.coreos.com/backend-data"].to_string();
    let link = a.net.run("ip -details link show flannel.1");
    assert!(link.contains("id 1 local 192.0.2.1 dev eth0") && link.contains("mtu 1450"), "{link}");
    assert!(
        mac.contains(link.split("link/ether ").nth(1).unwrap().split(' ').next().unwrap()),
        "{mac} {link}"
    );

    // What somebody takes away comes back.
    a.net.run("ip route del 10.244.2.0/24");
    a.net.until("ip route", routed);
    a.net.run("bridge fdb del $(bridge fdb show dev flannel.1 | cut -d' ' -f1) dev flannel.1 dst 192.0.2.2");
    a.net.until("bridge fdb", |text| text.contains("dst 192.0.2.2"));
    a.net.run("ip neigh del 10.244.2.0 dev flannel.1");
    a.net.until("ip neigh", |text| text.contains("10.244.2.0 dev flannel.1"));
    a.net.run("ip link del flannel.1");
    a.net.until("ip route", routed);
    a.net.run("ip link set eth0 mtu 1400");
    a.net.until("ip link show flannel.1", |text| text.contains("mtu 1350"));
    assert_eq!(seen_from(&b.pod, &a.pod, "10.244.1.2"), "10.244.2.2");

    // A node that vanishes leaves nothing.
    api.delete("/api/v1/nodes/n2", &json!({}));
    let all = "ip route; ip neigh; bridge fdb; ip -o link";
    a.net.until(all, |text| {
        !text.contains("10.244.2.0") && !text.contains("dst 192.0.2.2") && !text.contains("flannel")
    });
    a.stop.cancel();
    a.overlay.take().unwrap().join().unwrap();
    a.net.enter(|| cleanup().unwrap());
    assert_eq!(a.net.run("nft list tables"), "");
    b.stop.cancel();
    b.overlay.take().unwrap().join().unwrap();
    assert!(b.net.run("ip link").contains("flannel.1"), "a stop cuts nobody off");
    b.net.enter(|| cleanup().unwrap());
    assert!(!b.net.run("ip link; ip route").contains("flannel.1"));
}
