//! Bytes both ways between two connections.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::Instant;

/// Per direction. Enough for a terminal and for a file; small enough for a thousand idle streams.
const BUFFER: usize = 16 << 10;

/// Copies both ways until both directions have ended, passing each end of stream on as a half-close. Ends with an error
/// when nothing moved for `idle`.
pub async fn splice<A, B>(a: A, b: B, idle: Option<Duration>) -> io::Result<()>
where
    A: AsyncRead + AsyncWrite,
    B: AsyncRead + AsyncWrite,
{
    let (a_read, a_write) = tokio::io::split(a);
    let (b_read, b_write) = tokio::io::split(b);
    let moved = AtomicU64::new(0);
    let both = async { tokio::try_join!(one_way(a_read, b_write, &moved), one_way(b_read, a_write, &moved)) };
    // Dropping the copy is the point of the idle arm; the watch has no effect of its own.
    tokio::select! {
        ended = both => ended.map(drop),
        () = stillness(&moved, idle) => Err(io::ErrorKind::TimedOut.into()),
    }
}

async fn one_way(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    moved: &AtomicU64,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return to.shutdown().await;
        }
        moved.fetch_add(1, Ordering::Relaxed);
        to.write_all(&buffer[..count]).await?;
        to.flush().await?;
    }
}

/// Ends when `moved` has stood still for `idle`; looks four times per period.
pub(super) async fn stillness(moved: &AtomicU64, idle: Option<Duration>) {
    let Some(idle) = idle.filter(|it| !it.is_zero()) else { return std::future::pending().await };
    let (mut seen, mut since) = (moved.load(Ordering::Relaxed), Instant::now());
    loop {
        tokio::time::sleep(idle / 4).await;
        let now = moved.load(Ordering::Relaxed);
        if now != seen {
            (seen, since) = (now, Instant::now());
        } else if since.elapsed() >= idle {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_half_close_travels_and_the_answer_still_comes() {
        let (client, front) = tokio::io::duplex(64);
        let (back, server) = tokio::io::duplex(64);
        let echo = async move {
            let (mut read, mut write) = tokio::io::split(server);
            let mut all = Vec::new();
            read.read_to_end(&mut all).await.unwrap();
            write.write_all(&all).await.unwrap();
            write.shutdown().await.unwrap();
        };
        let ask = async move {
            let (mut read, mut write) = tokio::io::split(client);
            write.write_all(b"hi").await.unwrap();
            write.shutdown().await.unwrap();
            let mut all = Vec::new();
            read.read_to_end(&mut all).await.unwrap();
            assert_eq!(all, b"hi");
        };
        let ((), (), spliced) = tokio::join!(echo, ask, splice(front, back, None));
        spliced.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_cut_off() {
        let (_client, front) = tokio::io::duplex(64);
        let (back, _server) = tokio::io::duplex(64);
        let before = Instant::now();
        let err = splice(front, back, Some(Duration::from_secs(60))).await.unwrap_err();
        assert_eq!(err.kind(), io::ErrorKind::TimedOut);
        assert!(before.elapsed() < Duration::from_secs(90));
    }
}
