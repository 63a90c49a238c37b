//! The manager over objects in memory, with real mounts that nobody else sees.

use super::*;
use crate::config::testing::config;
use crate::objects::testing::Memory;
use crate::volume::testing::in_private_mounts;

struct Node {
    manager: Arc<VolumeManager>,
    objects: Arc<Memory>,
    root: PathBuf,
}

/// Runs a test on a node of its own: the blocking threads are made by the thread that has the mounts.
fn on_a_node<F: Future<Output = ()>>(test: impl FnOnce(Node) -> F + Send) {
    in_private_mounts(|dir| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let objects = Arc::new(Memory::default());
        objects.put_config_map(r#"{"metadata":{"namespace":"n","name":"cm"},"data":{"k":"1"}}"#);
        objects.put_secret(r#"{"metadata":{"namespace":"n","name":"s"},"data":{"p":"c2VjcmV0"}}"#);
        let manager = manager(dir, &objects);
        runtime.block_on(test(Node { manager, objects, root: dir.to_owned() }));
    });
}

fn manager(dir: &Path, objects: &Arc<Memory>) -> Arc<VolumeManager> {
    let allocatable = NodeAllocatable { memory: 1 << 30, ..NodeAllocatable::default() };
    VolumeManager::new(VolumeDeps { config: Arc::new(config(dir)), objects: objects.clone(), allocatable })
}

fn pod(volumes: &str) -> Pod {
    serde_json::from_str(&format!(
        r#"{{"metadata":{{"name":"p","namespace":"n","uid":"u1","labels":{{"a":"b"}}}},
           "spec":{{"serviceAccountName":"sa","containers":[{{"name":"c"}}],"volumes":{volumes}}}}}"#
    ))
    .unwrap()
}

const ALL: &str = r#"[
    {"name":"e","emptyDir":{}}, {"name":"m","emptyDir":{"medium":"Memory","sizeLimit":"1Mi"}},
    {"name":"h","hostPath":{"path":"/tmp","type":"Directory"}},
    {"name":"cm","configMap":{"name":"cm","defaultMode":256}}, {"name":"s","secret":{"secretName":"s"}},
    {"name":"d","downwardAPI":{"items":[{"path":"labels","fieldRef":{"fieldPath":"metadata.labels"}}]}},
    {"name":"t","projected":{"sources":[
        {"serviceAccountToken":{"path":"token","expirationSeconds":600}},
        {"configMap":{"name":"cm","items":[{"key":"k","path":"ca.crt"}]}},
        {"downwardAPI":{"items":[{"path":"namespace","fieldRef":{"fieldPath":"metadata.namespace"}}]}}]}}]"#;

fn read(volumes: &PodVolumes, volume: &str, file: &str) -> String {
    fs::read_to_string(volumes.by_name[volume].host_path.join(file)).unwrap()
}

#[test]
fn every_type_is_set_up_once_and_taken_down_whole() {
    on_a_node(|node| async move {
        let pod = pod(ALL);
        let volumes = node.manager.mount(&pod).await.unwrap();
        assert_eq!(read(&volumes, "cm", "k"), "1");
        assert_eq!(read(&volumes, "s", "p"), "secret");
        assert_eq!(read(&volumes, "d", "labels"), "a=\"b\"");
        assert_eq!(read(&volumes, "t", "token"), "sa/u1/#1");
        assert_eq!(
            (read(&volumes, "t", "ca.crt"), read(&volumes, "t", "namespace")),
            ("1".into(), "n".into())
        );
        assert_eq!(volumes.by_name["h"].host_path, Path::new("/tmp"));
        let folder = node.root.join("kubelet/pods/u1");
        assert_eq!(volumes.by_name["cm"].host_path, folder.join("volumes/kubernetes.io~configmap/cm"));
        let mounts = || MountTable::read().unwrap().below(&folder).count();
        assert_eq!(mounts(), 4, "memory, secret, downward API, projected");
        assert_eq!(node.objects.registered(), ["u1"]);

        fs::write(volumes.by_name["m"].host_path.join("kept"), "x").unwrap();
        assert_eq!(node.manager.mount(&pod).await.unwrap(), volumes);
        // As after a restart: a manager that knows nothing finds everything.
        let second = manager(&node.root, &node.objects);
        assert_eq!(second.leftovers(), ["u1"]);
        assert_eq!(second.mount(&pod).await.unwrap(), volumes);
        assert_eq!(mounts(), 4);
        assert_eq!(read(&volumes, "m", "kept"), "x");

        second.unmount("u1").await.unwrap();
        assert_eq!(mounts(), 0);
        assert!(!folder.exists());
        assert!(Path::new("/tmp").exists());
        assert_eq!(node.objects.registered(), Vec::<String>::new());
        second.unmount("u1").await.unwrap();
        assert!(second.leftovers().is_empty());
    });
}

