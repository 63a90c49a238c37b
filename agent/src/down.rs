//! `coracle down`: ends a cluster's pods and takes back what it put into the kernel.
//!
//! Each step is tried whatever became of the others, and every failure is told at the end: half a tear-down is worse
//! than a noisy one. Doing it twice is doing it once.

use std::path::{Path, PathBuf};
use std::time::Duration;

use coracle_client::report;
use coracle_cni::netlink::Netlink;
use coracle_cri::{CriError, Remote, Runtime};
use futures::StreamExt;

use crate::node::PROXY_TABLE;
use crate::settings::Started;

/// The label by which a kubelet's sandboxes are known.
const POD_UID: &str = "io.kubernetes.pod.uid";

/// Longest time that a container has to end by itself.
const GRACE: Duration = Duration::from_secs(10);

/// Pauses between attempts to end a pod.
const PAUSES: [Duration; 3] = [Duration::from_millis(200), Duration::from_secs(1), Duration::from_secs(3)];

/// How many sandboxes are torn down at once.
const AT_ONCE: usize = 16;

/// Ends all pods and removes rules, links, addresses, mounts and cgroups. Returns what did not work.
pub async fn down(started: &Started) -> Vec<String> {
    let settings = &started.node;
    let mut failures = Vec::new();
    match Remote::connect(&settings.runtime_endpoint) {
        Ok(runtime) => failures.extend(stop_pods(&runtime).await),
        Err(error) => failures.push(error.to_string()),
    }
    let kernel = settings.clone();
    let rest = tokio::task::spawn_blocking(move || {
        let mut failures = unmount_below(&kernel.layout().kubelet());
        failures.extend(remove_cgroups(&kernel.cgroup_root));
        failures.extend(remove_bridge(&kernel.bridge));
        failures.extend(coracle_overlay::cleanup().err().map(|error| report(&error)));
        failures.extend(coracle_cni::plugins::purge().err().map(|error| error.to_string()));
        failures
    });
    failures.extend(rest.await.unwrap_or_else(|error| vec![format!("tear down: {error}")]));
    if let Err(error) = coracle_proxy::cleanup(PROXY_TABLE).await {
        failures.push(report(&error));
    }
    if let Err(error) = coracle_dns::cleanup(started.cluster_dns.into_iter().collect()).await {
        failures.push(report(&error));
    }
    failures
}

/// The link that joined the pods; theirs went with them.
fn remove_bridge(name: &str) -> Option<String> {
    let removed = Netlink::open().and_then(|it| it.delete_link_named(name));
    removed.err().map(|error| report(&error))
}

/// Ends every pod that the runtime holds.
async fn stop_pods(runtime: &dyn Runtime) -> Vec<String> {
    let sandboxes = match runtime.list_pod_sandboxes(None).await {
        Ok(sandboxes) => sandboxes,
        // A runtime that is not there holds no pods that we could stop.
        Err(CriError::Unreachable { .. }) => return Vec::new(),
        Err(error) => return vec![error.to_string()],
    };
    let ours = sandboxes.into_iter().filter(|it| it.labels.contains_key(POD_UID));
    futures::stream::iter(ours.map(|it| stop_pod(runtime, it.id)))
        .buffer_unordered(AT_ONCE)
        .filter_map(|outcome| async move { outcome.err().map(|error| error.to_string()) })
        .collect()
        .await
}

/// Ends one pod. A kubelet that has just stopped may have left the runtime busy with the same: it is tried again.
async fn stop_pod(runtime: &dyn Runtime, sandbox: String) -> Result<(), CriError> {
    let mut pauses = PAUSES.into_iter();
    loop {
        match try_stop_pod(runtime, &sandbox).await {
            Ok(()) => return Ok(()),
            Err(error) => match pauses.next() {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return Err(error),
            },
        }
    }
}

async fn try_stop_pod(runtime: &dyn Runtime, sandbox: &str) -> Result<(), CriError> {
    let filter =
        coracle_cri::proto::ContainerFilter { pod_sandbox_id: sandbox.to_owned(), ..Default::default() };
    let containers = runtime.list_containers(Some(filter)).await?;
    let stops = containers.iter().map(|it| runtime.stop_container(&it.id, GRACE));
    for outcome in futures::future::join_all(stops).await {
        outcome?;
    }
    runtime.stop_pod_sandbox(sandbox).await?;
    runtime.remove_pod_sandbox(sandbox).await
}

/// Takes away every mount below `folder`, innermost first.
fn unmount_below(folder: &Path) -> Vec<String> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    mounts_below(&table, folder)
        .into_iter()
        .filter_map(|mount| {
            let outcome = nix::mount::umount2(&mount, nix::mount::MntFlags::MNT_DETACH);
            outcome.err().map(|error| format!("unmount {}: {error}", mount.display()))
        })
        .collect()
}

/// The mount points below `folder`, the last mounted first.
fn mounts_below(mountinfo: &str, folder: &Path) -> Vec<PathBuf> {
    let mut mounts: Vec<PathBuf> = mountinfo
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|escaped| PathBuf::from(unescape(escaped)))
        .filter(|path| path.starts_with(folder))
        .collect();
    mounts.reverse();
    mounts
}

/// mountinfo writes space, tab, newline and backslash as `\` and three octal digits.
fn unescape(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

/// Removes `kubepods` below the cgroup root from every hierarchy, and the root itself when it is not the machine's.
fn remove_cgroups(root: &str) -> Vec<String> {
    let root = root.trim_matches('/');
    let base = Path::new("/sys/fs/cgroup");
    let mut hierarchies = vec![base.to_owned()];
    hierarchies.extend(folders_in(base));
    let mut failures = Vec::new();
    for hierarchy in hierarchies {
        // A controller's own file tells a hierarchy from an ordinary cgroup or folder.
        if !hierarchy.join("cgroup.procs").exists() {
            continue;
        }
        let own = if root.is_empty() { hierarchy.join("kubepods") } else { hierarchy.join(root) };
        failures.extend(remove_tree(&own));
    }
    failures
}

fn folders_in(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter(|it| it.file_type().is_ok_and(|kind| kind.is_dir())).map(|it| it.path()).collect()
}

/// Removes a cgroup and those below it; their files are the kernel's and go with them.
fn remove_tree(cgroup: &Path) -> Vec<String> {
    // Where cgroups are mounted read-only, removing nothing would fail too.
    if !cgroup.exists() {
        return Vec::new();
    }
    let failures: Vec<String> = folders_in(cgroup).iter().flat_map(|it| remove_tree(it)).collect();
    if !failures.is_empty() {
        // What holds one below holds this one too: the innermost is the news.
        return failures;
    }
    match std::fs::remove_dir(cgroup) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            vec![format!("remove cgroup {}: {error}", cgroup.display())]
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_below_a_folder_come_innermost_first() {
        let table = "1 0 8:1 / / rw - ext4 d rw\n2 1 0:3 / /data/kubelet/pods/a rw - tmpfs t rw\n\
                     3 2 0:4 / /data/kubelet/pods/a/b\\040c rw - tmpfs t rw\n4 1 0:5 / /data/kubelet2 rw - tmpfs t rw\n";
        let found = mounts_below(table, Path::new("/data/kubelet"));
        assert_eq!(found, [PathBuf::from("/data/kubelet/pods/a/b c"), PathBuf::from("/data/kubelet/pods/a")]);
    }

    #[test]
    fn removing_a_cgroup_that_is_gone_is_no_failure() {
        assert_eq!(remove_tree(Path::new("/sys/fs/cgroup/no-such-cgroup-here")), Vec::<String>::new());
    }
}
