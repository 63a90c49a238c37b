//! What earlier lives of this kubelet left on disk: volumes, cgroups and logs of pods that are no more.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use coracle_client::report;

use crate::house::Rooms;
use crate::worker::Roster;

/// Uid and folder of each pod's logs: `<namespace>_<name>_<uid>`.
pub fn log_folders(root: &Path) -> Vec<(String, PathBuf)> {
    let Ok(entries) = std::fs::read_dir(root) else { return Vec::new() };
    let pods = entries.flatten().filter_map(|it| {
        let name = it.file_name().into_string().ok()?;
        let mut parts = name.splitn(3, '_');
        let uid = parts.nth(2)?.to_owned();
        Some((uid, it.path()))
    });
    pods.collect()
}

/// Removes what belongs to nobody that the roster knows. To be called once the sources have told what they have and
/// orphans have workers of their own.
pub async fn leftovers(rooms: &Rooms, roster: &Arc<Roster>) {
    for uid in rooms.volumes.leftovers() {
        if !roster.knows(&uid)
            && let Err(err) = rooms.volumes.unmount(&uid).await
        {
            tracing::warn!(uid, error = %report(&err), "volumes of a pod that is no more are left");
        }
    }
    for uid in rooms.cgroups.pods().await.unwrap_or_default() {
        if !roster.knows(&uid)
            && let Err(err) = rooms.cgroups.remove_pod(&uid).await
        {
            tracing::warn!(uid, error = %report(&err), "the cgroup of a pod that is no more is left");
        }
    }
    let logs = rooms.config.paths.pod_logs.clone();
    let roster = roster.clone();
    let cleaning = tokio::task::spawn_blocking(move || {
        for (uid, folder) in log_folders(&logs) {
            if !roster.knows(&uid)
                && let Err(err) = std::fs::remove_dir_all(&folder)
            {
                tracing::warn!(folder = %folder.display(), error = %err, "logs of a pod that is no more are left");
            }
        }
        crate::log::remove_dead_links(&logs);
    });
    // A panic in there leaves folders: the next start finds them.
    let _ = cleaning.await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_log_folders() {
        let root = tempfile::tempdir().unwrap();
        for name in ["default_web-1_abc-def", "odd", "kube-system_a_u"] {
            std::fs::create_dir(root.path().join(name)).unwrap();
        }
        let mut uids: Vec<String> = log_folders(root.path()).into_iter().map(|it| it.0).collect();
        uids.sort();
        assert_eq!(uids, ["abc-def", "u"]);
    }
}
