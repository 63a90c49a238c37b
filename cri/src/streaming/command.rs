//! `v5.channel.k8s.io` to SPDY: exec and attach with half-close and resize.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite, WriteHalf};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::StreamError;
use super::spdy::{Frame, Kind, Reader, SpdyError, Writer};
use super::splice::stillness;
use super::websocket::message;

/// The channels of the WebSocket protocol.
const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
/// Announces that the channel in the next byte is at its end.
const CLOSE: u8 = 255;

/// Which streams a command has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Input.
    pub stdin: bool,
    /// Output.
    pub stdout: bool,
    /// Error output; never with a terminal.
    pub stderr: bool,
    /// A terminal, with resize.
    pub tty: bool,
}

/// The streams' numbers on the SPDY side; 0 is none.
#[derive(Debug, Clone, Copy, Default)]
struct Streams {
    error: u32,
    stdin: u32,
    stdout: u32,
    stderr: u32,
    resize: u32,
}

/// Carries a command's streams between a v5 WebSocket client and a SPDY connection to the runtime
/// (`v4.channel.k8s.io`), until the command ends, the client goes, or nothing moved for `idle`.
pub async fn remote_command<S, I>(
    client: WebSocketStream<S>,
    runtime: I,
    wanted: Wanted,
    idle: Option<Duration>,
) -> Result<(), StreamError>
where
    S: AsyncRead + AsyncWrite + Unpin,
    I: AsyncRead + AsyncWrite,
{
    let (read, write) = tokio::io::split(runtime);
    let (mut to_client, from_client) = client.split();
    let mut writer = Writer::client(write);
    let streams = open_streams(&mut writer, wanted).await?;
    let (pings, due) = mpsc::channel(4);
    let moved = AtomicU64::new(0);
    let up = up(from_client, writer, streams, due, &moved);
    let down = down(Reader::new(read), &mut to_client, streams, pings, &moved);
    // The end of the command ends all; so does the client's going, and silence. Nobody is left to miss what a dropped
    // direction still held.
    let ended = tokio::select! {
        ended = up => ended,
        ended = down => ended,
        () = stillness(&moved, idle) => Err(StreamError::Copy(std::io::ErrorKind::TimedOut.into())),
    };
    let farewell = CloseFrame { code: CloseCode::Normal, reason: "".into() };
    drop(to_client.send(Message::Close(Some(farewell))).await);
    drop(to_client.close().await);
    ended
}

async fn open_streams<W: AsyncWrite + Unpin>(
    writer: &mut Writer<W>,
    wanted: Wanted,
) -> Result<Streams, StreamError> {
    let mut streams = Streams::default();
    let plan = [
        (true, "error", &mut streams.error),
        (wanted.stdin, "stdin", &mut streams.stdin),
        (wanted.stdout, "stdout", &mut streams.stdout),
        (wanted.stderr && !wanted.tty, "stderr", &mut streams.stderr),
        (wanted.tty, "resize", &mut streams.resize),
    ];
    for (wanted, name, stream) in plan {
        if wanted {
            *stream = writer.open(vec![("streamtype".to_owned(), name.to_owned())]).await?;
        }
    }
    Ok(streams)
}

/// From the client to the runtime. Ends when the client does.
async fn up<S: AsyncRead + AsyncWrite + Unpin, I: AsyncRead + AsyncWrite>(
    mut client: SplitStream<WebSocketStream<S>>,
    mut writer: Writer<WriteHalf<I>>,
    streams: Streams,
    mut pings: mpsc::Receiver<u32>,
    moved: &AtomicU64,
) -> Result<(), StreamError> {
    // A command that has ended may refuse input before its end is known here: from then on input goes nowhere.
    let mut open = true;
    loop {
        // Both arms only wait; what they took is handled below, outside of the choice.
        let outcome = tokio::select! {
            next = client.next() => match next {
                None | Some(Ok(Message::Close(_))) => return Ok(()),
                Some(Ok(Message::Binary(bytes))) => {
                    moved.fetch_add(1, Ordering::Relaxed);
                    Input::Bytes(bytes)
                }
                Some(Ok(Message::Text(text))) => Input::Bytes(text.into()),
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => continue,
                Some(Err(err)) => return Err(err.into()),
            },
            Some(id) = pings.recv() => Input::Ping(id),
        };
        if open {
            open = forward(&mut writer, streams, outcome).await.is_ok();
        }
    }
}

enum Input {
    Bytes(Bytes),
    Ping(u32),
}

async fn forward<W: AsyncWrite + Unpin>(
    writer: &mut Writer<W>,
    streams: Streams,
    input: Input,
) -> Result<(), SpdyError> {
    let mut bytes = match input {
        Input::Ping(id) => return writer.frame(&Frame { stream: id, fin: false, kind: Kind::Ping }).await,
        Input::Bytes(bytes) if bytes.is_empty() => return Ok(()),
        Input::Bytes(bytes) => bytes,
    };
    let channel = bytes.split_to(1)[0];
    let stream_of = |channel: u8| match channel {
        STDIN => streams.stdin,
        RESIZE => streams.resize,
        _ => 0,
    };
    match (channel, bytes.first().copied()) {
        (CLOSE, Some(which)) if stream_of(which) != 0 => writer.finish(stream_of(which)).await,
        _ if stream_of(channel) != 0 => writer.data(stream_of(channel), bytes).await,
        _ => Ok(()),
    }
}

/// From the runtime to the client. Ends when the command does.
async fn down<S: AsyncRead + AsyncWrite + Unpin, R: AsyncRead + Unpin>(
    mut runtime: Reader<R>,
    client: &mut SplitSink<WebSocketStream<S>, Message>,
    streams: Streams,
    pings: mpsc::Sender<u32>,
    moved: &AtomicU64,
) -> Result<(), StreamError> {
    let mut status_sent = false;
    while let Some(frame) = runtime.next().await? {
        moved.fetch_add(1, Ordering::Relaxed);
        let is_error = frame.stream == streams.error;
        match frame.kind {
            Kind::Data(bytes) => {
                let channel = match frame.stream {
                    it if it == streams.stdout => STDOUT,
                    it if it == streams.stderr => STDERR,
                    it if it == streams.error => ERROR,
                    _ => continue,
                };
                status_sent |= channel == ERROR && !bytes.is_empty();
                if !bytes.is_empty() {
                    client.send(Message::Binary(message(channel, &bytes))).await?;
                }
                if is_error && frame.fin {
                    break;
                }
            }
            // A lost ping reply is no harm; waiting for room here could hold up both directions.
            Kind::Ping => drop(pings.try_send(frame.stream)),
            Kind::Reset(_) if is_error => break,
            Kind::GoAway => break,
            Kind::Reset(_) | Kind::Reply(_) | Kind::Open(_) | Kind::Headers(_) | Kind::Ignored => {}
        }
    }
    if !status_sent {
        let text = r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"the container runtime ended the stream without a result","reason":"InternalError","code":500}"#;
        client.send(Message::Binary(message(ERROR, text.as_bytes()))).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
