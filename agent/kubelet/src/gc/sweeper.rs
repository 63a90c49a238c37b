//! Removes images in time: by age, and when their file system fills up.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use coracle_client::report;
use coracle_cri::{CriError, RuntimeHandle};
use jiff::Timestamp;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::images::{self, Known, Space, Unused};
use crate::config::ImageSettings;
use crate::events::{Events, Severity};
use crate::image::Verification;
use crate::metrics::Metrics;
use crate::pod;
use crate::worker::Roster;
use crate::worker::action::Stage;

/// Between two sweeps.
const PERIOD: Duration = Duration::from_secs(300);
/// The pods that are there at start have named their images by then.
const FIRST: Duration = Duration::from_secs(30);

/// What the sweeper needs.
#[derive(Clone)]
pub struct SweeperDeps {
    /// Who has the images.
    pub runtime: RuntimeHandle,
    /// Who needs them.
    pub roster: Arc<Roster>,
    /// Who is told.
    pub events: Arc<dyn Events>,
    /// Figures.
    pub metrics: Arc<Metrics>,
    /// Thresholds and ages.
    pub settings: ImageSettings,
    /// Keeps records of images that were pulled.
    pub verification: Arc<Verification>,
}

/// Why a sweep did not do what it should have.
#[derive(Debug, thiserror::Error)]
enum SweepError {
    #[error("look at images")]
    Look(#[source] CriError),
    #[error("the runtime does not say where images lie")]
    Nowhere,
    #[error("inspect the file system of images at {path}", path = .0.display())]
    Inspect(PathBuf),
    #[error("invalid capacity 0 on image filesystem")]
    NoCapacity,
    #[error("wanted to free {wanted} bytes, but freed {freed} bytes space with errors in image deletion: {}", .errors.join(", "))]
    Failed { wanted: u64, freed: u64, errors: Vec<String> },
    #[error("{0}")]
    NotEnough(String),
}

/// Why an image goes: a label of the count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    Age,
    Space,
}

/// Sweeps images. One for the node.
pub struct Sweeper {
    deps: SweeperDeps,
    known: BTreeMap<String, Known>,
    began: Option<Timestamp>,
}

impl Sweeper {
    /// It knows nothing yet.
    pub fn new(deps: SweeperDeps) -> Self {
        Self { deps, known: BTreeMap::new(), began: None }
    }

    /// Sweeps until `token` is cancelled. To be called once the sources have told which pods there are. A kubelet that
    /// was told to keep all images returns at once.
    pub async fn run(mut self, token: CancellationToken) {
        let settings = &self.deps.settings;
        if settings.gc_high_percent >= 100 && settings.gc_max_age.is_zero() {
            return;
        }
        let mut timer = tokio::time::interval_at(Instant::now() + FIRST, PERIOD);
        timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut failed_before = false;
        loop {
            tokio::select! {
                () = token.cancelled() => return,
                _ = timer.tick() => {}
            }
            // Dropped between two calls, it leaves nothing half done.
            let outcome = tokio::select! {
                () = token.cancelled() => return,
                outcome = self.sweep(Timestamp::now()) => outcome,
            };
            if let Err(err) = &outcome {
                let error = report(err);
                tracing::warn!(error, "images were not swept as they should have been");
                // Once is nothing: the runtime may just have started.
                if failed_before {
                    self.deps.events.node(Severity::Warning, "ImageGCFailed", error);
                }
            }
            failed_before = outcome.is_err();
        }
    }

    async fn sweep(&mut self, now: Timestamp) -> Result<(), SweepError> {
        let all = self.deps.runtime.list_images().await.map_err(SweepError::Look)?;
        let in_use = images::in_use(&all, &self.needed().await?);
        let first_look = self.began.is_none();
        let began = *self.began.get_or_insert(now);
        images::learn(&mut self.known, &all, &in_use, first_look, now);
        let mut unused = images::unused(&self.known, &all, &in_use);
        let settings = self.deps.settings.clone();
        let (old, left): (Vec<Unused>, Vec<Unused>) =
            unused.drain(..).partition(|it| images::is_too_old(it, &settings, began, now));
        let mut errors = Vec::new();
        for image in &old {
            errors.extend(self.remove(image, Why::Age).await.err());
        }
        let space = self.space().await?;
        if let Some(wanted) = images::to_free(space, &settings) {
            let candidates = left.iter().filter(|it| images::is_old_enough(it, &settings, now));
            return self.free(wanted, candidates, space, errors).await;
        }
        if errors.is_empty() { Ok(()) } else { Err(SweepError::Failed { wanted: 0, freed: 0, errors }) }
    }

