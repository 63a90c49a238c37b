//! The kubelet's HTTPS server on 10250, and its health on 10248.
//!
//! Everything is asked of [`Node`] and of the runtime; nothing is kept here but answers of the API server about who may
//! ask. Streams are carried, never buffered.

#![expect(clippy::result_large_err, reason = "a refusal is the answer itself, and rare")]

mod access; // who calls, may he
mod answer; // bodies and plain answers
mod cache; // verdicts for a while
mod checkpoint; // a container's state into an archive
mod logs; // container logs off the disk
mod node; // what the server asks about pods
mod route; // paths to handlers
mod streams; // exec, attach, port-forward
mod system; // files under /var/log
mod tls; // certificates

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use coracle_cri::RuntimeHandle;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::KubeletConfig;
use crate::stats::Stats;
use access::Access;
use tls::Tls;

pub use node::{Node, PodView};

/// Connections at once; more wait in the kernel's queue.
const CONNECTIONS: usize = 1024;
/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// What the server is made from.
#[derive(Clone)]
pub struct ServerDeps {
    /// The configuration.
    pub config: Arc<KubeletConfig>,
    /// For TokenReview and SubjectAccessReview; none: nobody but certificates of the client CA is known.
    pub client: Option<kube::Client>,
    /// The container runtime.
    pub runtime: RuntimeHandle,
    /// The pods.
    pub node: Arc<dyn Node>,
    /// Figures of node and pods.
    pub stats: Stats,
}

/// Why the server cannot run.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// An address is taken or not ours.
    #[error("listen on {address}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file of keys or certificates.
    #[error("read {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Certificates that do not fit.
    #[error("configure TLS: {0}")]
    Tls(String),
}

/// What handlers share.
struct Server {
    deps: ServerDeps,
    access: Access,
    tracker: TaskTracker,
    token: CancellationToken,
}

/// Serves until `token` is cancelled; then waits for what is under way to notice. Does nothing but wait when the
/// configuration turns the server off.
pub async fn serve(deps: ServerDeps, token: CancellationToken) -> Result<(), ServerError> {
    let settings = &deps.config.server;
    let tracker = TaskTracker::new();
    let health = match settings.healthz_port {
        0 => None,
        port => Some(listen(SocketAddr::new(settings.healthz_address, port)).await?),
    };
    let https = if settings.enabled {
        if settings.tls_bootstrap && deps.client.is_none() {
            return Err(ServerError::Tls("serverTLSBootstrap needs an API server to ask".to_owned()));
        }
        let tls = Tls::open(deps.config.clone()).await?;
        Some((listen(SocketAddr::new(settings.address, settings.port)).await?, tls))
    } else {
        None
    };
    let server =
        Arc::new(Server { access: Access::new(&deps), deps, tracker: tracker.clone(), token: token.clone() });
    if let Some(listener) = health {
        tracker.spawn(accept(listener, None, server.clone()));
    }
    if let Some((listener, tls)) = https {
        tracker.spawn(accept(listener, Some(tls), server));
    }
    token.cancelled().await;
    tracker.close();
    tracker.wait().await;
    Ok(())
}

async fn listen(address: SocketAddr) -> Result<TcpListener, ServerError> {
    TcpListener::bind(address).await.map_err(|source| ServerError::Listen { address, source })
}

async fn accept(listener: TcpListener, tls: Option<Arc<Tls>>, server: Arc<Server>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        // Both arms only wait: a connection that was not taken stays in the kernel's queue.
        let accepted = tokio::select! {
            accepted = async {
                let permit = room.clone().acquire_owned().await;
                (listener.accept().await, permit)
            } => accepted,
            () = server.token.cancelled() => return,
        };
        let (Ok((tcp, _)), Ok(permit)) = accepted else {
            // Out of descriptors: give others the time to end.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let (tls, of_connection) = (tls.clone(), server.clone());
        server.tracker.spawn(async move {
            connection(tcp, tls, &of_connection).await;
            drop(permit);
        });
    }
}

async fn connection(tcp: TcpStream, tls: Option<Arc<Tls>>, server: &Arc<Server>) {
    drop(tcp.set_nodelay(true));
    let Some(tls) = tls else {
        let service = service_fn(|request| route::health(request, server));
        let http = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(tcp), service);
        tokio::select! { ended = http => drop(ended), () = server.token.cancelled() => {} }
        return;
    };
    let Some(tls) = tls.acceptor().await else { return };
    let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, tls.accept(tcp)).await else { return };
    let peer = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first()).map(|it| it.to_vec());
    let peer = peer.as_deref().and_then(access::user_of_certificate);
    let asked = AtomicBool::new(false);
    let service = service_fn(|request| {
        asked.store(true, Ordering::Relaxed);
        route::handle(request, peer.clone(), server.clone())
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HANDSHAKE);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_secs(60))
        .keep_alive_timeout(Duration::from_secs(20));
    let http = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    // A cancelled server drops its connections; clients come back.
    tokio::select! {
        ended = http => drop(ended),
        () = silence(&asked) => {}
        () = server.token.cancelled() => {}
    }
}

/// Ends when a client has asked nothing for too long after its handshake; never once it has asked.
async fn silence(asked: &AtomicBool) {
    tokio::time::sleep(HANDSHAKE).await;
    if asked.load(Ordering::Relaxed) {
        std::future::pending::<()>().await;
    }
}
