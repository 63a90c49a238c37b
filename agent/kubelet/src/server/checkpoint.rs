//! A running container's state into an archive: `/checkpoint`.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use jiff::Timestamp;

use super::Server;
use super::answer::{Answer, json, text};
use super::route::{Query, no_container, pod};
use crate::{pod as names, report};

/// Checkpoints the container; the answer names the archive, as upstream's does.
pub(super) async fn serve(server: &Arc<Server>, at: [&str; 3], query: &Query) -> Answer {
    let [namespace, name, container] = at;
    let view = match pod(server, namespace, name) {
        Ok(view) => view,
        Err(answer) => return answer,
    };
    let id = match view.running(container) {
        Ok(id) => id,
        Err(why) => return no_container(why),
    };
    let limit = match query.get("timeout").map(str::parse::<u64>) {
        None | Some(Ok(0)) => server.deps.config.runtime.request_timeout,
        Some(Ok(seconds)) => Duration::from_secs(seconds),
        Some(Err(_)) => return text(StatusCode::INTERNAL_SERVER_ERROR, "cannot parse parameter timeout"),
    };
    let folder = server.deps.config.paths.root.join("checkpoints");
    let failed = |why: String| {
        let words = format!("checkpointing of {namespace}/{name}/{container} failed ({why})");
        text(StatusCode::INTERNAL_SERVER_ERROR, words)
    };
    if let Err(err) = private(&folder).await {
        return failed(err.to_string());
    }
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ");
    let archive = folder.join(format!("checkpoint-{}-{container}-{now}.tar", names::full_name(&view.pod)));
    let location = archive.display().to_string();
    match server.deps.runtime.checkpoint_container(&id, &location, limit).await {
        Ok(()) => json(&serde_json::json!({ "items": [location] })),
        Err(err) => failed(report(&err)),
    }
}

/// An archive holds all of the container's memory: nobody else may look.
async fn private(folder: &std::path::Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    tokio::fs::create_dir_all(folder).await?;
    tokio::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700)).await
}
