//! Waiting for a log to grow.

use std::path::Path;
use std::time::Duration;

use futures::StreamExt;
use inotify::{EventStream, Inotify, WatchMask};

/// The container's end is looked for this often while its log stands still.
const LOOK: Duration = Duration::from_secs(1);
/// How often to look at the file where the kernel has no watch to give.
const POLL: Duration = Duration::from_millis(250);

/// Signals that something happened in a log's folder: writing, rotation.
pub(super) struct Changes {
    events: Option<EventStream<[u8; 1024]>>,
}

impl Changes {
    /// Of the log at `path`. Without a watch (the kernel limits them), waits are short instead.
    pub fn of(path: &Path) -> Self {
        Self { events: watch(path).ok() }
    }

    /// Until something may have changed.
    pub async fn wait(&mut self) {
        match &mut self.events {
            // An event that is lost here comes to nothing worse than the next look.
            Some(events) => drop(tokio::time::timeout(LOOK, events.next()).await),
            None => tokio::time::sleep(POLL).await,
        }
    }
}

fn watch(path: &Path) -> std::io::Result<EventStream<[u8; 1024]>> {
    let inotify = Inotify::init()?;
    let folder = path.parent().unwrap_or(Path::new("/"));
    inotify.watches().add(folder, WatchMask::MODIFY | WatchMask::CREATE | WatchMask::MOVED_TO)?;
    inotify.into_event_stream([0; 1024])
}
