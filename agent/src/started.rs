//! The beginning and the end that every role has in common: one process per data folder, a look whether it can start,
//! images, and rooms that end together.

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use coracle_cri::{Remote, RuntimeHandle};
use nix::fcntl::Flock;
use tokio_util::sync::CancellationToken;

use crate::preflight::{self, Needs};
use crate::settings::{NodeSettings, Started};
use crate::supervise::{self, Rooms};
use crate::{images, lock};

/// Longest time that the rooms have to end.
const SHUTDOWN: Duration = Duration::from_secs(15);

/// Makes the folders and takes the lock, which lasts as long as what is returned.
pub fn claim(settings: &NodeSettings) -> Result<Flock<File>> {
    let layout = settings.layout();
    layout.create().with_context(|| format!("make the folders below {}", layout.data().display()))?;
    lock::take(&layout.run().join("lock"))
}

/// The container runtime, not yet asked anything.
pub fn runtime(settings: &NodeSettings) -> Result<RuntimeHandle> {
    Ok(Arc::new(Remote::connect(&settings.runtime_endpoint).context("reach the container runtime")?))
}

/// Refuses to start where something is missing, and says all of it.
pub async fn look(needs: Needs<'_>) -> Result<()> {
    let findings = preflight::check(needs).await;
    for finding in &findings {
        tracing::error!(%finding, "cannot start");
    }
    if findings.is_empty() {
        return Ok(());
    }
    bail!("{} of the things that are needed are not so (see above)", findings.len())
}

/// Remembers what runs here for the commands that speak with it.
pub fn remember(started: &Started) -> Result<()> {
    let path = started.node.layout().settings();
    let text = serde_json::to_vec_pretty(started).context("encode the settings")?;
    std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))
}

/// A bad archive is told and passed over: the pods that need it will say so too.
pub async fn import_images(settings: &NodeSettings, runtime: &RuntimeHandle) -> Result<()> {
    let folder = settings.layout().images();
    let (imported, failed) =
        images::import_folder(&folder, &settings.runtime_endpoint, runtime.as_ref()).await?;
    for image in imported {
        tracing::info!(%image, "image imported");
    }
    for error in failed {
        tracing::error!(error = %coracle_client::report(&error), "image archive not imported");
    }
    Ok(())
}

/// Waits until it is time to stop, then ends everything.
pub async fn run(mut rooms: Rooms, token: CancellationToken) -> Result<()> {
    supervise::ready();
    let outcome = supervise::until_stopped(&mut rooms).await;
    token.cancel();
    let drained = tokio::time::timeout(SHUTDOWN, async { while rooms.join_next().await.is_some() {} });
    if drained.await.is_err() {
        tracing::warn!("some work was still under way at the end");
    }
    outcome
}
