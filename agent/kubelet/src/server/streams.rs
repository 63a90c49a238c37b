//! Exec, attach and port-forward: from the client to the runtime's streaming server.

use std::sync::Arc;

use coracle_cri::CriError;
use coracle_cri::proto as v1;
use coracle_cri::streaming::{self, Opened, StreamError, Wanted, websocket};
use http::header::{AUTHORIZATION, HOST, HeaderMap, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::Server;
use super::answer::{Answer, empty, text};
use super::route::{Query, failed, no_container, pod};
use crate::{pod as of, report};

/// The two ways to talk to a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    /// A new process.
    Exec,
    /// The container's own.
    Attach,
}

/// Carries exec or attach.
pub(super) async fn command(
    mut request: Request<Incoming>,
    server: &Arc<Server>,
    stream: Stream,
    [namespace, name, container]: [&str; 3],
    query: &Query,
) -> Answer {
    if !websocket::is_upgrade(request.headers()) {
        return text(StatusCode::BAD_REQUEST, "Upgrade request required");
    }
    let tty = query.flag("tty");
    let wanted = Wanted {
        stdin: query.flag("input"),
        stdout: query.flag("output"),
        stderr: query.flag("error") && !tty,
        tty,
    };
    if !(wanted.stdin || wanted.stdout || wanted.stderr) {
        return text(StatusCode::BAD_REQUEST, "you must specify at least 1 of stdin, stdout, stderr");
    }
    let id = match pod(server, namespace, name) {
        Ok(view) => match view.running(container) {
            Ok(id) => id,
            Err(why) => return no_container(why),
        },
        Err(answer) => return answer,
    };
    let url = match ask(server, stream, id, wanted, query).await {
        Ok(url) => url,
        Err(err) => return refused(&err),
    };
    let idle = Some(server.deps.config.server.streaming_idle);
    if !websocket::is_websocket(request.headers()) || !websocket::offers(request.headers(), websocket::V5) {
        return pass(request, server, &url).await;
    }
    let opened = match streaming::open(&url, Method::POST, &spdy("v4.channel.k8s.io")).await {
        Ok(opened) => opened,
        Err(err) => return broken(&err),
    };
    let client = hyper::upgrade::on(&mut request);
    carry(server, client, move |io| async move {
        let client = websocket::server(io).await;
        streaming::remote_command(client, opened.io, wanted, idle).await
    });
    empty(websocket::accept(request.headers(), websocket::V5))
}

async fn ask(
    server: &Server,
    stream: Stream,
    container_id: String,
    wanted: Wanted,
    query: &Query,
) -> Result<String, CriError> {
    let Wanted { stdin, stdout, stderr, tty } = wanted;
    match stream {
        Stream::Exec => {
            let cmd = query.all("command").map(str::to_owned).collect();
            let request = v1::ExecRequest { container_id, cmd, tty, stdin, stdout, stderr };
            server.deps.runtime.exec(request).await
        }
        Stream::Attach => {
            let request = v1::AttachRequest { container_id, stdin, tty, stdout, stderr };
            server.deps.runtime.attach(request).await
        }
    }
}

