//! UDP and TCP: packets in, packets out.

use crate::answer::{Answer, Zone};
use crate::forward::{Forwarder, query_for};
use crate::message::{Packet, Request, encode};
use crate::source::Cluster;
use coracle_client::report;
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Name, Record};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Aliases of aliases end somewhere.
const MOST_ALIASES: usize = 8;
const MOST_CONNECTIONS: usize = 128;
const IDLE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(100);

/// All that an answer needs.
pub(crate) struct Server {
    pub(crate) zone: Zone,
    pub(crate) cluster: Cluster,
    pub(crate) forwarder: Arc<Forwarder>,
}

/// What is left to do for a request.
enum Next {
    Reply(Message),
    /// Other servers must be asked about this name; the aliases that led to it come first.
    Ask(Vec<Record>, Name),
}

impl Server {
    /// Answers a request as far as the cluster knows.
    fn look_up(&self, request: &Request) -> Next {
        let kind = request.query.query_type();
        let (mut aliases, mut name) = (Vec::new(), request.query.name().clone());
        loop {
            let answer = self.zone.answer(&name, kind, &self.cluster);
            if matches!(answer, Answer::Elsewhere) {
                return Next::Ask(aliases, name);
            }
            if !self.cluster.is_synced() {
                // "No such name" would be kept by clients, and may be wrong.
                return Next::Reply(request.failure(ResponseCode::ServFail));
            }
            let (code, soa) = match answer {
                Answer::Records(records, extra) => {
                    aliases.extend(records);
                    let mut message = request.authoritative(ResponseCode::NoError, aliases, None);
                    message.additionals = extra;
                    return Next::Reply(message);
                }
                Answer::Alias(record, target) if aliases.len() < MOST_ALIASES => {
                    aliases.push(*record);
                    name = target;
                    continue;
                }
                Answer::Alias(..) => return Next::Reply(request.failure(ResponseCode::ServFail)),
                Answer::NoName => (ResponseCode::NXDomain, self.zone.soa()),
                Answer::NoData | Answer::Elsewhere => (ResponseCode::NoError, self.zone.soa()),
            };
            return Next::Reply(request.authoritative(code, aliases, Some(soa)));
        }
    }

    /// Asks others about `name`, for a request that `aliases` led there.
    async fn ask(&self, request: &Request, aliases: Vec<Record>, name: &Name) -> Message {
        if self.forwarder.is_own_probe(name) {
            return request.failure(ResponseCode::Refused);
        }
        let query = if aliases.is_empty() {
            request.query.clone()
        } else {
            query_for(name, request.query.query_type())
        };
        match self.forwarder.ask(&query, request.wants_dnssec()).await {
            Ok(answer) => {
                let mut message = request.relayed(answer);
                message.answers.splice(0..0, aliases);
                message
            }
            Err(error) => {
                tracing::debug!(name = %name, error = %report(&error), "a name outside the cluster was not resolved");
                if aliases.is_empty() {
                    return request.failure(ResponseCode::ServFail);
                }
                request.authoritative(ResponseCode::NoError, aliases, None)
            }
        }
    }
}

/// Serves datagrams until the token is cancelled.
pub(crate) async fn udp(
    server: Arc<Server>,
    socket: UdpSocket,
    token: CancellationToken,
    tasks: TaskTracker,
) {
    let socket = Arc::new(socket);
    let mut buffer = vec![0; 4096];
    // Dropping the wait loses no packet: it stays in the socket, and goes with it.
    while let Some(received) = token.run_until_cancelled(socket.recv_from(&mut buffer)).await {
        let Ok((length, peer)) = received else {
            sleep(PAUSE).await; // the address may be gone for a moment
            continue;
        };
        let request = match Packet::read(&buffer[..length]) {
            Packet::Request(request) => request,
            Packet::Refused(message) => {
                send(&socket, *message, 512, peer).await;
                continue;
            }
            Packet::Noise => continue,
        };
        let limit = request.udp_limit();
        match server.look_up(&request) {
            Next::Reply(message) => send(&socket, message, limit, peer).await,
            Next::Ask(aliases, name) => {
                let Some(slot) = server.forwarder.slot() else {
                    send(&socket, request.failure(ResponseCode::ServFail), limit, peer).await;
                    continue;
                };
                let (server, socket, token) = (Arc::clone(&server), Arc::clone(&socket), token.clone());
                tasks.spawn(async move {
                    let _slot = slot;
                    // A client that gets no answer asks again, on this node or the next process.
                    if let Some(message) =
                        token.run_until_cancelled(server.ask(&request, aliases, &name)).await
                    {
                        send(&socket, message, limit, peer).await;
                    }
                });
            }
        }
    }
}

async fn send(socket: &UdpSocket, message: Message, limit: usize, peer: std::net::SocketAddr) {
    if let Some(bytes) = encode(message, limit) {
        // A client that is gone does not wait for an answer.
        let _ = socket.send_to(&bytes, peer).await;
    }
}

/// Serves connections until the token is cancelled.
pub(crate) async fn tcp(
    server: Arc<Server>,
    listener: TcpListener,
    token: CancellationToken,
    tasks: TaskTracker,
) {
    let room = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    loop {
        let accept = async {
            let place = Arc::clone(&room).acquire_owned().await;
            (place, listener.accept().await)
        };
        // Dropping the accept leaves the connection to the one who listens next.
        let Some((place, accepted)) = token.run_until_cancelled(accept).await else { return };
        let (Ok(place), Ok((stream, _))) = (place, accepted) else {
            sleep(PAUSE).await; // out of files: let some be closed
            continue;
        };
        let (server, token) = (Arc::clone(&server), token.clone());
        tasks.spawn(async move {
            let _place = place;
            // How a connection ends is its client's affair.
            let _ = token.run_until_cancelled(converse(&server, stream)).await;
        });
    }
}

async fn converse(server: &Server, mut stream: TcpStream) -> io::Result<()> {
    loop {
        let bytes = timeout(IDLE, async {
            let mut bytes = vec![0; stream.read_u16().await?.into()];
            stream.read_exact(&mut bytes).await?;
            Ok::<_, io::Error>(bytes)
        })
        .await??;
        let message = match Packet::read(&bytes) {
            Packet::Request(request) => match server.look_up(&request) {
                Next::Reply(message) => message,
                Next::Ask(aliases, name) => match server.forwarder.slot() {
                    Some(_slot) => server.ask(&request, aliases, &name).await,
                    None => request.failure(ResponseCode::ServFail),
                },
            },
            Packet::Refused(message) => *message,
            Packet::Noise => return Ok(()),
        };
        let bytes = encode(message, u16::MAX.into()).ok_or(io::ErrorKind::InvalidData)?;
        let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
        timeout(IDLE, stream.write_all(&[&length.to_be_bytes()[..], &bytes].concat())).await??;
    }
}
