//! Container logs off the disk, in CRI's format.

mod follow; // waiting for more, across rotation
mod line; // one line of the format
mod read; // from a position to the end
mod tail; // where the last lines begin

use std::sync::Arc;

use bytes::Bytes;
use coracle_cri::RuntimeHandle;
use coracle_cri::proto::ContainerState;
use http::StatusCode;
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::Server;
use super::answer::{Answer, streamed, text};
use super::route::{Query, failed};
use crate::report;
use follow::Changes;
use read::LogFile;

/// What is wanted of a log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct LogOptions {
    /// Go on as it grows, until the container ends.
    pub follow: bool,
    /// Of the container before.
    pub previous: bool,
    /// With each line's time.
    pub timestamps: bool,
    /// The last lines only.
    pub tail: Option<u64>,
    /// So many bytes at most.
    pub limit: Option<u64>,
    /// Lines from then on.
    pub since: Option<Timestamp>,
    /// `Stdout` or `Stderr` only.
    pub stream: Option<line::Stream>,
}

impl LogOptions {
    /// Of a query; the error is for the caller.
    pub fn read(query: &Query) -> Result<Self, String> {
        let number = |name: &str| match query.get(name).map(|it| (it, it.parse::<i64>())) {
            None => Ok(None),
            Some((_, Ok(value))) => Ok(Some(value)),
            Some((text, Err(_))) => Err(format!("{name}: invalid value {text:?}")),
        };
        let unsigned = |name: &str, least: i64| match number(name)? {
            Some(value) if value < least => Err(format!("{name}: must be greater than or equal to {least}")),
            value => Ok(value.and_then(|it| u64::try_from(it).ok())),
        };
        let mut since = None;
        if let Some(seconds) = unsigned("sinceSeconds", 1)? {
            let ago = std::time::Duration::from_secs(seconds);
            since = Timestamp::now().checked_sub(ago).ok();
        }
        if let Some(time) = query.get("sinceTime") {
            since = Some(time.parse().map_err(|_| format!("sinceTime: invalid value {time:?}"))?);
        }
        let stream = match query.get("stream") {
            None | Some("All") => None,
            Some("Stdout") => Some(line::Stream::Stdout),
            Some("Stderr") => Some(line::Stream::Stderr),
            Some(other) => return Err(format!("stream: unsupported value {other:?}")),
        };
        Ok(Self {
            follow: query.flag("follow"),
            previous: query.flag("previous"),
            timestamps: query.flag("timestamps"),
            tail: unsigned("tailLines", 0)?,
            limit: unsigned("limitBytes", 1)?,
            since,
            stream,
        })
    }
}

/// The log of a container, as it is and, if wanted, as it grows.
pub(super) async fn serve(server: &Arc<Server>, id: String, options: LogOptions) -> Answer {
    let status = match server.deps.runtime.container_status(&id, false).await {
        Ok(answer) => answer.status.unwrap_or_default(),
        Err(err) if err.is_not_found() => return text(StatusCode::NOT_FOUND, report(&err)),
        Err(err) => return failed(&err),
    };
    let path = std::path::PathBuf::from(status.log_path);
    let changes = options.follow.then(|| Changes::of(&path));
    let file = match LogFile::open(path, &options).await {
        Ok(file) => file,
        Err(err) if options.previous => {
            return text(
                StatusCode::BAD_REQUEST,
                format!("the log of the previous container is gone: {err}"),
            );
        }
        Err(err) => {
            let words = format!("failed to try resolving symlinks in path: {err}");
            return text(StatusCode::INTERNAL_SERVER_ERROR, words);
        }
    };
    let (pieces, body) = mpsc::channel(4);
    let (runtime, token) = (server.deps.runtime.clone(), server.token.clone());
    server.tracker.spawn(async move {
        // The reader has no effects: it may be dropped anywhere.
        tokio::select! {
            () = pump(file, changes, &runtime, &id, &pieces) => {}
            () = pieces.closed() => {}
            () = token.cancelled() => {}
        }
    });
    streamed("text/plain", ReceiverStream::new(body))
}

/// Sends what there is; while following, waits and goes on until the container has ended and all is sent.
async fn pump(
    mut file: LogFile,
    changes: Option<Changes>,
    runtime: &RuntimeHandle,
    id: &str,
    pieces: &mpsc::Sender<Bytes>,
) {
    let Some(mut changes) = changes else {
        while let Ok(Some(piece)) = file.next().await {
            if pieces.send(piece).await.is_err() {
                return;
            }
        }
        return;
    };
    let mut last_look = false;
    loop {
        match file.next().await {
            Ok(Some(piece)) => {
                if pieces.send(piece).await.is_err() {
                    return;
                }
            }
            Ok(None) if file.is_full() => return,
            Ok(None) => match file.rotated().await {
                true => last_look = false,
                false if last_look => return,
                // What the container wrote before its end was seen is read once more.
                false if !runs(runtime, id).await => last_look = true,
                false => changes.wait().await,
            },
            Err(err) => {
                tracing::debug!(container = id, error = %err, "cannot read a log");
                return;
            }
        }
    }
}

async fn runs(runtime: &RuntimeHandle, id: &str) -> bool {
    match runtime.container_status(id, false).await {
        Ok(answer) => answer.status.is_some_and(|it| it.state() == ContainerState::ContainerRunning),
        // A runtime that restarts says nothing about the container.
        Err(err) => !err.is_not_found(),
    }
}

#[cfg(test)]
mod tests;
