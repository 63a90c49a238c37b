//! The server as its owner sees it: started, called in process, served over TLS, stopped.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use http::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls::pki_types::CertificateDer;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api::Api;
use crate::auth::UserInfo;
use crate::bootstrap;
use crate::config::ApiConfig;
use crate::error::Outcome;
use crate::http::body::{Body, boxed};
use crate::http::handler::{Caller, handle};

/// How often old revisions are forgotten.
const COMPACT_EVERY: Duration = Duration::from_secs(300);
/// How long a client may take for its TLS handshake or for the head of a request.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Connections open at once.
const CONNECTIONS: usize = 20_000;

/// A running API server.
pub struct ApiServer {
    api: Arc<Api>,
    tasks: TaskTracker,
    token: CancellationToken,
}

impl ApiServer {
    /// Starts the watch cache, creates what must be there, and is then ready for requests.
    pub async fn new(config: ApiConfig) -> Outcome<Self> {
        let server = Self {
            api: Arc::new(Api::new(config)),
            tasks: TaskTracker::new(),
            token: CancellationToken::new(),
        };
        let (feed, token) = (server.api.feed().clone(), server.token.clone());
        server.tasks.spawn(async move { feed.run(token).await });
        server.api.warm_up().await?;
        bootstrap::run(&server.api).await?;
        let (api, token) = (server.api.clone(), server.token.clone());
        server.tasks.spawn(async move { compact(&api, &token).await });
        Ok(server)
    }

    /// What all requests share.
    pub fn api(&self) -> &Arc<Api> {
        &self.api
    }

    /// The transport of a component in this process that acts as `user`: no socket, the same way through the server.
    pub fn service(&self, user: UserInfo) -> InProcess {
        InProcess { api: self.api.clone(), caller: Caller::Known(Arc::new(user)) }
    }

    /// Serves TLS connections until cancelled, then lets running requests end for a while.
    pub async fn serve(&self, listener: TcpListener, tls: rustls::ServerConfig, token: CancellationToken) {
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let connections = TaskTracker::new();
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let accepted = tokio::select! {
                () = token.cancelled() => break,
                accepted = accept(&listener, &places) => accepted,
            };
            let Some((stream, place)) = accepted else { continue };
            let (api, acceptor, token) = (self.api.clone(), acceptor.clone(), token.clone());
            connections.spawn(async move {
                connection(api, acceptor, stream, token).await;
                drop(place);
            });
        }
        drop(listener);
        connections.close();
        if tokio::time::timeout(HANDSHAKE, connections.wait()).await.is_err() {
            tracing::info!("connections were still open at the end");
        }
    }

    /// Stops what `new` started. Watches in process end.
    pub async fn shutdown(&self) {
        self.token.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.api.sockets.shutdown().await;
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.token.cancel();
    }
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let place = places.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, place)),
        Err(err) => {
            // Out of file descriptors, mostly; it passes.
            tracing::warn!(error = %err, "connection could not be accepted");
            tokio::time::sleep(Duration::from_millis(50)).await;
            None
        }
    }
}

async fn connection(api: Arc<Api>, acceptor: TlsAcceptor, stream: TcpStream, token: CancellationToken) {
    let _ = stream.set_nodelay(true);
    let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await else { return };
    let certificates: Arc<[CertificateDer<'static>]> = stream
        .get_ref()
        .1
        .peer_certificates()
        .unwrap_or_default()
        .iter()
        .map(|c| c.clone().into_owned())
        .collect();
    let caller = Caller::Peer(certificates);
    let asked = Arc::new(AtomicBool::new(false));
    let silence = silence(asked.clone());
    let service = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
        asked.store(true, Ordering::Relaxed);
        let (api, caller) = (api.clone(), caller.clone());
        async move { Ok::<_, Infallible>(handle(api, caller, request.map(boxed)).await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HANDSHAKE);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(250)
        .keep_alive_interval(Duration::from_secs(60))
        .keep_alive_timeout(Duration::from_secs(20));
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        done = connection.as_mut() => if let Err(err) = done {
            tracing::debug!(error = %err, "connection broke");
        },
        () = silence => {}
        () = token.cancelled() => {
            connection.as_mut().graceful_shutdown();
            let _ = tokio::time::timeout(Duration::from_secs(5), connection).await;
        }
    }
}

/// Ends when a client has asked nothing for too long after its handshake; never once it has asked. Without it, clients
/// that send nothing, or half of a preface, keep their places for ever.
async fn silence(asked: Arc<AtomicBool>) {
    tokio::time::sleep(HANDSHAKE).await;
    if asked.load(Ordering::Relaxed) {
        std::future::pending::<()>().await;
    }
}

/// Forgets revisions older than one round.
async fn compact(api: &Api, token: &CancellationToken) {
    let mut before = None;
    loop {
        tokio::select! {
            () = token.cancelled() => return,
            () = tokio::time::sleep(COMPACT_EVERY) => {}
        }
        let store = api.feed().store();
        if let Some(revision) = before
            && let Err(err) = store.compact(revision).await
        {
            tracing::warn!(revision, error = %err, "old revisions could not be forgotten");
        }
        before = store.revision().await.ok().filter(|revision| *revision > 0);
    }
}

/// A transport without a socket: give it to `kube::Client::new`.
#[derive(Clone)]
pub struct InProcess {
    api: Arc<Api>,
    caller: Caller,
}

impl tower::Service<Request<kube::client::Body>> for InProcess {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<kube::client::Body>) -> Self::Future {
        let Self { api, caller } = self.clone();
        Box::pin(async move { Ok(handle(api, caller, request.map(boxed)).await) })
    }
}
