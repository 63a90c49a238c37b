//! `GET /healthz` and `/livez`: is what the API says also in the kernel?

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use jiff::Timestamp;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A change that waits longer than this is a fault: upstream allows twice its sync period of 30 s.
const PATIENCE: Duration = Duration::from_secs(60);
const HEADER_LIMIT: Duration = Duration::from_secs(10);

/// When changes came, and when they were in the kernel.
#[derive(Debug, Default)]
pub(crate) struct Health(Mutex<Times>);

#[derive(Debug, Default, Clone, Copy)]
struct Times {
    updated: Option<Timestamp>,
    waiting_since: Option<Timestamp>,
}

impl Health {
    /// A change waits to be written.
    pub(crate) fn queued(&self) {
        let mut times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        times.waiting_since.get_or_insert_with(Timestamp::now);
    }

    /// The kernel has all that was known.
    pub(crate) fn updated(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) =
            Times { updated: Some(Timestamp::now()), waiting_since: None };
    }

    fn times(&self) -> Times {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether this is healthy at `now`.
fn healthy(times: Times, now: Timestamp) -> bool {
    let late = |since: Timestamp| now.duration_since(since).unsigned_abs() > PATIENCE;
    times.updated.is_some() && !times.waiting_since.is_some_and(late)
}

/// Serves until the token is cancelled.
pub(crate) async fn serve(listener: TcpListener, health: Arc<Health>, token: CancellationToken) {
    let connections = TaskTracker::new();
    // Dropping the accept at a wait loses no connection that a caller would miss: we are about to end.
    while let Some(accepted) = token.run_until_cancelled(listener.accept()).await {
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(Duration::from_millis(100)).await; // out of files: let some be closed
            continue;
        };
        let (health, token) = (Arc::clone(&health), token.clone());
        connections.spawn(async move {
            let service = hyper::service::service_fn(move |request| {
                let answer = answer(&request, &health);
                async move { Ok::<_, Infallible>(answer) }
            });
            let mut server = hyper::server::conn::http1::Builder::new();
            server.timer(TokioTimer::new()).header_read_timeout(HEADER_LIMIT);
            // A caller that goes away is its own affair.
            let _ = token.run_until_cancelled(server.serve_connection(TokioIo::new(stream), service)).await;
        });
    }
    connections.close();
    connections.wait().await;
}

fn answer(request: &Request<Incoming>, health: &Health) -> Response<Full<Bytes>> {
    let (times, now) = (health.times(), Timestamp::now());
    let (status, body) = match request.uri().path() {
        "/healthz" | "/livez" => {
            let status = if healthy(times, now) { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            let updated = times.updated.map(|it| it.to_string()).unwrap_or_default();
            (
                status,
                format!(
                    "{{\"lastUpdated\": \"{updated}\",\"currentTime\": \"{now}\", \"nodeEligible\": true}}"
                ),
            )
        }
        _ => (StatusCode::NOT_FOUND, String::new()),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn healthy_while_no_change_waits_for_long() {
        let at = |second: i64| Timestamp::from_second(1_000_000 + second).unwrap();
        let check = |updated: Option<i64>, waiting: Option<i64>, now: i64, wanted: bool| {
            let times = Times { updated: updated.map(at), waiting_since: waiting.map(at) };
            assert_eq!(healthy(times, at(now)), wanted, "{updated:?} {waiting:?} {now}");
        };
        check(None, None, 0, false);
        check(Some(0), None, 10_000, true);
        check(Some(0), Some(10), 69, true);
        check(Some(0), Some(10), 71, false);
    }
}
