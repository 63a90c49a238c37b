use tokio::io::duplex;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::*;

/// A client's WebSocket and a runtime's frames, with the translator between them.
struct Rig {
    client: WebSocketStream<tokio::io::DuplexStream>,
    reader: Reader<tokio::io::ReadHalf<tokio::io::DuplexStream>>,
    writer: Writer<WriteHalf<tokio::io::DuplexStream>>,
}

async fn rig(wanted: Wanted) -> (Rig, impl Future<Output = Result<(), StreamError>>) {
    let (near, far) = duplex(1 << 20);
    let (front, runtime) = duplex(1 << 20);
    let client = WebSocketStream::from_raw_socket(near, Role::Client, None).await;
    let server = super::super::websocket::server(far).await;
    let (read, write) = tokio::io::split(runtime);
    let rig = Rig { client, reader: Reader::new(read), writer: Writer::client(write) };
    (rig, remote_command(server, front, wanted, None))
}

impl Rig {
    async fn frame(&mut self) -> Frame {
        self.reader.next().await.unwrap().unwrap()
    }

    async fn opened(&mut self) -> String {
        let Kind::Open(headers) = self.frame().await.kind else { panic!("not an opening frame") };
        headers[0].1.clone()
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.client.send(Message::binary(bytes.to_vec())).await.unwrap();
    }

    async fn say(&mut self, stream: u32, fin: bool, bytes: &'static [u8]) {
        let frame = Frame { stream, fin, kind: Kind::Data(Bytes::from_static(bytes)) };
        self.writer.frame(&frame).await.unwrap();
    }

    async fn heard(&mut self) -> Message {
        self.client.next().await.unwrap().unwrap()
    }
}

#[tokio::test]
async fn a_command_with_input_half_closes_and_ends_with_its_status() {
    let wanted = Wanted { stdin: true, stdout: true, stderr: true, tty: false };
    let (mut rig, work) = rig(wanted).await;
    let talk = async {
        let mut names = Vec::new();
        for _ in 0..4 {
            names.push(rig.opened().await);
        }
        assert_eq!(names, ["error", "stdin", "stdout", "stderr"]);
        rig.send(b"\x00hi").await;
        assert_eq!(
            rig.frame().await,
            Frame { stream: 3, fin: false, kind: Kind::Data(Bytes::from_static(b"hi")) }
        );
        rig.send(&[CLOSE, STDIN]).await;
        assert_eq!(rig.frame().await, Frame { stream: 3, fin: true, kind: Kind::Data(Bytes::new()) });
        rig.writer.frame(&Frame { stream: 2, fin: false, kind: Kind::Ping }).await.unwrap();
        assert_eq!(rig.frame().await, Frame { stream: 2, fin: false, kind: Kind::Ping });
        rig.say(5, false, b"out").await;
        rig.say(7, false, b"err").await;
        rig.say(1, true, b"{}").await;
        assert_eq!(rig.heard().await, Message::binary(b"\x01out".to_vec()));
        assert_eq!(rig.heard().await, Message::binary(b"\x02err".to_vec()));
        assert_eq!(rig.heard().await, Message::binary(b"\x03{}".to_vec()));
        assert!(matches!(rig.heard().await, Message::Close(Some(frame)) if frame.code == CloseCode::Normal));
    };
    let (outcome, ()) = tokio::join!(work, talk);
    outcome.unwrap();
}

#[tokio::test]
async fn a_terminal_has_resize_and_no_error_output() {
    let wanted = Wanted { stdin: true, stdout: true, stderr: true, tty: true };
    let (mut rig, work) = rig(wanted).await;
    let talk = async {
        let mut names = Vec::new();
        for _ in 0..4 {
            names.push(rig.opened().await);
        }
        assert_eq!(names, ["error", "stdin", "stdout", "resize"]);
        rig.send(b"\x04{\"Width\":80,\"Height\":24}").await;
        let frame = rig.frame().await;
        assert_eq!(
            (frame.stream, frame.kind),
            (7, Kind::Data(Bytes::from_static(b"{\"Width\":80,\"Height\":24}")))
        );
        // The client goes; the work ends.
        rig.client.close(None).await.unwrap();
    };
    let (outcome, ()) = tokio::join!(work, talk);
    outcome.unwrap();
}

#[tokio::test]
async fn a_runtime_that_breaks_off_leaves_a_status() {
    let (mut rig, work) = rig(Wanted { stdout: true, ..Wanted::default() }).await;
    let talk = async {
        rig.opened().await;
        rig.opened().await;
        rig.say(3, false, b"part").await;
        let Rig { mut client, reader, writer } = rig;
        drop((reader, writer));
        assert_eq!(client.next().await.unwrap().unwrap(), Message::binary(b"\x01part".to_vec()));
        let last = client.next().await.unwrap().unwrap().into_data();
        assert!(last.starts_with(b"\x03{\"kind\":\"Status\""), "{last:?}");
    };
    let (outcome, ()) = tokio::join!(work, talk);
    outcome.unwrap();
}
