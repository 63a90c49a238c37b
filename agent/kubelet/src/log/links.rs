//! `/var/log/containers`: a link to each container's log, by which collectors know pod, namespace and container.
//!
//! The folder lies beside `podLogsDir`, as it does at that one's default.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The longest name that file systems take.
const LONGEST: usize = 255;

/// The links that are there, by the runtime's id of the container.
pub(super) struct Links {
    folder: PathBuf,
    made: BTreeMap<String, PathBuf>,
}

/// One container's link.
pub(super) struct Wanted {
    pub name: String,
    pub log: PathBuf,
}

/// The name of a container's link; long ones lose their end, as upstream's do.
pub(super) fn link_name(namespace: &str, pod: &str, container: &str, id: &str) -> String {
    let mut name = format!("{pod}_{namespace}_{container}-{id}");
    name.truncate(LONGEST - ".log".len());
    name + ".log"
}

/// Where links lie.
pub(super) fn folder(pod_logs: &Path) -> PathBuf {
    pod_logs.parent().unwrap_or(pod_logs).join("containers")
}

impl Links {
    pub fn new(folder: PathBuf) -> Self {
        Self { folder, made: BTreeMap::new() }
    }

    /// Links for these containers and no others. Of those that others made nothing is taken away.
    pub fn reconcile(&mut self, wanted: &BTreeMap<String, Wanted>) {
        let gone: Vec<String> = self.made.keys().filter(|it| !wanted.contains_key(*it)).cloned().collect();
        for link in gone.iter().filter_map(|it| self.made.remove(it)) {
            told(&link, fs::remove_file(&link));
        }
        for (id, wanted) in wanted {
            if self.made.contains_key(id) {
                continue;
            }
            let link = self.folder.join(&wanted.name);
            told(&link, make(&self.folder, &link, &wanted.log));
            self.made.insert(id.clone(), link);
        }
    }
}

fn make(folder: &Path, link: &Path, log: &Path) -> io::Result<()> {
    match std::os::unix::fs::symlink(log, link) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(folder)?;
            std::os::unix::fs::symlink(log, link)
        }
        Err(err) if err.kind() == io::ErrorKind::AlreadyExists => {
            if fs::read_link(link).is_ok_and(|it| it == log) {
                return Ok(());
            }
            fs::remove_file(link)?;
            std::os::unix::fs::symlink(log, link)
        }
        outcome => outcome,
    }
}

fn told(link: &Path, outcome: io::Result<()>) {
    if let Err(err) = outcome
        && err.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(link = %link.display(), error = %err, "the link to a container's log is not as it should be");
    }
}

/// Removes links to logs that are no more. Blocking.
pub fn remove_dead_links(pod_logs: &Path) {
    let Ok(entries) = fs::read_dir(folder(pod_logs)) else { return };
    for link in entries.flatten().map(|it| it.path()) {
        let of_ours = fs::read_link(&link).is_ok_and(|it| it.starts_with(pod_logs));
        if of_ours && !link.exists() {
            told(&link, fs::remove_file(&link));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!(link_name("default", "web", "app", "0123"), "web_default_app-0123.log");
        let long = link_name("n", &"p".repeat(200), &"c".repeat(60), "0123");
        assert_eq!((long.len(), long.ends_with(".log")), (255, true));
    }

    #[test]
    fn links_come_and_go_with_their_containers() {
        let root = tempfile::tempdir().unwrap();
        let pods = root.path().join("pods");
        let folder = folder(&pods);
        let log = pods.join("d_web_u/app/0.log");
        fs::create_dir_all(log.parent().unwrap()).unwrap();
        fs::write(&log, "text").unwrap();
        let wanted = || {
            BTreeMap::from([("id".to_owned(), Wanted { name: "web_d_app-id.log".into(), log: log.clone() })])
        };
        let link = folder.join("web_d_app-id.log");
        for _ in 0..2 {
            // The second time as after a restart: it is there already.
            let mut links = Links::new(folder.clone());
            links.reconcile(&wanted());
            assert_eq!(fs::read_to_string(&link).unwrap(), "text");
        }
        let mut links = Links::new(folder.clone());
        links.reconcile(&wanted());
        fs::write(folder.join("other"), "").unwrap();
        links.reconcile(&BTreeMap::new());
        assert!(!link.exists() && folder.join("other").exists());

        links.reconcile(&wanted());
        remove_dead_links(&pods);
        assert!(link.exists());
        fs::remove_file(&log).unwrap();
        remove_dead_links(&pods);
        assert!(fs::symlink_metadata(&link).is_err() && folder.join("other").exists());
    }
}
