//! A bus of our own for tests: the reference daemon on a private socket.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::message::Kind;
use super::{Bus, Message, Value};

/// A daemon that ends with the test.
pub struct Daemon {
    child: Child,
    socket: PathBuf,
    _folder: tempfile::TempDir,
}

impl Daemon {
    /// Starts it. It needs `dbus-daemon` (Debian: dbus-daemon).
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("bus");
        let config = folder.path().join("bus.conf");
        let text = format!(
            "<busconfig><listen>unix:path={}</listen><auth>EXTERNAL</auth><policy context='default'>\
             <allow send_destination='*' eavesdrop='true'/><allow eavesdrop='true'/><allow own='*'/></policy></busconfig>",
            socket.display()
        );
        std::fs::write(&config, text).unwrap();
        let mut child = Command::new("dbus-daemon")
            .arg(format!("--config-file={}", config.display()))
            .args(["--nofork", "--print-address=1"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("dbus-daemon is installed");
        // It prints its address once it listens.
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.take().unwrap()), &mut line)
            .unwrap();
        Self { child, socket, _folder: folder }
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// A connection that owns `name`.
    pub fn service(&self, name: &str) -> Bus {
        let mut bus = Bus::connect(&self.socket).unwrap();
        let bus_name = "org.freedesktop.DBus";
        let asked = vec![name.into(), Value::U32(4)];
        bus.call(bus_name, "/org/freedesktop/DBus", bus_name, "RequestName", asked).unwrap();
        bus
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The next call that somebody makes of this connection.
pub fn next_call(bus: &mut Bus) -> Message {
    loop {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        let (message, _) = bus.receive(Some(deadline)).expect("a call comes");
        if message.kind == Kind::Call {
            return message;
        }
    }
}

/// The answer to a call.
pub fn answer(bus: &mut Bus, call: &Message, body: Vec<Value>) {
    let reply = Message {
        reply_to: Some(call.serial),
        destination: call.sender.clone(),
        body,
        ..Message::new(Kind::Return)
    };
    bus.send(reply).unwrap();
}

/// A signal to all.
pub fn signal(bus: &mut Bus, path: &str, interface: &str, member: &str, body: Vec<Value>) {
    let message = Message { destination: String::new(), ..Message::call("", path, interface, member, body) };
    bus.send(Message { kind: Kind::Signal, ..message }).unwrap();
}

/// The answer to a call, with a descriptor.
pub fn answer_with_fd(bus: &mut Bus, call: &Message, fd: &impl std::os::fd::AsRawFd) {
    use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
    let (stream, serial) = bus.stream();
    *serial += 1;
    let reply = Message {
        serial: *serial,
        reply_to: Some(call.serial),
        destination: call.sender.clone(),
        fds: 1,
        body: vec![Value::Fd(0)],
        ..Message::new(Kind::Return)
    };
    let bytes = reply.encode();
    let fds = [fd.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&fds)];
    let socket = std::os::fd::AsRawFd::as_raw_fd(stream);
    let sent =
        sendmsg::<()>(socket, &[std::io::IoSlice::new(&bytes)], &rights, MsgFlags::empty(), None).unwrap();
    assert_eq!(sent, bytes.len());
}
