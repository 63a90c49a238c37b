//! Commands through a real containerd: a v5 WebSocket client on one side, its SPDY server on the other.

use std::time::Duration;

use coracle_cri::proto as v1;
use coracle_cri::streaming::{self, Wanted, spdy, websocket};
use coracle_cri::{Containers, Remote, Sandboxes, Streams};
use futures::{SinkExt, StreamExt};
use http::{HeaderMap, HeaderValue, Method};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::containerd::Containerd;
use crate::suite::{container_config, sandbox_config};

fn spdy_headers(protocol: &'static str) -> HeaderMap {
    let pairs = [("upgrade", "SPDY/3.1"), ("x-stream-protocol-version", protocol)];
    pairs
        .map(|(name, value)| (http::HeaderName::from_static(name), HeaderValue::from_static(value)))
        .into_iter()
        .collect()
}

/// What a command said: output, error output, status.
#[derive(Debug, Default)]
struct Said {
    out: Vec<u8>,
    err: Vec<u8>,
    status: Vec<u8>,
}

/// Runs a command in `container`, sending `input` messages as they are.
async fn exec(remote: &Remote, container: &str, line: &str, tty: bool, input: &[&[u8]]) -> Said {
    let wanted = Wanted { stdin: true, stdout: true, stderr: !tty, tty };
    let request = v1::ExecRequest {
        container_id: container.to_owned(),
        cmd: ["/bin/sh", "-c", line].map(str::to_owned).to_vec(),
        tty,
        stdin: true,
        stdout: true,
        stderr: !tty,
    };
    let url = remote.exec(request).await.unwrap();
    let opened = streaming::open(&url, Method::POST, &spdy_headers("v4.channel.k8s.io")).await.unwrap();
    assert_eq!(opened.headers["x-stream-protocol-version"], "v4.channel.k8s.io");
    let (near, far) = tokio::io::duplex(1 << 16);
    let server = websocket::server(far).await;
    let mut client = WebSocketStream::from_raw_socket(near, Role::Client, None).await;
    let talk = async {
        for message in input {
            client.send(Message::binary(message.to_vec())).await.unwrap();
        }
        let mut said = Said::default();
        while let Some(Ok(Message::Binary(bytes))) = client.next().await {
            let place = match bytes[0] {
                1 => &mut said.out,
                2 => &mut said.err,
                3 => &mut said.status,
                other => panic!("channel {other}"),
            };
            place.extend_from_slice(&bytes[1..]);
        }
        said
    };
    let work = streaming::remote_command(server, opened.io, wanted, None);
    let both = async { tokio::join!(work, talk) };
    let (outcome, said) =
        tokio::time::timeout(Duration::from_secs(20), both).await.expect("the command ends");
    outcome.unwrap();
    said
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_and_ports_through_containerd() {
    let containerd = Containerd::start().await;
    let remote = Remote::connect(&containerd.endpoint()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let config = sandbox_config("streams", folder.path().to_str().unwrap());
    let sandbox = remote.run_pod_sandbox(config.clone(), "").await.unwrap();
    let sleep = container_config("sleep", &["/bin/sleep", "1000"]);
    let container = remote.create_container(&sandbox, sleep, config).await.unwrap();
    remote.start_container(&container).await.unwrap();

    let said =
        exec(&remote, &container, "cat; echo done >&2", false, &[b"\x00hello ", b"\x00world", &[255, 0]])
            .await;
    assert_eq!((said.out.as_slice(), said.err.as_slice()), (&b"hello world"[..], &b"done\n"[..]));
    assert!(String::from_utf8_lossy(&said.status).contains("\"Success\""), "{said:?}");

    let said = exec(&remote, &container, "exit 9", false, &[&[255, 0]]).await;
    assert!(String::from_utf8_lossy(&said.status).contains("\"ExitCode\",\"message\":\"9\""), "{said:?}");

    let size: &[u8] = b"\x04{\"Width\":97,\"Height\":33}";
    let line = "while [ \"$(stty size)\" != '33 97' ]; do sleep 0.05; done; tty; echo resized";
    let said = exec(&remote, &container, line, true, &[size]).await;
    assert!(String::from_utf8_lossy(&said.out).contains("resized"), "{said:?}");

    // A flood both ways at once must not lock up.
    let flood = vec![0u8; 64 << 10];
    let mut input = vec![flood.as_slice(); 64];
    input.push(&[255, 0]);
    let said = exec(&remote, &container, "cat", false, &input).await;
    assert_eq!(said.out.len(), 64 * (flood.len() - 1));

    forward(&remote, &sandbox).await;
    remote.stop_pod_sandbox(&sandbox).await.unwrap();
    remote.remove_pod_sandbox(&sandbox).await.unwrap();
}

/// A port of the sandbox, by bare SPDY frames.
async fn forward(remote: &Remote, sandbox: &str) {
    use spdy::{Kind, Reader, Writer};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    // The sandbox is on the host's network, so a listener here is one of its ports.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let request = v1::PortForwardRequest { pod_sandbox_id: sandbox.to_owned(), port: vec![i32::from(port)] };
    let url = remote.port_forward(request).await.unwrap();
    let opened = streaming::open(&url, Method::POST, &spdy_headers("portforward.k8s.io")).await.unwrap();
    let (read, write) = tokio::io::split(opened.io);
    let (mut reader, mut writer) = (Reader::new(read), Writer::client(write));
    let headers = |kind: &str| {
        vec![
            ("streamtype".to_owned(), kind.to_owned()),
            ("port".to_owned(), port.to_string()),
            ("requestid".to_owned(), "0".to_owned()),
        ]
    };
    let error = writer.open(headers("error")).await.unwrap();
    writer.finish(error).await.unwrap();
    let data = writer.open(headers("data")).await.unwrap();
    writer.data(data, bytes::Bytes::from_static(b"ping")).await.unwrap();
    let serve = async {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut heard = [0; 4];
        socket.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"ping");
        socket.write_all(b"pong").await.unwrap();
    };
    let listen = async {
        loop {
            let frame = reader.next().await.unwrap().expect("the connection stays");
            if frame.stream == data
                && let Kind::Data(bytes) = frame.kind
                && !bytes.is_empty()
            {
                return bytes;
            }
        }
    };
    let both = async { tokio::join!(serve, listen) };
    let ((), answer) = tokio::time::timeout(Duration::from_secs(10), both).await.expect("the port answers");
    assert_eq!(answer.as_ref(), b"pong");
}