    async fn free(
        &mut self,
        wanted: u64,
        candidates: impl Iterator<Item = &Unused>,
        space: Space,
        mut errors: Vec<String>,
    ) -> Result<(), SweepError> {
        let mut freed: u64 = 0;
        for image in candidates {
            match self.remove(image, Why::Space).await {
                Ok(()) => freed = freed.saturating_add(image.size),
                Err(err) => errors.push(err),
            }
            if freed >= wanted {
                break;
            }
        }
        if !errors.is_empty() {
            return Err(SweepError::Failed { wanted, freed, errors });
        }
        if freed >= wanted {
            return Ok(());
        }
        let message = format!(
            "Insufficient free disk space on the node's image filesystem ({}% of {} used). Failed to free sufficient \
             space by deleting unused images (freed {freed} bytes). Investigate disk usage, as it could be used by \
             active images, logs, volumes, or other data.",
            images::used_percent(space),
            images::human(space.capacity)
        );
        self.deps.events.node(Severity::Warning, "FreeDiskSpaceFailed", message.clone());
        Err(SweepError::NotEnough(message))
    }

    /// Every name of an image that is needed: by containers that are there, dead or alive, by pods that live, by
    /// sandboxes.
    async fn needed(&self) -> Result<BTreeSet<String>, SweepError> {
        let mut names = BTreeSet::new();
        for container in self.deps.runtime.list_containers(None).await.map_err(SweepError::Look)? {
            names.extend([container.image_ref, container.image_id]);
            names.extend(container.image.map(|it| it.image));
        }
        for entry in self.deps.roster.entries() {
            let published = entry.published();
            if matches!(published.stage, Stage::Living | Stage::Ending) {
                names.extend(pod::images(&published.pod).map(str::to_owned));
            }
        }
        // Older runtimes do not pin the image of their sandboxes.
        let status = self.deps.runtime.status(true).await.map_err(SweepError::Look)?;
        names.extend(status.info.get("config").and_then(|it| sandbox_image(it)));
        names.remove("");
        Ok(names)
    }

    async fn space(&self) -> Result<Space, SweepError> {
        let info = self.deps.runtime.image_fs_info().await.map_err(SweepError::Look)?;
        let at = info.image_filesystems.into_iter().find_map(|it| it.fs_id).map(|it| it.mountpoint);
        let at = PathBuf::from(at.filter(|it| !it.is_empty()).ok_or(SweepError::Nowhere)?);
        let looking = tokio::task::spawn_blocking(move || space_at(&at).ok_or(SweepError::Inspect(at)));
        let space = looking.await.unwrap_or(Err(SweepError::Nowhere))?;
        if space.capacity == 0 {
            let message = SweepError::NoCapacity.to_string();
            self.deps.events.node(Severity::Warning, "InvalidDiskCapacity", message);
            return Err(SweepError::NoCapacity);
        }
        Ok(space)
    }

    async fn remove(&mut self, image: &Unused, why: Why) -> Result<(), String> {
        self.deps.runtime.remove_image(&image.id).await.map_err(|err| err.to_string())?;
        tracing::info!(image = image.name, size = image.size, why = ?why, "unused image removed");
        self.known.remove(&image.id);
        self.deps.verification.forget(&image.id).await;
        self.deps.metrics.image_collected(match why {
            Why::Age => "age",
            Why::Space => "space",
        });
        Ok(())
    }
}

fn space_at(path: &Path) -> Option<Space> {
    let found = crate::node::file_system(path)?;
    let bytes = |it: i64| u64::try_from(it).unwrap_or(0);
    Some(Space { capacity: bytes(found.capacity), available: bytes(found.available) })
}

