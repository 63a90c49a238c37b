//! Static pods from a folder: read when something in it changes.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use futures::StreamExt;
use inotify::{EventMask, Inotify, WatchMask};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::manifest::{self, Origin};
use crate::pod;

/// What one look at the folder gave, by uid.
pub type Found = BTreeMap<String, Pod>;

/// The folder and its files at one time: inode and time of the last change.
type Glance = BTreeMap<PathBuf, Option<(u64, i64, i64)>>;

/// Sends what the folder has, now and after every change. Without inotify the folder is read at every `period`; with it
/// only when its files look different, for inotify does not tell of a file behind a link.
pub async fn watch(
    path: PathBuf,
    node: String,
    period: std::time::Duration,
    found: mpsc::Sender<(Origin, Found)>,
    token: CancellationToken,
) {
    let mut events = folder_events(&path);
    let mut last: Option<Found> = None;
    loop {
        let (from, name) = (path.clone(), node.clone());
        // The glance first: what changes while we read is then seen as a change.
        let looking = tokio::task::spawn_blocking(move || (glance(&from), read(&from, &name)));
        let (glanced, read) = looking.await.unwrap_or_default();
        let same = last.as_ref().is_some_and(|it| it.keys().eq(read.keys()));
        if !same {
            last = Some(read.clone());
            if found.send((Origin::File, read)).await.is_err() {
                return;
            }
        }
        // Only waits.
        tokio::select! {
            () = token.cancelled() => return,
            () = changed(&path, period, &mut events, &glanced) => {}
        }
    }
}

/// Waits for a reason to read the folder again.
async fn changed(path: &Path, period: std::time::Duration, events: &mut Option<Events>, before: &Glance) {
    loop {
        // Each arm only waits.
        tokio::select! {
            () = next(&mut *events) => {
                // A file is written in several steps: let the writer finish.
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                if events.is_none() {
                    *events = folder_events(path);
                }
                return;
            }
            () = tokio::time::sleep(period) => {
                if events.is_none() {
                    *events = folder_events(path);
                    return;
                }
                let from = path.to_owned();
                let now = tokio::task::spawn_blocking(move || glance(&from)).await.unwrap_or_default();
                if now != *before {
                    return;
                }
            }
        }
    }
}

fn glance(path: &Path) -> Glance {
    let files = std::fs::read_dir(path).into_iter().flatten().flatten().map(|it| it.path());
    let all = files.chain([path.to_owned()]);
    all.map(|it| {
        let stat = std::fs::metadata(&it).ok().map(|it| (it.ino(), it.ctime(), it.ctime_nsec()));
        (it, stat)
    })
    .collect()
}

type Events = inotify::EventStream<Vec<u8>>;

fn folder_events(path: &Path) -> Option<Events> {
    let inotify = Inotify::init().ok()?;
    let mask = WatchMask::CLOSE_WRITE
        | WatchMask::MOVED_TO
        | WatchMask::MOVED_FROM
        | WatchMask::DELETE
        | WatchMask::DELETE_SELF
        | WatchMask::MOVE_SELF
        | WatchMask::CREATE;
    inotify.watches().add(path, mask).ok()?;
    inotify.into_event_stream(vec![0; 4096]).ok()
}

/// The next event. Where what was watched is gone, so is the watch: the period finds the folder that comes after it.
async fn next(events: &mut Option<Events>) {
    let lost = EventMask::IGNORED | EventMask::DELETE_SELF | EventMask::MOVE_SELF | EventMask::UNMOUNT;
    match events {
        Some(stream) => {
            let event = stream.next().await;
            let goes_on = event.is_some_and(|it| it.is_ok_and(|it| !it.mask.intersects(lost)));
            if !goes_on {
                *events = None;
            }
        }
        None => std::future::pending().await,
    }
}

/// All static pods of a folder, or of one file. A manifest that is wrong is named and left out.
fn read(path: &Path, node: &str) -> Found {
    let files = match std::fs::read_dir(path) {
        Ok(entries) => {
            let mut files: Vec<PathBuf> = entries.flatten().map(|it| it.path()).collect();
            files.sort();
            files
        }
        Err(_) if path.is_file() => vec![path.to_owned()],
        Err(err) => {
            if err.kind() != std::io::ErrorKind::NotFound {
                tracing::warn!(path = %path.display(), error = %err, "cannot read static pods");
            }
            return Found::new();
        }
    };
    let now = Timestamp::now();
    let mut found = Found::new();
    for file in files {
        let hidden = file.file_name().and_then(|it| it.to_str()).is_none_or(|it| it.starts_with('.'));
        if hidden || !file.is_file() {
            continue;
        }
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(err) => {
                tracing::warn!(file = %file.display(), error = %err, "cannot read a static pod");
                continue;
            }
        };
        match manifest::parse(&text, Origin::File, node, now) {
            Ok(pod) => {
                found.insert(pod::uid(&pod).to_owned(), pod);
            }
            Err(err) => tracing::warn!(file = %file.display(), error = %err, "not a static pod"),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn a_folder_that_changes() {
        let folder = tempfile::tempdir().unwrap();
        let (sender, mut found) = mpsc::channel(4);
        let token = CancellationToken::new();
        let watching =
            watch(folder.path().into(), "n".into(), Duration::from_secs(600), sender, token.clone());
        let checks = async {
            assert!(found.recv().await.unwrap().1.is_empty());
            let text = "metadata: {name: web}\nspec: {containers: [{name: app, image: demo}]}";
            std::fs::write(folder.path().join("web.yaml"), text).unwrap();
            std::fs::write(folder.path().join(".hidden"), text).unwrap();
            let one = found.recv().await.unwrap().1;
            assert_eq!(one.values().map(pod::key).collect::<Vec<_>>(), ["default/web-n"]);
            std::fs::remove_file(folder.path().join("web.yaml")).unwrap();
            assert!(found.recv().await.unwrap().1.is_empty());
            token.cancel();
        };
        tokio::time::timeout(Duration::from_secs(10), async { tokio::join!(watching, checks) })
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn a_folder_that_goes_and_comes_back() {
        let base = tempfile::tempdir().unwrap();
        let folder = base.path().join("manifests");
        std::fs::create_dir(&folder).unwrap();
        let (sender, mut found) = mpsc::channel(4);
        let token = CancellationToken::new();
        let watching = watch(folder.clone(), "n".into(), Duration::from_millis(100), sender, token.clone());
        let checks = async {
            assert!(found.recv().await.unwrap().1.is_empty());
            std::fs::remove_dir(&folder).unwrap();
            // Long enough to be noticed: the period has to find the new one.
            tokio::time::sleep(Duration::from_millis(200)).await;
            std::fs::create_dir(&folder).unwrap();
            let text = "metadata: {name: web}\nspec: {containers: [{name: app, image: demo}]}";
            std::fs::write(folder.join("web.yaml"), text).unwrap();
            assert_eq!(found.recv().await.unwrap().1.len(), 1);
            token.cancel();
        };
        tokio::time::timeout(Duration::from_secs(10), async { tokio::join!(watching, checks) })
            .await
            .unwrap();
    }
}
