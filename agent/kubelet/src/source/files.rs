//! Static pods from a folder: read when something in it changes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use futures::StreamExt;
use inotify::{Inotify, WatchMask};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::manifest;
use crate::pod;

/// What one look at the folder gave, by uid.
pub type Found = BTreeMap<String, Pod>;

/// Sends what the folder has, now and after every change. Without inotify the folder is read at every `period`.
pub async fn watch(
    path: PathBuf,
    node: String,
    period: std::time::Duration,
    found: mpsc::Sender<Found>,
    token: CancellationToken,
) {
    let mut events = folder_events(&path);
    let mut last: Option<Found> = None;
    loop {
        let (from, name) = (path.clone(), node.clone());
        let read = tokio::task::spawn_blocking(move || read(&from, &name)).await.unwrap_or_default();
        let same = last.as_ref().is_some_and(|it| it.keys().eq(read.keys()));
        if !same {
            last = Some(read.clone());
            if found.send(read).await.is_err() {
                return;
            }
        }
        // Each arm only waits.
        tokio::select! {
            () = token.cancelled() => return,
            () = next(&mut events) => {
                // A file is written in several steps: let the writer finish.
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                if events.is_none() {
                    events = folder_events(&path);
                }
            }
            () = tokio::time::sleep(period) => {
                if events.is_none() {
                    events = folder_events(&path);
                }
            }
        }
    }
}

type Events = inotify::EventStream<Vec<u8>>;

fn folder_events(path: &Path) -> Option<Events> {
    let inotify = Inotify::init().ok()?;
    let mask = WatchMask::CLOSE_WRITE
        | WatchMask::MOVED_TO
        | WatchMask::MOVED_FROM
        | WatchMask::DELETE
        | WatchMask::DELETE_SELF
        | WatchMask::CREATE;
    inotify.watches().add(path, mask).ok()?;
    inotify.into_event_stream(vec![0; 4096]).ok()
}

async fn next(events: &mut Option<Events>) {
    match events {
        Some(stream) => {
            if stream.next().await.is_none_or(|it| it.is_err()) {
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
        match manifest::parse(&text, node, now) {
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
            assert!(found.recv().await.unwrap().is_empty());
            let text = "metadata: {name: web}\nspec: {containers: [{name: app, image: demo}]}";
            std::fs::write(folder.path().join("web.yaml"), text).unwrap();
            std::fs::write(folder.path().join(".hidden"), text).unwrap();
            let one = found.recv().await.unwrap();
            assert_eq!(one.values().map(pod::key).collect::<Vec<_>>(), ["default/web-n"]);
            std::fs::remove_file(folder.path().join("web.yaml")).unwrap();
            assert!(found.recv().await.unwrap().is_empty());
            token.cancel();
        };
        tokio::time::timeout(Duration::from_secs(10), async { tokio::join!(watching, checks) })
            .await
            .unwrap();
    }
}
