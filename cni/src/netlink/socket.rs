//! Requests and answers over one netlink socket.

use super::message::Message;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt,
    socket, sockopt,
};
use nix::sys::time::TimeVal;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU32, Ordering};

const HEADER: usize = 16;
const DONE: u16 = 3;
const ERROR: u16 = 2;
const REQUEST: u16 = 1;
const ACK: u16 = 4;
/// Ask for all objects of a kind.
const DUMP: u16 = 0x300;
const INTERRUPTED: u16 = 0x10; // the set changed while it was dumped
const DUMP_TRIES: usize = 64; // many plugins change the same tables at once
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const BATCH_HEADER: [u8; 4] = [0, 0, 0, 10]; // for nf_tables
const BUFFER: usize = 4 * 1024; // most answers are shorter

/// A conversation with the kernel of one network namespace.
#[derive(Debug)]
pub struct Netlink {
    socket: OwnedFd,
    sequence: AtomicU32,
}

/// What was asked of the kernel, and its answer.
#[derive(Debug, thiserror::Error)]
#[error("{action}")]
pub struct NetlinkError {
    action: String,
    source: Errno,
}

impl NetlinkError {
    /// True when the object is not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self.source, Errno::ENODEV | Errno::ENOENT | Errno::ESRCH | Errno::EADDRNOTAVAIL)
    }

    /// True when the object is there already.
    pub fn is_exists(&self) -> bool {
        self.source == Errno::EEXIST
    }

    /// True when this kernel lacks the kind of object.
    pub fn is_unsupported(&self) -> bool {
        matches!(self.source, Errno::EOPNOTSUPP | Errno::EAFNOSUPPORT | Errno::EPROTONOSUPPORT)
    }

    pub(super) fn from_errno(action: impl Into<String>, source: Errno) -> NetlinkError {
        NetlinkError { action: action.into(), source }
    }
}

impl Netlink {
    /// Opens a socket for links, addresses and routes, in the calling thread's namespace.
    pub fn open() -> Result<Netlink, NetlinkError> {
        Netlink::with_protocol(SockProtocol::NetlinkRoute)
    }

    /// Opens a socket for nf_tables, in the calling thread's namespace.
    pub fn open_netfilter() -> Result<Netlink, NetlinkError> {
        Netlink::with_protocol(SockProtocol::NetlinkNetFilter)
    }

