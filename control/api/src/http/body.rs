//! Response bodies: bytes at hand, chunks made on demand, or a stream that lives as long as the client.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::stream::{BoxStream, Stream};
use http_body::{Frame, SizeHint};

/// Anything that can happen on a request body.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A request body of any origin.
pub type RequestBody = http_body_util::combinators::UnsyncBoxBody<Bytes, BoxError>;

/// A response body.
pub enum Body {
    /// All of it.
    Full(Option<Bytes>),
    /// Made chunk by chunk as the client takes them, so that a big list is never whole in memory.
    Lazy(Box<dyn Iterator<Item = Bytes> + Send>),
    /// Chunks as they happen.
    Stream(BoxStream<'static, Bytes>),
    /// Bytes of another server, passed on.
    Proxied(RequestBody),
}

impl Body {
    /// No bytes.
    pub fn empty() -> Self {
        Self::Full(None)
    }

    /// These bytes.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        Self::Full(Some(bytes.into()))
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Self::full(bytes)
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Self::full(text)
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "Body::Full",
            Self::Lazy(_) => "Body::Lazy",
            Self::Stream(_) => "Body::Stream",
            Self::Proxied(_) => "Body::Proxied",
        })
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.get_mut() {
            Self::Full(bytes) => {
                Poll::Ready(bytes.take().filter(|b| !b.is_empty()).map(|b| Ok(Frame::data(b))))
            }
            Self::Lazy(chunks) => Poll::Ready(chunks.next().map(|b| Ok(Frame::data(b)))),
            Self::Stream(stream) => {
                Pin::new(stream).poll_next(cx).map(|next| next.map(|b| Ok(Frame::data(b))))
            }
            Self::Proxied(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Full(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            Self::Proxied(body) => body.is_end_stream(),
            Self::Lazy(_) | Self::Stream(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            Self::Proxied(body) => body.size_hint(),
            Self::Lazy(_) | Self::Stream(_) => SizeHint::default(),
        }
    }
}

/// Boxes a request body of any kind.
pub fn boxed<B>(body: B) -> RequestBody
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    use http_body_util::BodyExt;
    body.map_err(Into::into).boxed_unsync()
}

/// A request body of known bytes.
pub fn request_bytes(bytes: impl Into<Bytes>) -> RequestBody {
    boxed(http_body_util::Full::new(bytes.into()).map_err(|never: Infallible| match never {}))
}

use http_body_util::BodyExt as _;

/// Compresses chunks with gzip as they pass.
pub struct Gzip<I> {
    chunks: I,
    encoder: Option<flate2::write::GzEncoder<Vec<u8>>>,
}

impl<I: Iterator<Item = Bytes>> Gzip<I> {
    /// Over these chunks. Level 1, as speed matters more than the last percent.
    pub fn new(chunks: I) -> Self {
        let encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        Self { chunks, encoder: Some(encoder) }
    }
}

impl<I: Iterator<Item = Bytes>> Iterator for Gzip<I> {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        use std::io::Write;
        loop {
            let encoder = self.encoder.as_mut()?;
            let Some(chunk) = self.chunks.next() else {
                let rest = self.encoder.take()?.finish().ok()?;
                return (!rest.is_empty()).then(|| rest.into());
            };
            encoder.write_all(&chunk).ok()?;
            if encoder.get_ref().len() > 16 * 1024 {
                return Some(std::mem::take(encoder.get_mut()).into());
            }
        }
    }
}

/// Keeps a value alive as long as a stream runs.
pub fn with_guard<S, G>(stream: S, guard: G) -> BoxStream<'static, Bytes>
where
    S: Stream<Item = Bytes> + Send + 'static,
    G: Send + 'static,
{
    use futures::StreamExt;
    stream
        .map(move |item| {
            let _alive = &guard;
            item
        })
        .boxed()
}
