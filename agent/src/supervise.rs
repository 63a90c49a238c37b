//! What the outside wants of this process: systemd its readiness and its pulse, a person that it stops.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

/// The rooms of a process: each task tells its name and how it ended.
pub type Rooms = JoinSet<(&'static str, Result<()>)>;

/// Tells systemd that the cluster is up; without systemd nothing happens.
pub fn ready() {
    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
        tracing::warn!(%error, "systemd was not told that the cluster is up");
    }
}

/// Waits for TERM or INT, or for a room that ended by itself: a cluster with a room missing must not look alive.
/// Meanwhile feeds systemd's watchdog, when it asked for that.
pub async fn until_stopped(rooms: &mut Rooms) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("listen for TERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for INT")?;
    let pulse = sd_notify::watchdog_enabled().map(|limit| limit / 3);
    loop {
        tokio::select! {
            // Signals are not lost by dropping the wait: they are kept until asked for.
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            // JoinSet::join_next is cancel-safe.
            Some(ended) = rooms.join_next() => {
                let (room, outcome) = ended.context("a room's task failed")?;
                outcome.with_context(|| format!("{room} ended"))?;
                bail!("{room} ended by itself");
            }
            () = beat(pulse) => {
                let _ = sd_notify::notify(&[sd_notify::NotifyState::Watchdog]);
            }
        }
    }
}

async fn beat(pulse: Option<Duration>) {
    match pulse {
        Some(pulse) => tokio::time::sleep(pulse).await,
        None => std::future::pending().await,
    }
}
