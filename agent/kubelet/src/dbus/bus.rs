//! One connection to a bus.

use std::collections::VecDeque;
use std::io::{self, IoSliceMut, Write};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

use super::message::{HEAD, Kind};
use super::{DbusError, Message, Value};

/// How long a method may take: what the reference library allows.
const PATIENCE: Duration = Duration::from_secs(25);
const BUS: &str = "org.freedesktop.DBus";

/// A connection. Calls and signals are read by the one who owns it.
pub struct Bus {
    stream: UnixStream,
    serial: u32,
    bytes: Vec<u8>,
    fds: VecDeque<OwnedFd>,
    signals: VecDeque<Message>,
}

/// Ends a connection from elsewhere: whoever reads it is told that it broke.
pub struct Hangup(UnixStream);

impl Hangup {
    /// Ends it.
    pub fn now(&self) {
        // One that is broken already needs no end.
        drop(self.0.shutdown(Shutdown::Both));
    }
}

impl Bus {
    /// The system's bus.
    pub const SYSTEM: &'static str = "/run/dbus/system_bus_socket";

    /// Connects and says who we are.
    pub fn connect(path: &Path) -> Result<Self, DbusError> {
        let failed = |source| DbusError::Connect { path: path.to_owned(), source };
        let stream = UnixStream::connect(path).map_err(failed)?;
        stream.set_write_timeout(Some(PATIENCE)).map_err(failed)?;
        let mut bus =
            Self { stream, serial: 0, bytes: Vec::new(), fds: VecDeque::new(), signals: VecDeque::new() };
        let uid: String = nix::unistd::geteuid().to_string().bytes().map(|it| format!("{it:02x}")).collect();
        bus.say(&format!("\0AUTH EXTERNAL {uid}\r\n"), "OK ")?;
        bus.say("NEGOTIATE_UNIX_FD\r\n", "AGREE_UNIX_FD")?;
        bus.stream.write_all(b"BEGIN\r\n").map_err(DbusError::Broken)?;
        bus.call(BUS, "/org/freedesktop/DBus", BUS, "Hello", Vec::new())?;
        Ok(bus)
    }

    /// What ends this connection from elsewhere.
    pub fn hangup(&self) -> Result<Hangup, DbusError> {
        self.stream.try_clone().map(Hangup).map_err(DbusError::Broken)
    }