#[test]
fn changed_objects_reach_the_files_by_themselves() {
    on_a_node(|node| async move {
        let volumes = node.manager.mount(&pod(ALL)).await.unwrap();
        let token = CancellationToken::new();
        let keeper = node.manager.clone();
        let running = keeper.run(token.clone());
        let changing = async {
            // Let the keeper listen first.
            tokio::task::yield_now().await;
            node.objects
                .put_config_map(r#"{"metadata":{"namespace":"n","name":"cm"},"data":{"k":"2","l":"3"}}"#);
            let wanted = || read(&volumes, "cm", "k") == "2" && read(&volumes, "t", "ca.crt") == "2";
            let seen = async {
                while !wanted() {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            };
            tokio::time::timeout(Duration::from_secs(5), seen).await.expect("content follows its object");
            token.cancel();
        };
        tokio::join!(running, changing);
        assert_eq!(read(&volumes, "cm", "l"), "3");
        assert_eq!(read(&volumes, "t", "token"), "sa/u1/#2", "projected together");
        node.manager.unmount("u1").await.unwrap();
    });
}

#[test]
fn what_is_missing_is_said_and_made_up_for() {
    on_a_node(|node| async move {
        let volumes = r#"[{"name":"v","configMap":{"name":"late"}}]"#;
        let err = node.manager.mount(&pod(volumes)).await.unwrap_err();
        assert_eq!(
            err.to_string(),
            r#"MountVolume.SetUp failed for volume "v" : configmap "late" not found"#
        );
        node.objects.put_config_map(r#"{"metadata":{"namespace":"n","name":"late"},"data":{"k":"1"}}"#);
        node.manager.mount(&pod(volumes)).await.unwrap();
        node.manager.unmount("u1").await.unwrap();
        for (volumes, want) in [
            (r#"[{"name":"v","configMap":{"name":"no","optional":true}}]"#, None),
            (
                r#"[{"name":"v","secret":{"secretName":"s","items":[{"key":"z","path":"z"}]}}]"#,
                Some(
                    r#"MountVolume.SetUp failed for volume "v" : secret references non-existent config key: z"#,
                ),
            ),
            (
                r#"[{"name":"v","hostPath":{"path":"/etc/passwd","type":"Directory"}}]"#,
                Some(
                    r#"MountVolume.SetUp failed for volume "v" : hostPath type check failed: /etc/passwd is not a directory"#,
                ),
            ),
            (
                r#"[{"name":"v","csi":{"driver":"d"}}]"#,
                Some(r#"volume "v": no volume plugin matched: csi is not supported"#),
            ),
        ] {
            let got = node.manager.mount(&pod(volumes)).await.err().map(|it| it.to_string());
            assert_eq!(got.as_deref(), want, "{volumes}");
            node.manager.unmount("u1").await.unwrap();
        }
    });
}

#[test]
fn the_pods_group_can_read_its_files() {
    use std::os::unix::fs::MetadataExt as _;
    on_a_node(|node| async move {
        let mut pod = pod(ALL);
        let context = serde_json::from_str(r#"{"fsGroup":1234,"runAsUser":7}"#).unwrap();
        pod.spec.as_mut().unwrap().security_context = Some(context);
        let volumes = node.manager.mount(&pod).await.unwrap();
        let seen = |volume: &str, file: &str| {
            let meta = fs::metadata(volumes.by_name[volume].host_path.join(file)).unwrap();
            format!("{}:{} {:o}", meta.uid(), meta.gid(), meta.mode() & 0o7777)
        };
        assert_eq!(seen("e", ""), "0:1234 2777");
        assert_eq!(seen("m", ""), "0:1234 3777");
        assert_eq!(seen("cm", "k"), "0:1234 440");
        assert_eq!(seen("s", "p"), "0:1234 644");
        assert_eq!(seen("t", "token"), "7:1234 640");
        node.manager.unmount("u1").await.unwrap();
    });
}
