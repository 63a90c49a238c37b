//! What changed, told by the kernel.

use super::link::{DEL_LINK, NEW_LINK};
use super::message::{find, u32_of};
use super::neighbour::{DEL_NEIGHBOUR, NEW_NEIGHBOUR};
use super::socket::{NetlinkError, each_message};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

const NEW_ADDRESS: u16 = 20;
const DEL_ADDRESS: u16 = 21;
const NEW_ROUTE: u16 = 24;
const DEL_ROUTE: u16 = 25;
const ROUTE_LINK: u16 = 4;
/// Links, neighbours, IPv4 addresses and routes, IPv6 addresses and routes: a bit each.
const GROUPS: u32 = 1 | 1 << 2 | 1 << 4 | 1 << 6 | 1 << 8 | 1 << 10;
const BUFFER: usize = 32 * 1024; // the longest that the kernel tells at once

/// One change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// A link appeared, changed or is gone.
    Link(u32),
    /// An address of a link came or went.
    Address(u32),
    /// A route through a link came or went.
    Route(u32),
    /// A neighbour of a link, or the host behind a hardware address, came, changed or went.
    Neighbour(u32),
    /// Changes were too many to be told: look at everything.
    Missed,
}

/// The changes in one network namespace, from the moment of opening. Never blocks.
#[derive(Debug)]
pub struct Events {
    socket: OwnedFd,
}

impl Events {
    /// Listens in the calling thread's namespace.
    pub fn open() -> Result<Events, NetlinkError> {
        let open = || {
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
            bind(fd.as_raw_fd(), &NetlinkAddr::new(0, GROUPS))?;
            Ok(fd)
        };
        let socket = open().map_err(|errno| NetlinkError::from_errno("listen to the kernel", errno))?;
        Ok(Events { socket })
    }

    /// What was told since the last call; nothing when there is nothing yet.
    pub fn drain(&self) -> Result<Vec<Event>, NetlinkError> {
        let (mut events, mut buffer) = (Vec::new(), vec![0; BUFFER]);
        loop {
            match recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Ok(length) => each_message(buffer.get(..length).unwrap_or(&[]), |kind, body| {
                    events.extend(read(kind, body));
                }),
                Err(Errno::EAGAIN) => return Ok(events),
                Err(Errno::EINTR) => {}
                Err(Errno::ENOBUFS) => events.push(Event::Missed),
                Err(errno) => return Err(NetlinkError::from_errno("listen to the kernel", errno)),
            }
        }
    }
}

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Events {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

fn read(kind: u16, body: &[u8]) -> Option<Event> {
    let link = || body.get(4..).and_then(u32_of);
    Some(match kind {
        NEW_LINK | DEL_LINK => Event::Link(link()?),
        NEW_ADDRESS | DEL_ADDRESS => Event::Address(link()?),
        NEW_NEIGHBOUR | DEL_NEIGHBOUR => Event::Neighbour(link()?),
        NEW_ROUTE | DEL_ROUTE => Event::Route(find(body.get(12..)?, ROUTE_LINK).and_then(u32_of)?),
        _ => return None,
    })
}
