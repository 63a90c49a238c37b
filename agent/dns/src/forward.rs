//! Names outside the zone: ask the node's resolvers.

use crate::cache::{Cache, Question};
use crate::message::UDP_PAYLOAD;
use crate::resolv;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RecordType};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

/// Questions under way at a time; more are answered by "server failure" at once.
const MOST: usize = 512;
const TRY: Duration = Duration::from_secs(2);
/// A client asks again after 5 s: by then an answer is of no use.
const ALL_TRIES: Duration = Duration::from_millis(4500);
/// How often the file is looked at, and only when somebody asks.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// Below this, names are made up to find out whether a resolver asks us back.
const PROBE_ZONE: &str = "coracle-loop.invalid.";

/// Why no resolver answered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ForwardError {
    #[error("no resolver to ask: {0} names none but ourselves")]
    Nobody(String),
    #[error("no resolver answered in time")]
    Silence,
    #[error("ask resolver {server}")]
    Ask {
        server: SocketAddr,
        #[source]
        source: io::Error,
    },
}

/// The node's resolvers and what they said lately.
pub(crate) struct Forwarder {
    file: PathBuf,
    own: Vec<IpAddr>,
    resolvers: Mutex<Resolvers>,
    cache: Mutex<Cache>,
    slots: Arc<Semaphore>,
    tasks: TaskTracker,
    /// Marks our own probes.
    token: u64,
}

#[derive(Default)]
struct Resolvers {
    looked: Option<Instant>,
    servers: Vec<SocketAddr>,
    /// Those that ask us what they are asked.
    looping: Vec<SocketAddr>,
}

impl Forwarder {
    pub(crate) fn new(file: PathBuf, own: Vec<IpAddr>, tasks: TaskTracker) -> Forwarder {
        Forwarder {
            file,
            own,
            resolvers: Mutex::default(),
            cache: Mutex::default(),
            slots: Arc::new(Semaphore::new(MOST)),
            tasks,
            token: RandomState::new().hash_one(0_u8),
        }
    }

    /// Room for one more question, or nothing.
    pub(crate) fn slot(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.slots).try_acquire_owned().ok()
    }

    /// Asks one resolver after the other, unless the answer is known.
    pub(crate) async fn ask(self: &Arc<Self>, query: &Query, dnssec: bool) -> Result<Message, ForwardError> {
        let question = Question {
            name: query.name().to_lowercase(),
            kind: query.query_type(),
            class: query.query_class(),
            dnssec,
        };
        if let Some(known) = lock(&self.cache).find(&question, Instant::now()) {
            return Ok(known);
        }
        let servers = self.servers().await;
        if servers.is_empty() {
            return Err(ForwardError::Nobody(self.file.display().to_string()));
        }
        let answer = timeout(ALL_TRIES, ask_each(&servers, query, dnssec)).await;
        let answer = answer.unwrap_or(Err(ForwardError::Silence))?;
        lock(&self.cache).keep(question, &answer, Instant::now());
        Ok(answer)
    }

    /// True when the name is one of our probes: a resolver has asked us back, and is not asked again.
    pub(crate) fn is_own_probe(&self, name: &Name) -> bool {
        let text = name.to_lowercase().to_ascii();
        let Some(label) = text.strip_suffix(PROBE_ZONE) else { return false };
        let number = label.trim_end_matches('.').strip_prefix(&format!("{:016x}-", self.token));
        let Some(number) = number.and_then(|it| it.parse::<usize>().ok()) else { return false };
        let mut resolvers = lock(&self.resolvers);
        if let Some(server) =
            resolvers.servers.get(number).copied().filter(|it| !resolvers.looping.contains(it))
        {
            tracing::error!(%server, file = %self.file.display(), "this resolver asks cluster DNS what it is asked, it is left out");
            resolvers.looping.push(server);
        }
        true
    }

    async fn servers(self: &Arc<Self>) -> Vec<SocketAddr> {
        let now = Instant::now();
        let fresh =
            lock(&self.resolvers).looked.is_some_and(|looked| now.duration_since(looked) < LOOK_AGAIN);
        if !fresh {
            self.look_again(now).await;
        }
        let resolvers = lock(&self.resolvers);
        resolvers.servers.iter().filter(|it| !resolvers.looping.contains(it)).copied().collect()
    }

    async fn look_again(self: &Arc<Self>, now: Instant) {
        let servers = match tokio::fs::read_to_string(&self.file).await {
            Ok(text) => resolv::servers(&text, &self.own),
            // Being replaced right now, perhaps: what was read before still holds.
            Err(error) => {
                tracing::warn!(file = %self.file.display(), %error, "cannot read the list of resolvers");
                lock(&self.resolvers).looked = Some(now);
                return;
            }
        };
        {
            let mut resolvers = lock(&self.resolvers);
            resolvers.looked = Some(now);
            if resolvers.servers == servers {
                return;
            }
            resolvers.servers.clone_from(&servers);
            resolvers.looping.clear();
        }
        for (number, server) in servers.into_iter().enumerate() {
            let name = Name::from_ascii(format!("{:016x}-{number}.{PROBE_ZONE}", self.token));
            let Ok(name) = name else { continue };
            self.tasks.spawn(async move {
                // The answer does not matter: only whether the question comes back to us.
                let _ = timeout(TRY, by_udp(server, &Query::query(name, RecordType::HINFO), false)).await;
            });
        }
    }
}