/// `sandboxImage` (containerd 1) or the pinned sandbox image (containerd 2) of the runtime's own configuration.
fn sandbox_image(config: &str) -> Option<String> {
    let config: serde_json::Value = serde_json::from_str(config).ok()?;
    config.get("sandboxImage")?.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_cri::fake::{FakeConfig, FakeRuntime, Fault};

    use crate::image::Records;
    use crate::worker::tests::{dsl, home::Bench};

    struct Node {
        fake: FakeRuntime,
        bench: Bench,
        sweeper: Sweeper,
    }

    /// The fake's images lie on `/`; `high` decides whether that is too full.
    fn node(high: u8, max_age: u64) -> Node {
        let fake = FakeRuntime::new(FakeConfig::default());
        let runtime: RuntimeHandle = Arc::new(fake.clone());
        let (bench, roster) = Bench::roster(runtime.clone());
        let settings = ImageSettings {
            gc_high_percent: high,
            gc_max_age: Duration::from_secs(max_age),
            ..ImageSettings::default()
        };
        let sweeper = Sweeper::new(SweeperDeps {
            runtime,
            roster,
            events: bench.heard.clone(),
            metrics: Arc::new(Metrics::new()),
            verification: Verification::new(&settings, Records::new(Path::new("/nonexistent"))),
            settings,
        });
        Node { fake, bench, sweeper }
    }

    fn later(seconds: i64) -> Timestamp {
        Timestamp::now() + jiff::SignedDuration::from_secs(seconds)
    }

    async fn names(fake: &FakeRuntime) -> Vec<String> {
        use coracle_cri::Images;
        let mut names: Vec<String> =
            fake.list_images().await.unwrap().iter().flat_map(|it| it.repo_tags.clone()).collect();
        names.sort();
        names
    }

    #[tokio::test]
    async fn a_full_disk_costs_every_image_that_nobody_needs() {
        let mut node = node(0, 0);
        node.sweeper.deps.roster.sources_synced();
        node.sweeper.deps.roster.put(node.bench.create(&dsl::pod("always: app")));
        node.bench.phase("u1", "Running").await;
        let needed = names(&node.fake).await;
        node.fake.add_image("reg.example/unused:1", 10);
        let err = node.sweeper.sweep(Timestamp::now()).await.unwrap_err();
        assert!(matches!(err, SweepError::NotEnough(_)), "{err}");
        assert_eq!(names(&node.fake).await, needed);
        let heard = node.bench.heard.0.lock().unwrap().clone();
        let event =
            heard.iter().find(|it| it.starts_with("node FreeDiskSpaceFailed: Insufficient free disk space"));
        assert!(event.is_some_and(|it| it.contains("(freed 10 bytes)")), "{heard:?}");
    }

    #[tokio::test]
    async fn an_image_that_cannot_be_removed_is_told_of() {
        let mut node = node(0, 0);
        node.fake.add_image("reg.example/unused:1", 10);
        node.fake.inject("RemoveImage", Fault::Fail(coracle_cri::Code::Unknown, "in use".into()), 1);
        let err = node.sweeper.sweep(Timestamp::now()).await.unwrap_err().to_string();
        assert!(err.contains("freed 0 bytes space with errors in image deletion"), "{err}");
        assert_eq!(names(&node.fake).await.len(), 1);
    }

    #[tokio::test]
    async fn images_that_were_not_used_for_too_long_go() {
        let mut node = node(100, 3600);
        node.fake.add_image("reg.example/unused:1", 10);
        node.sweeper.sweep(later(0)).await.unwrap();
        node.sweeper.sweep(later(3599)).await.unwrap();
        assert_eq!(names(&node.fake).await.len(), 1);
        node.sweeper.sweep(later(3700)).await.unwrap();
        assert_eq!(names(&node.fake).await, Vec::<String>::new());
    }

    #[test]
    fn the_sandboxes_image() {
        assert_eq!(sandbox_image(r#"{"sandboxImage":"pause:3"}"#).as_deref(), Some("pause:3"));
        assert_eq!(sandbox_image("{}"), None);
        assert_eq!(sandbox_image("x"), None);
    }
}