    pub(super) fn with_protocol(protocol: SockProtocol) -> Result<Netlink, NetlinkError> {
        let open = || {
            let fd = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
            setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::new(10, 0))?; // the kernel answers at once, or never
            bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
            Ok(fd)
        };
        let socket = open().map_err(|errno| NetlinkError::from_errno("open a netlink socket", errno))?;
        Ok(Netlink { socket, sequence: AtomicU32::new(1) })
    }

    /// Sends a change and waits until the kernel has made it.
    pub(super) fn change(&self, message: Message, action: impl Fn() -> String) -> Result<(), NetlinkError> {
        self.exchange(message, ACK, |_, _| ()).map_err(|errno| NetlinkError::from_errno(action(), errno))
    }

    /// Asks for one object; `read` gets the type and the body of each answer.
    pub(super) fn get<T>(
        &self,
        message: Message,
        action: impl Fn() -> String,
        read: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Option<T>, NetlinkError> {
        let mut found = None;
        let exchanged = self.exchange(message, ACK, |_, body| found = found.take().or_else(|| read(body)));
        exchanged.map_err(|errno| NetlinkError::from_errno(action(), errno))?;
        Ok(found)
    }

    /// Asks for all objects of a kind; starts again when the set changed meanwhile.
    pub(super) fn dump<T>(
        &self,
        message: impl Fn() -> Message,
        action: impl Fn() -> String,
        read: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Vec<T>, NetlinkError> {
        for _ in 0..DUMP_TRIES {
            let (mut found, mut interrupted) = (Vec::new(), false);
            let exchanged = self.exchange(message(), DUMP, |flags, body| {
                interrupted |= flags & INTERRUPTED != 0;
                found.extend(read(body));
            });
            exchanged.map_err(|errno| NetlinkError::from_errno(action(), errno))?;
            if !interrupted {
                return Ok(found);
            }
        }
        Err(NetlinkError::from_errno(action(), Errno::EINTR))
    }

    /// Sends messages as one transaction; on failure says which message was refused first, where that is known.
    pub(super) fn transact(&self, messages: Vec<Message>) -> Result<(), (Option<usize>, Errno)> {
        let count = u32::try_from(messages.len()).unwrap_or(u32::MAX);
        let begin = self.sequence.fetch_add(count + 2, Ordering::Relaxed);
        let last = begin + count;
        let mut bytes = Message::new(BATCH_BEGIN, 0, &BATCH_HEADER).finish(begin, REQUEST);
        for (sequence, message) in (begin + 1..).zip(messages) {
            bytes.extend(message.finish(sequence, if sequence == last { REQUEST | ACK } else { REQUEST }));
        }
        bytes.extend(Message::new(BATCH_END, 0, &BATCH_HEADER).finish(last + 1, REQUEST));
        let unknown = |errno| (None, errno);
        let fd = self.socket.as_raw_fd();
        send(fd, &bytes, MsgFlags::empty()).map_err(unknown)?;
        // The kernel has answered by the time that it took the last byte.
        let (mut buffer, mut done) = (vec![0; BUFFER], Err((None, Errno::EIO)));
        loop {
            let answers = match receive(fd, &mut buffer, MsgFlags::MSG_DONTWAIT) {
                Err(Errno::EAGAIN) => return done,
                other => other.map_err(unknown)?,
            };
            for (header, body) in answers {
                let sequence = word(header, 8);
                if half(header, 4) != ERROR || sequence < begin || sequence > last + 1 {
                    continue;
                }
                match code(body) {
                    Ok(()) if done == Err((None, Errno::EIO)) => done = Ok(()),
                    Ok(()) => {}
                    Err(errno) => {
                        let number = usize::try_from(sequence - begin).ok().and_then(|it| it.checked_sub(1));
                        if done.is_ok() || done == Err((None, Errno::EIO)) {
                            done = Err((number, errno));
                        }
                    }
                }
            }
        }
    }

    fn exchange(&self, message: Message, flags: u16, mut each: impl FnMut(u16, &[u8])) -> Result<(), Errno> {
        let sequence = self.sequence.fetch_add(1, Ordering::Relaxed);
        let fd = self.socket.as_raw_fd();
        send(fd, &message.finish(sequence, flags | REQUEST), MsgFlags::empty())?;
        let mut buffer = vec![0; BUFFER];
        loop {
            for (header, body) in receive(fd, &mut buffer, MsgFlags::empty())? {
                if word(header, 8) == sequence {
                    match half(header, 4) {
                        DONE | ERROR => return code(body),
                        _ => each(half(header, 6), body),
                    }
                }
            }
        }
    }
}

/// Receives one datagram whole: its length is asked for first, so that a plugin need not hold room for the longest.
fn receive(fd: RawFd, buffer: &mut Vec<u8>, flags: MsgFlags) -> Result<Answers<'_>, Errno> {
    let again = |flags: MsgFlags, buffer: &mut [u8]| loop {
        match recv(fd, buffer, flags) {
            Err(Errno::EINTR) => {}
            other => return other,
        }
    };
    let length = again(flags | MsgFlags::MSG_PEEK | MsgFlags::MSG_TRUNC, &mut [])?;
    if buffer.len() < length {
        buffer.resize(length, 0);
    }
    let received = again(flags, buffer)?;
    Ok(Answers(buffer.get(..received).unwrap_or(&[])))
}

/// Kind and body of each message in what was received.
pub(super) fn each_message(bytes: &[u8], mut each: impl FnMut(u16, &[u8])) {
    Answers(bytes).for_each(|(header, body)| each(half(header, 4), body));
}

/// The messages in what was received: header and body. Ends at one that is cut short.
struct Answers<'a>(&'a [u8]);

impl<'a> Iterator for Answers<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (header, _) = self.0.split_at_checked(HEADER)?;
        let length = usize::try_from(word(header, 0)).unwrap_or(usize::MAX);
        let body = self.0.get(HEADER..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some((header, body))
    }
}

/// The error number in an answer; 0 is an acknowledgement.
fn code(body: &[u8]) -> Result<(), Errno> {
    match i32::from_ne_bytes(body.get(..4).and_then(|it| it.try_into().ok()).unwrap_or([0; 4])) {
        0 => Ok(()),
        number => Err(Errno::from_raw(-number)),
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(super::message::u32_of).unwrap_or(0)
}

fn half(bytes: &[u8], at: usize) -> u16 {
    u16::from_ne_bytes([bytes[at], bytes[at + 1]])
}