async fn ask_each(servers: &[SocketAddr], query: &Query, dnssec: bool) -> Result<Message, ForwardError> {
    let mut last = Err(ForwardError::Silence);
    for server in servers {
        let asked = timeout(TRY, ask_one(*server, query, dnssec)).await;
        match asked {
            Ok(Ok(answer)) if !is_refusal(&answer) => return Ok(answer),
            Ok(Ok(answer)) => last = Ok(answer),
            Ok(Err(source)) => last = last.or(Err(ForwardError::Ask { server: *server, source })),
            Err(_) => {}
        }
    }
    last
}

fn is_refusal(answer: &Message) -> bool {
    matches!(
        answer.metadata.response_code,
        ResponseCode::ServFail | ResponseCode::Refused | ResponseCode::NotImp
    )
}

async fn ask_one(server: SocketAddr, query: &Query, dnssec: bool) -> io::Result<Message> {
    let answer = by_udp(server, query, dnssec).await?;
    if answer.metadata.truncation { by_tcp(server, query, dnssec).await } else { Ok(answer) }
}

async fn by_udp(server: SocketAddr, query: &Query, dnssec: bool) -> io::Result<Message> {
    let any =
        if server.is_ipv4() { IpAddr::from(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
    // A port and a number of its own for each question: an answer is hard to forge.
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    let (id, bytes) = question(query, dnssec)?;
    socket.send(&bytes).await?;
    let mut buffer = vec![0; 4096];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if let Some(answer) = read(&buffer[..length], id, query) {
            return Ok(answer);
        }
    }
}

async fn by_tcp(server: SocketAddr, query: &Query, dnssec: bool) -> io::Result<Message> {
    let mut stream = TcpStream::connect(server).await?;
    let (id, bytes) = question(query, dnssec)?;
    let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes()[..], &bytes].concat()).await?;
    let mut bytes = vec![0; stream.read_u16().await?.into()];
    stream.read_exact(&mut bytes).await?;
    read(&bytes, id, query)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the answer is to another question"))
}

fn question(query: &Query, dnssec: bool) -> io::Result<(u16, Vec<u8>)> {
    let id = u16::try_from(RandomState::new().hash_one(0_u8) & 0xffff).unwrap_or(0);
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(query.clone());
    let mut edns = Edns::new();
    edns.set_max_payload(UDP_PAYLOAD).set_version(0).set_dnssec_ok(dnssec);
    message.set_edns(edns);
    Ok((id, message.to_vec().map_err(io::Error::other)?))
}

/// The answer, if that is what this is.
fn read(bytes: &[u8], id: u16, query: &Query) -> Option<Message> {
    let message = Message::from_vec(bytes).ok()?;
    let same = |it: &Query| it.name() == query.name() && it.query_type() == query.query_type();
    let answers = message.metadata.message_type == MessageType::Response && message.metadata.id == id;
    (answers && message.queries.first().is_none_or(same)).then_some(message)
}

/// The question about an alias's target.
pub(crate) fn query_for(name: &Name, kind: RecordType) -> Query {
    let mut query = Query::query(name.clone(), kind);
    query.set_query_class(DNSClass::IN);
    query
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
