//! A byte stream inside the binary messages of a WebSocket.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use super::StreamError;
use super::splice::stillness;

/// Unwraps the client's messages to `inner` and wraps what `inner` says, until either ends or nothing moved for `idle`.
pub async fn tunnel<S, I>(
    client: WebSocketStream<S>,
    inner: I,
    idle: Option<Duration>,
) -> Result<(), StreamError>
where
    S: AsyncRead + AsyncWrite + Unpin,
    I: AsyncRead + AsyncWrite,
{
    let (mut to_client, mut from_client) = client.split();
    let (mut from_inner, mut to_inner) = tokio::io::split(inner);
    let moved = AtomicU64::new(0);
    let up = async {
        while let Some(message) = from_client.next().await {
            match message? {
                Message::Binary(bytes) => {
                    moved.fetch_add(1, Ordering::Relaxed);
                    to_inner.write_all(&bytes).await.map_err(StreamError::Copy)?;
                    to_inner.flush().await.map_err(StreamError::Copy)?;
                }
                Message::Close(_) => break,
                Message::Text(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
        Ok(())
    };
    let down = async {
        let mut buffer = vec![0; 16 << 10];
        loop {
            let count = from_inner.read(&mut buffer).await.map_err(StreamError::Copy)?;
            if count == 0 {
                return Ok::<(), StreamError>(());
            }
            moved.fetch_add(1, Ordering::Relaxed);
            to_client.send(Message::binary(buffer[..count].to_vec())).await?;
        }
    };
    // Whichever side ends, the other has nobody left to talk to.
    let ended = tokio::select! {
        ended = up => ended,
        ended = down => ended,
        () = stillness(&moved, idle) => Err(StreamError::Copy(std::io::ErrorKind::TimedOut.into())),
    };
    // The client may be gone already.
    drop(to_client.close().await);
    ended
}
