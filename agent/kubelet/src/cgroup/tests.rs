//! The manager on this machine's real cgroups: only in a sub-tree of its own, removed at the end.

use super::*;
use crate::config::testing;

fn pod(uid: &str, resources: &str) -> Pod {
    let text = format!(
        r#"{{"metadata":{{"uid":"{uid}"}},"spec":{{"containers":[{{"name":"a","resources":{resources}}}]}}}}"#
    );
    serde_json::from_str(&text).unwrap()
}

/// Removes the sub-tree whatever happens.
struct SubTree(String);

impl Drop for SubTree {
    fn drop(&mut self) {
        if let Ok(tree) = Tree::of_this_machine() {
            let _ = tree.remove(&self.0);
        }
    }
}

#[tokio::test]
async fn a_pods_cgroup_comes_and_goes_with_what_runs_in_it() {
    let root = format!("coracle-test-{}", std::process::id());
    let mut config = testing::config(std::path::Path::new("/nonexistent"));
    config.cgroups.root = format!("/{root}");
    config.cgroups.fail_v1 = false;
    let _clean = SubTree(root.clone());
    let manager = CgroupManager::new(Arc::new(config)).unwrap();
    manager.ensure_qos_tree().await.unwrap();
    let parent = manager.ensure_pod(&pod("u1", r#"{"requests":{"cpu":"250m"}}"#)).await.unwrap();
    assert_eq!(parent, format!("/{root}/kubepods/burstable/podu1"));
    manager.ensure_pod(&pod("u2", "{}")).await.unwrap();
    let mut uids = manager.pods().await.unwrap();
    uids.sort();
    assert_eq!(uids, ["u1", "u2"]);

    // A process that outlives its pod, one level deeper, as a container's would be.
    let tree = Tree::of_this_machine().unwrap();
    let folder = format!("{root}/kubepods/burstable/podu1/c1");
    tree.create(&folder).unwrap();
    let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let memory = mounts.lines().find(|it| it.ends_with(",memory") || it.contains(" - cgroup2 ")).unwrap();
    let mount = memory.split(' ').nth(4).unwrap();
    std::fs::write(format!("{mount}/{folder}/cgroup.procs"), child.id().to_string()).unwrap();
    let reaper = std::thread::spawn(move || child.wait().unwrap());
    manager.remove_pod("u1").await.unwrap();
    assert!(!reaper.join().unwrap().success());
    assert_eq!(manager.pods().await.unwrap(), ["u2"]);
    manager.remove_pod("u1").await.unwrap();
    assert!(manager.remove_qos_tree().await.is_err(), "a pod is left");
    manager.remove_pod("u2").await.unwrap();
    manager.remove_qos_tree().await.unwrap();
    assert!(!tree.exists(&format!("{root}/kubepods")));
}

/// Answers like systemd until told to stop: what it was asked for.
fn systemd(mut bus: Bus, calls: usize) -> std::thread::JoinHandle<Vec<String>> {
    use crate::dbus::testing::{answer, next_call};
    std::thread::spawn(move || {
        let mut heard = Vec::new();
        for _ in 0..calls {
            let call = next_call(&mut bus);
            heard.push(format!("{} {}", call.member, call.body[0].text().unwrap()));
            answer(&mut bus, &call, vec![crate::dbus::Value::Path("/job/1".into())]);
        }
        heard
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_systemd_driver_systemd_makes_and_stops_slices() {
    let daemon = crate::dbus::testing::Daemon::start();
    let root = format!("coracletest{}", std::process::id());
    let mut config = testing::config(std::path::Path::new("/nonexistent"));
    config.cgroups.root = format!("/{root}");
    config.cgroups.driver = CgroupDriver::Systemd;
    let _clean = SubTree(format!("{root}.slice"));
    let (tree, machine) = (Tree::of_this_machine().unwrap(), Machine::read().unwrap());
    let manager =
        CgroupManager::over(Arc::new(config), tree.clone(), machine, daemon.socket().into()).unwrap();
    let refused = manager.ensure_pod(&pod("u1", "{}")).await.unwrap_err();
    assert!(matches!(refused, CgroupError::Systemd { .. }), "nobody is systemd yet");
    let heard = systemd(daemon.service("org.freedesktop.systemd1"), 5);
    manager.ensure_qos_tree().await.unwrap();
    let parent = manager.ensure_pod(&pod("u1", "{}")).await.unwrap();
    assert_eq!(parent, format!("{root}-kubepods-besteffort-podu1.slice"));
    assert_eq!(manager.pods().await.unwrap(), ["u1"]);
    manager.remove_pod("u1").await.unwrap();
    let want = [
        format!("StartTransientUnit {root}-kubepods.slice"),
        format!("StartTransientUnit {root}-kubepods-burstable.slice"),
        format!("StartTransientUnit {root}-kubepods-besteffort.slice"),
        format!("StartTransientUnit {parent}"),
        format!("StopUnit {parent}"),
    ];
    assert_eq!(heard.join().unwrap(), want);
    assert!(manager.pods().await.unwrap().is_empty());
}
