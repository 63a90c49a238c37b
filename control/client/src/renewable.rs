//! A client whose credentials change while it is in use.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame};
use kube::client::Body;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tower::BoxError;

use crate::in_process;

/// What the requests of one time go through.
#[derive(Clone)]
struct Generation {
    client: kube::Client,
    over: CancellationToken,
}

/// Gives a renewable client its next credentials.
#[derive(Clone)]
pub struct Renewal {
    current: Arc<watch::Sender<Generation>>,
}

impl Renewal {
    /// From now on requests go through `next`. Answers that are still being read end with an error, so that no watch
    /// lives on under the old credentials: those who watch ask again.
    pub fn replace(&self, next: kube::Client) {
        let next = Generation { client: next, over: CancellationToken::new() };
        self.current.send_replace(next).over.cancel();
    }
}

/// A client that sends every request through the newest client of its [`Renewal`]. Must be called inside a tokio
/// runtime.
pub fn renewable(first: kube::Client) -> (kube::Client, Renewal) {
    let current = Arc::new(watch::Sender::new(Generation { client: first, over: CancellationToken::new() }));
    let renewal = Renewal { current: current.clone() };
    let client = in_process(tower::service_fn(move |request: http::Request<Body>| {
        let Generation { client, over } = current.borrow().clone();
        async move {
            let answer = tokio::select! {
                answer = client.send(request) => answer?,
                () = over.cancelled() => return Err(BoxError::from(Replaced)),
            };
            Ok(answer.map(|body| Until { body, over: Box::pin(over.cancelled_owned()) }))
        }
    }));
    (client, renewal)
}

/// The connection was given up for one with newer credentials.
#[derive(Debug, thiserror::Error)]
#[error("the client's credentials were renewed")]
struct Replaced;

/// A body that ends when its client is replaced.
struct Until {
    body: Body,
    over: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl HttpBody for Until {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.over.as_mut().poll(context).is_ready() {
            return Poll::Ready(Some(Err(Replaced.into())));
        }
        Pin::new(&mut self.body).poll_frame(context).map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::StreamBody;

    /// A server that says its name, then nothing more.
    fn endless(name: &'static str) -> kube::Client {
        in_process(tower::service_fn(move |_: http::Request<Body>| async move {
            let first = futures::stream::iter([Ok::<_, BoxError>(Frame::data(Bytes::from(name)))]);
            let frames = futures::StreamExt::chain(first, futures::stream::pending());
            Ok::<_, BoxError>(http::Response::new(StreamBody::new(frames)))
        }))
    }

    async fn begin(client: &kube::Client) -> (Body, Bytes) {
        let request = http::Request::get("/watch").body(Body::empty()).unwrap();
        let mut body = client.send(request).await.unwrap().into_body();
        let first = http_body_util::BodyExt::frame(&mut body).await.unwrap().unwrap().into_data().unwrap();
        (body, first)
    }

    #[tokio::test]
    async fn watches_of_old_credentials_end_and_new_requests_go_the_new_way() {
        let (client, renewal) = renewable(endless("old"));
        let (mut watch, first) = begin(&client).await;
        assert_eq!(first, "old");
        renewal.replace(endless("new"));
        let ended = http_body_util::BodyExt::frame(&mut watch).await.unwrap();
        assert!(ended.is_err(), "the old watch goes on");
        assert_eq!(begin(&client).await.1, "new");
    }
}
