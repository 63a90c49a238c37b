//! Frames over a connection.

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::SpdyError;
use super::frame::{Frame, Kind, decode, encode};
use super::headers::{Deflate, Headers, Inflate};

/// The longest data frame we write.
const CHUNK: usize = 32 << 10;

/// Reads frames.
pub struct Reader<R> {
    io: R,
    buffer: BytesMut,
    inflate: Inflate,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    /// Of a connection right after its upgrade.
    pub fn new(io: R) -> Self {
        Self { io, buffer: BytesMut::new(), inflate: Inflate::new() }
    }

    /// The next frame; `None` at the end of the connection. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<Option<Frame>, SpdyError> {
        loop {
            if let Some(frame) = decode(&mut self.buffer, &mut self.inflate)? {
                return Ok(Some(frame));
            }
            self.buffer.reserve(4096);
            if self.io.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        }
    }
}

/// Writes frames. A write must not be dropped half-way.
pub struct Writer<W> {
    io: W,
    out: BytesMut,
    deflate: Deflate,
    next_stream: u32,
}

impl<W: AsyncWrite + Unpin> Writer<W> {
    /// The side that made the connection: its streams have odd numbers.
    pub fn client(io: W) -> Self {
        Self { io, out: BytesMut::new(), deflate: Deflate::new(), next_stream: 1 }
    }

    /// Opens a stream.
    pub async fn open(&mut self, headers: Headers) -> Result<u32, SpdyError> {
        let stream = self.next_stream;
        self.next_stream += 2;
        self.frame(&Frame { stream, fin: false, kind: Kind::Open(headers) }).await?;
        Ok(stream)
    }

    /// Sends bytes of a stream, in frames of a size that peers like.
    pub async fn data(&mut self, stream: u32, mut bytes: Bytes) -> Result<(), SpdyError> {
        while !bytes.is_empty() {
            let chunk = bytes.split_to(bytes.len().min(CHUNK));
            self.frame(&Frame { stream, fin: false, kind: Kind::Data(chunk) }).await?;
        }
        Ok(())
    }

    /// Ends our side of a stream.
    pub async fn finish(&mut self, stream: u32) -> Result<(), SpdyError> {
        self.frame(&Frame { stream, fin: true, kind: Kind::Data(Bytes::new()) }).await
    }

    /// Sends a frame.
    pub async fn frame(&mut self, frame: &Frame) -> Result<(), SpdyError> {
        self.out.clear();
        encode(frame, &mut self.deflate, &mut self.out)?;
        self.io.write_all(&self.out).await?;
        self.io.flush().await?;
        Ok(())
    }
}
