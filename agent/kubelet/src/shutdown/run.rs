//! What happens when the machine is told to shut down.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use coracle_client::{Backoff, report};
use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::logind::{Lock, Logind};
use super::plan::{Group, groups, whole};
use crate::config::ShutdownSettings;
use crate::dbus::{DbusError, Hangup};
use crate::metrics::Metrics;
use crate::pod;
use crate::worker::Roster;
use crate::worker::action::Stage;

/// Why a pod ended, in its status.
const REASON: &str = "Terminated";
const MESSAGE: &str = "Pod was terminated in response to imminent node shutdown.";
/// How often ending pods are looked at: a machine that goes down has nothing better to do.
const LOOK: Duration = Duration::from_millis(100);
/// Ours beside logind's own configuration, by upstream's name.
const DROP_IN: &str = "99-kubelet.conf";

/// Whether the node is going down: its condition and its admission go by it.
pub type ShuttingDown = watch::Sender<bool>;

/// What a graceful shutdown needs.
#[derive(Clone)]
pub struct ShutdownDeps {
    /// Who has how long.
    pub settings: ShutdownSettings,
    /// The pods.
    pub roster: Arc<Roster>,
    /// Figures.
    pub metrics: Arc<Metrics>,
    /// Told first of all.
    pub shutting_down: Arc<ShuttingDown>,
    /// The system's bus.
    pub bus: PathBuf,
    /// Where logind's drop-ins lie.
    pub logind_conf: PathBuf,
}

/// What the thread that listens to logind says.
enum Heard {
    Down(Lock),
    Up,
}