/// Carries port-forward.
pub(super) async fn port_forward(
    mut request: Request<Incoming>,
    server: &Arc<Server>,
    [namespace, name]: [&str; 2],
    query: &Query,
) -> Answer {
    if !websocket::is_upgrade(request.headers()) {
        return text(StatusCode::BAD_REQUEST, "Upgrade request required");
    }
    let view = match pod(server, namespace, name) {
        Ok(view) => view,
        Err(answer) => return answer,
    };
    let sandbox = match sandbox(server, of::uid(&view.pod)).await {
        Ok(Some(id)) => id,
        Ok(None) => return text(StatusCode::NOT_FOUND, format!("pod not found ({name:?})")),
        Err(err) => return failed(&err),
    };
    let ports = query.all("ports").chain(query.all("port"));
    let port = ports.flat_map(|it| it.split(',')).filter_map(|it| it.trim().parse().ok()).collect();
    let asked =
        server.deps.runtime.port_forward(v1::PortForwardRequest { pod_sandbox_id: sandbox, port }).await;
    let url = match asked {
        Ok(url) => url,
        Err(err) => return refused(&err),
    };
    let tunnelled =
        websocket::is_websocket(request.headers()) && websocket::offers(request.headers(), websocket::TUNNEL);
    if !tunnelled {
        return pass(request, server, &url).await;
    }
    let opened = match streaming::open(&url, Method::POST, &spdy("portforward.k8s.io")).await {
        Ok(opened) => opened,
        Err(err) => return broken(&err),
    };
    let idle = Some(server.deps.config.server.streaming_idle);
    let client = hyper::upgrade::on(&mut request);
    carry(server, client, move |io| async move {
        streaming::tunnel(websocket::server(io).await, opened.io, idle).await
    });
    empty(websocket::accept(request.headers(), websocket::TUNNEL))
}

/// The pod's sandbox that is ready, the newest if there are several.
async fn sandbox(server: &Server, uid: &str) -> Result<Option<String>, CriError> {
    let filter = v1::PodSandboxFilter {
        state: Some(v1::PodSandboxStateValue { state: v1::PodSandboxState::SandboxReady.into() }),
        label_selector: [("io.kubernetes.pod.uid".to_owned(), uid.to_owned())].into(),
        ..v1::PodSandboxFilter::default()
    };
    let found = server.deps.runtime.list_pod_sandboxes(Some(filter)).await?;
    Ok(found.into_iter().max_by_key(|it| it.created_at).map(|it| it.id))
}

/// Passes an upgrade through as it is: the runtime speaks SPDY and the old WebSocket protocols itself.
async fn pass(mut request: Request<Incoming>, server: &Arc<Server>, url: &str) -> Answer {
    let mut headers = request.headers().clone();
    for private in [AUTHORIZATION, HOST] {
        headers.remove(private);
    }
    let method = request.method().clone();
    let Opened { headers, io: runtime } = match streaming::open(url, method, &headers).await {
        Ok(opened) => opened,
        Err(err) => return broken(&err),
    };
    let idle = Some(server.deps.config.server.streaming_idle);
    let client = hyper::upgrade::on(&mut request);
    carry(server, client, move |io| async move {
        streaming::splice(io, runtime, idle).await.map_err(StreamError::Copy)
    });
    let mut answer = Response::new(());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *answer.headers_mut() = headers;
    empty(answer)
}

/// Runs `work` on the client's connection once it is upgraded, as a task of the server.
fn carry<F, W>(server: &Arc<Server>, client: OnUpgrade, work: W)
where
    W: FnOnce(TokioIo<hyper::upgrade::Upgraded>) -> F + Send + 'static,
    F: Future<Output = Result<(), StreamError>> + Send,
{
    let token = server.token.clone();
    server.tracker.spawn(async move {
        let Ok(io) = client.await else { return };
        // A server that stops cuts its streams.
        tokio::select! {
            ended = work(TokioIo::new(io)) => {
                if let Err(err) = ended {
                    tracing::debug!(error = %report(&err), "a stream broke off");
                }
            }
            () = token.cancelled() => {}
        }
    });
}

fn spdy(protocol: &'static str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("upgrade", HeaderValue::from_static("SPDY/3.1"));
    headers.insert("x-stream-protocol-version", HeaderValue::from_static(protocol));
    headers
}

fn refused(err: &CriError) -> Answer {
    if err.is_not_found() { text(StatusCode::NOT_FOUND, report(err)) } else { failed(err) }
}

fn broken(err: &StreamError) -> Answer {
    match err {
        StreamError::Refused { status, body, .. } => text(*status, body.clone()),
        other => failed(other),
    }
}
