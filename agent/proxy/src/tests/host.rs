//! A host with pods and a client outside, each in a namespace of its own.

use nix::sched::{CloneFlags, unshare};
use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::process::Command;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// A namespace that lives as long as this value.
pub(super) struct Namespace(File);

impl Namespace {
    pub(super) fn new() -> Namespace {
        let open = || {
            unshare(CloneFlags::CLONE_NEWNET).expect("these tests need root");
            File::open("/proc/thread-self/ns/net").unwrap()
        };
        Namespace(std::thread::spawn(open).join().unwrap())
    }

    pub(super) fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }

    pub(super) fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        coracle_cni::netns::enter(&self.0, work).unwrap()
    }

    pub(super) fn run(&self, line: &str) -> String {
        self.enter(|| {
            let output = Command::new("/bin/sh").args(["-c", line]).output().unwrap();
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{line}: {error}");
            String::from_utf8_lossy(&output.stdout).into_owned()
        })
    }
}

/// Two pods on a bridge, the way out, a client there.
pub(super) struct Host {
    pub(super) node: Namespace,
    pub(super) pods: Vec<Namespace>,
    pub(super) client: Namespace,
}

impl Host {
    pub(super) fn new() -> Host {
        let (node, client) = (Namespace::new(), Namespace::new());
        node.run("ip link set lo up && ip link add br0 type bridge && ip link set br0 up");
        node.run("ip addr add 10.77.0.1/24 dev br0");
        node.run(&format!("ip link add up0 type veth peer name eth0 netns {}", client.path()));
        node.run("ip addr add 192.0.2.1/24 dev up0 && ip link set up0 up");
        client.run("ip addr add 192.0.2.2/24 dev eth0 && ip link set eth0 up && ip link set lo up");
        node.run("ip route add default via 192.0.2.2");
        client.run("ip route add 10.96.0.0/16 via 192.0.2.1");
        let pods: Vec<Namespace> = (2..4).map(|number| pod(&node, number)).collect();
        Host { node, pods, client }
    }

    /// Runs `test` while `work` runs inside the node's namespace.
    pub(super) fn with<F: Future<Output = ()>>(
        &self,
        work: impl FnOnce(CancellationToken) -> F + Send,
        test: impl FnOnce(),
    ) {
        let token = CancellationToken::new();
        std::thread::scope(|scope| {
            let inside = token.clone();
            let _stop = token.drop_guard(); // also when the test fails
            scope.spawn(move || {
                self.node.enter(move || {
                    tokio::runtime::Builder::new_current_thread()
                        .enable_all()
                        .build()
                        .unwrap()
                        .block_on(work(inside));
                });
            });
            test();
        });
    }
}

fn pod(node: &Namespace, number: u8) -> Namespace {
    let pod = Namespace::new();
    node.run(&format!("ip link add v{number} type veth peer name eth0 netns {}", pod.path()));
    node.run(&format!("ip link set v{number} master br0 up && bridge link set dev v{number} hairpin on"));
    pod.run(&format!("ip addr add 10.77.0.{number}/24 dev eth0 && ip link set eth0 up && ip link set lo up"));
    pod.run("ip route add default via 10.77.0.1");
    pod
}

/// Listens for ever, and tells each caller who is asked and who the caller seems to be.
pub(super) fn serve(pod: &Namespace, addr: &str, name: &'static str) {
    let listener = pod.enter(|| TcpListener::bind(addr).unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let peer = stream.peer_addr().unwrap();
            let _ = write!(stream, "{name} {}", peer.ip()); // the caller may be gone
        }
    });
}

/// What the one who answers says, or why nobody does.
pub(super) fn ask(from: &Namespace, to: &str) -> String {
    let to: SocketAddr = to.parse().unwrap();
    let asked = from.enter(|| {
        let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(2))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok::<_, std::io::Error>(text)
    });
    asked.unwrap_or_else(|err| format!("{:?}", err.kind()))
}

/// Waits for a value, at most 10 s.
pub(super) fn until<T: PartialEq + std::fmt::Debug>(wanted: &T, look: impl Fn() -> T) {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let seen = look();
        if seen == *wanted {
            return;
        }
        assert!(Instant::now() < deadline, "{seen:?} is not {wanted:?}");
        std::thread::yield_now();
    }
}