/// Holds logind's lock and ends pods when a shutdown is announced, until `token` is cancelled. Does nothing when no time
/// is configured.
pub async fn run(deps: ShutdownDeps, token: CancellationToken) {
    if whole(&deps.settings.by_priority).is_zero() {
        return;
    }
    let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
    loop {
        let began = Instant::now();
        match listen(&deps, &token).await {
            Ok(()) => return,
            Err(err) => {
                tracing::warn!(error = %report(&err), "a shutdown of the machine will not wait for pods");
            }
        }
        if began.elapsed() > Duration::from_secs(60) {
            backoff.reset();
        }
        // Only waits.
        if token.run_until_cancelled(tokio::time::sleep(backoff.next_jittered())).await.is_none() {
            return;
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum ShutdownError {
    #[error("reach systemd-logind")]
    Bus(#[source] DbusError),
    #[error("write {path}", path = path.display())]
    DropIn {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error(
        "node shutdown manager was unable to update logind InhibitDelayMaxSec to {wanted:?} (ShutdownGracePeriod), \
         current value of InhibitDelayMaxSec ({allowed:?}) is less than requested ShutdownGracePeriod"
    )]
    TooShort { wanted: Duration, allowed: Duration },
    #[error("the thread that listens to logind was cut off")]
    Interrupted,
}

async fn listen(deps: &ShutdownDeps, token: &CancellationToken) -> Result<(), ShutdownError> {
    let (sender, mut heard) = mpsc::channel(1);
    let (socket, conf) = (deps.bus.clone(), deps.logind_conf.clone());
    let wanted = whole(&deps.settings.by_priority);
    let opened = tokio::task::spawn_blocking(move || open(&socket, &conf, wanted)).await;
    let (logind, lock, hangup) = opened.map_err(|_| ShutdownError::Interrupted)??;
    tracing::info!(within = ?wanted, "a shutdown of the machine will wait for pods");
    // The thread ends when the connection does.
    let listening = tokio::task::spawn_blocking(move || hear(logind, lock, &sender));
    let outcome = loop {
        // Each arm only waits.
        tokio::select! {
            () = token.cancelled() => break Ok(()),
            news = heard.recv() => match news {
                Some(Heard::Down(lock)) => {
                    shut_down(deps, token).await;
                    drop(lock);
                }
                Some(Heard::Up) => {
                    tracing::info!("the shutdown of the machine was called off");
                    deps.shutting_down.send_replace(false);
                }
                None => break Err(()),
            }
        }
    };
    hangup.now();
    let ended = listening.await.map_err(|_| ShutdownError::Interrupted)?;
    match outcome {
        Ok(()) => Ok(()),
        Err(()) => ended.map_err(ShutdownError::Bus),
    }
}

/// A connection with the lock held. logind is made to allow as long as we want.
fn open(socket: &Path, conf: &Path, wanted: Duration) -> Result<(Logind, Lock, Hangup), ShutdownError> {
    let mut logind = Logind::connect(socket).map_err(ShutdownError::Bus)?;
    let mut allowed = logind.longest_delay().map_err(ShutdownError::Bus)?;
    if allowed < wanted {
        let path = conf.join(DROP_IN);
        let text = format!("# Kubelet logind override\n[Login]\nInhibitDelayMaxSec={}\n", wanted.as_secs());
        let written = std::fs::create_dir_all(conf).and_then(|()| std::fs::write(&path, text));
        written.map_err(|source| ShutdownError::DropIn { path, source })?;
        logind.reload().map_err(ShutdownError::Bus)?;
        // logind reads it when its signal arrives, which nobody tells us of.
        for _ in 0..50 {
            allowed = logind.longest_delay().map_err(ShutdownError::Bus)?;
            if allowed >= wanted {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    if allowed < wanted {
        return Err(ShutdownError::TooShort { wanted, allowed });
    }
    let lock = logind.lock().map_err(ShutdownError::Bus)?;
    let hangup = logind.hangup().map_err(ShutdownError::Bus)?;
    Ok((logind, lock, hangup))
}

/// Passes announcements on; each shutdown takes the lock with it, and its end takes a new one.
fn hear(mut logind: Logind, lock: Lock, sender: &mpsc::Sender<Heard>) -> Result<(), DbusError> {
    let mut held = Some(lock);
    loop {
        let news = if logind.announcement()? {
            match held.take() {
                Some(lock) => Heard::Down(lock),
                None => continue,
            }
        } else {
            if held.is_none() {
                held = Some(logind.lock()?);
            }
            Heard::Up
        };
        if sender.blocking_send(news).is_err() {
            return Ok(());
        }
    }
}

async fn shut_down(deps: &ShutdownDeps, token: &CancellationToken) {
    tracing::info!("the machine is shutting down: pods end");
    deps.shutting_down.send_replace(true);
    deps.metrics.shutdown_began(Timestamp::now());
    let pods: Vec<_> = deps.roster.entries().iter().map(|it| it.published()).collect();
    let active = pods.iter().filter(|it| it.stage == Stage::Living || it.stage == Stage::Ending);
    let active: Vec<_> = active.map(|it| it.pod.clone()).collect();
    for group in groups(&deps.settings.by_priority, active.iter().map(AsRef::as_ref)) {
        if token.run_until_cancelled(end(deps, &group)).await.is_none() {
            return;
        }
    }
    deps.metrics.shutdown_ended(Timestamp::now());
    tracing::info!("pods have ended: the machine may go down");
}

/// Ends the pods of a group, and waits until they have, or their time is over.
async fn end(deps: &ShutdownDeps, group: &Group) {
    for (uid, grace) in &group.pods {
        if let Some(entry) = deps.roster.by_uid(uid) {
            tracing::info!(pod = %pod::key(&entry.published().pod), grace = ?grace, "pod ends with the machine");
            entry.inbox.fail_within(REASON, MESSAGE, *grace);
        }
    }
    let began = Instant::now();
    let ends = |uid: &str| match deps.roster.by_uid(uid).map(|it| it.published().stage) {
        Some(Stage::Living | Stage::Ending) => false,
        Some(Stage::Ended | Stage::Vanished) | None => true,
    };
    while began.elapsed() < group.within && !group.pods.iter().all(|(uid, _)| ends(uid)) {
        tokio::time::sleep(LOOK).await;
    }
}