    /// Calls a method: what it answers, and the descriptors that it gives.
    pub fn call(
        &mut self,
        destination: &str,
        path: &str,
        interface: &str,
        member: &str,
        body: Vec<Value>,
    ) -> Result<(Vec<Value>, Vec<OwnedFd>), DbusError> {
        let serial = self.send(Message::call(destination, path, interface, member, body))?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (answer, fds) = self.receive(Some(deadline))?;
            match answer.kind {
                Kind::Return if answer.reply_to == Some(serial) => return Ok((answer.body, fds)),
                Kind::Error if answer.reply_to == Some(serial) => {
                    let message = answer.body.first().and_then(Value::text).unwrap_or_default().to_owned();
                    let method = format!("{interface}.{member}");
                    return Err(DbusError::Failed { method, name: answer.error, message });
                }
                Kind::Signal if answer.sender != BUS => self.signals.push_back(answer),
                // The bus tells every connection its name.
                Kind::Signal => {}
                // The answer to a call that was given up.
                Kind::Call | Kind::Return | Kind::Error => {}
            }
        }
    }

    /// Asks for the signals that a rule matches.
    pub fn subscribe(&mut self, rule: &str) -> Result<(), DbusError> {
        self.call(BUS, "/org/freedesktop/DBus", BUS, "AddMatch", vec![rule.into()]).map(|_| ())
    }

    /// The next signal; with a deadline, none when there is none until then.
    pub fn signal(&mut self, deadline: Option<Instant>) -> Result<Option<Message>, DbusError> {
        loop {
            if let Some(signal) = self.signals.pop_front() {
                return Ok(Some(signal));
            }
            match self.receive(deadline) {
                Ok((message, _)) if message.kind == Kind::Signal && message.sender != BUS => {
                    return Ok(Some(message));
                }
                Ok(_) => {}
                Err(DbusError::Broken(err)) if err.kind() == io::ErrorKind::TimedOut => return Ok(None),
                Err(err) => return Err(err),
            }
        }
    }

    /// Sends a message with the next number.
    pub fn send(&mut self, mut message: Message) -> Result<u32, DbusError> {
        self.serial += 1;
        message.serial = self.serial;
        self.stream.write_all(&message.encode()).map_err(DbusError::Broken)?;
        Ok(self.serial)
    }

    /// The next message with its descriptors.
    pub fn receive(&mut self, deadline: Option<Instant>) -> Result<(Message, Vec<OwnedFd>), DbusError> {
        loop {
            if let Some(head) = self.bytes.first_chunk::<HEAD>() {
                let length = Message::length(head)?;
                if self.bytes.len() >= length {
                    let rest = self.bytes.split_off(length);
                    let bytes = std::mem::replace(&mut self.bytes, rest);
                    let message = Message::decode(&bytes)?;
                    let count = self.fds.len().min(message.fds as usize);
                    return Ok((message, self.fds.drain(..count).collect()));
                }
            }
            self.fill(deadline)?;
        }
    }

    /// The socket, for tests that give descriptors away.
    #[cfg(test)]
    pub(super) fn stream(&mut self) -> (&UnixStream, &mut u32) {
        (&self.stream, &mut self.serial)
    }

    /// One line of the greeting, and its answer.
    fn say(&mut self, line: &str, want: &str) -> Result<(), DbusError> {
        self.stream.write_all(line.as_bytes()).map_err(DbusError::Broken)?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(end) = self.bytes.windows(2).position(|it| it == b"\r\n") {
                let rest = self.bytes.split_off(end + 2);
                let answer = std::mem::replace(&mut self.bytes, rest);
                let answer = String::from_utf8_lossy(&answer[..end]).into_owned();
                return if answer.starts_with(want) { Ok(()) } else { Err(DbusError::Refused(answer)) };
            }
            if self.bytes.len() > 4096 {
                return Err(DbusError::Malformed("a greeting without end"));
            }
            self.fill(Some(deadline))?;
        }
    }

    fn fill(&mut self, deadline: Option<Instant>) -> Result<(), DbusError> {
        let late = || DbusError::Broken(io::Error::from(io::ErrorKind::TimedOut));
        let left = match deadline {
            Some(at) => {
                Some(at.checked_duration_since(Instant::now()).filter(|it| !it.is_zero()).ok_or_else(late)?)
            }
            None => None,
        };
        self.stream.set_read_timeout(left).map_err(DbusError::Broken)?;
        let mut chunk = [0_u8; 4096];
        let mut space = nix::cmsg_space!([RawFd; 16]);
        let (count, given) = {
            let mut slices = [IoSliceMut::new(&mut chunk)];
            let fd = self.stream.as_raw_fd();
            let flags = MsgFlags::MSG_CMSG_CLOEXEC;
            let received = match recvmsg::<()>(fd, &mut slices, Some(&mut space), flags) {
                Ok(received) => received,
                Err(nix::Error::EINTR) => return Ok(()),
                Err(nix::Error::EAGAIN) => return Err(late()),
                Err(err) => return Err(DbusError::Broken(err.into())),
            };
            let mut given = Vec::new();
            for message in received.cmsgs().map_err(|err| DbusError::Broken(err.into()))? {
                if let ControlMessageOwned::ScmRights(fds) = message {
                    given.extend(fds);
                }
            }
            (received.bytes, given)
        };
        for fd in given {
            #[expect(
                unsafe_code,
                reason = "the kernel made this descriptor for us, and tells its number only"
            )]
            // SAFETY: recvmsg has just opened it in this process; nobody else knows it.
            self.fds.push_back(unsafe { OwnedFd::from_raw_fd(fd) });
        }
        if count == 0 {
            return Err(DbusError::Broken(io::ErrorKind::UnexpectedEof.into()));
        }
        self.bytes.extend_from_slice(&chunk[..count]);
        Ok(())
    }
}
