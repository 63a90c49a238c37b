//! Whole configs, from a Pod.

use std::path::Path;

use super::*;
use crate::config::testing::config;
use crate::objects::testing::Memory;
use crate::volume::MountedVolume;

fn translator(root: &Path) -> Translator {
    let mut config = config(root);
    config.dns.resolv_conf = "/dev/null".into();
    Translator::new(TranslateDeps {
        config: Arc::new(config),
        objects: Arc::new(Memory::default()),
        node_ips: vec!["192.0.2.1".parse().unwrap()],
        allocatable: NodeAllocatable { memory_capacity: 4 << 30, ..NodeAllocatable::default() },
        features: RuntimeFeatures::default(),
    })
}

fn pod(spec: &str) -> Pod {
    serde_json::from_str(&format!(
        r#"{{"metadata":{{"name":"p","namespace":"n","uid":"u","labels":{{"app":"x"}},"annotations":{{"k":"v"}}}},"spec":{spec}}}"#
    ))
    .unwrap()
}

async fn setup(root: &Path, pod: &Pod, volumes: &PodVolumes) -> Result<ContainerSetup, ConfigError> {
    let request = ContainerRequest {
        container: &pod.spec.as_ref().unwrap().containers[0],
        role: ContainerRole::App,
        image: ImageFacts { image_ref: "sha256:1".into(), uid: Some(0), ..ImageFacts::default() },
        restart_count: 3,
        volumes,
        pod_ips: &["10.0.0.5".parse().unwrap()],
    };
    translator(root).container_config(pod, request).await
}

#[test]
fn a_sandbox_has_upstreams_names_and_places() {
    let pod = pod(
        r#"{"hostname":"h","securityContext":{"sysctls":[{"name":"kernel.shm_rmid_forced","value":"1"}]},
        "containers":[{"name":"c","ports":[{"containerPort":80,"hostPort":8080},{"containerPort":81}]}]}"#,
    );
    let setup = translator(Path::new("/r")).sandbox_config(&pod, 2, "/kubepods/besteffort/podu").unwrap();
    let config = setup.config;
    assert_eq!(config.hostname, "h");
    assert_eq!(config.log_directory, "/r/logs/n_p_u");
    assert_eq!(config.metadata.unwrap().attempt, 2);
    assert_eq!(config.labels["io.kubernetes.pod.uid"], "u");
    assert_eq!((config.labels["app"].as_str(), config.annotations["k"].as_str()), ("x", "v"));
    assert_eq!(config.port_mappings.len(), 1);
    assert_eq!(config.dns_config.unwrap().servers, ["10.96.0.10"]);
    let linux = config.linux.unwrap();
    assert_eq!(linux.cgroup_parent, "/kubepods/besteffort/podu");
    assert_eq!(linux.sysctls["kernel.shm_rmid_forced"], "1");
}

#[test]
fn a_pod_on_the_hosts_network_keeps_its_name_and_ports() {
    let pod = pod(
        r#"{"hostNetwork":true,"containers":[{"name":"c","ports":[{"containerPort":80,"hostPort":80}]}]}"#,
    );
    let config = translator(Path::new("/r")).sandbox_config(&pod, 0, "").unwrap().config;
    assert_eq!((config.hostname.as_str(), config.port_mappings.len()), ("", 0));
    let users = self::pod(r#"{"hostUsers":false,"containers":[]}"#);
    let refused = translator(Path::new("/r")).sandbox_config(&users, 0, "").unwrap_err();
    assert!(refused.to_string().contains("hostUsers: false"));
}

#[tokio::test]
async fn a_container_is_configured_whole() {
    let dir = tempfile::tempdir().unwrap();
    let pod = pod(
        r#"{"terminationGracePeriodSeconds":30,"containers":[{"name":"c","image":"img:1","command":["sh","-c","$(A) $(NO)"],
        "env":[{"name":"A","value":"1"}],"workingDir":"/w","tty":true,"stdin":true,
        "resources":{"requests":{"cpu":"250m"},"limits":{"cpu":"500m","memory":"64Mi"}},
        "terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File",
        "volumeMounts":[{"name":"v","mountPath":"data","readOnly":true,"mountPropagation":"HostToContainer"}]}]}"#,
    );
    let mut volumes = PodVolumes::default();
    let volume = MountedVolume { host_path: "/host/v".into(), read_only: false, selinux_relabel: true };
    volumes.by_name.insert("v".into(), volume);
    let config = setup(dir.path(), &pod, &volumes).await.unwrap().config;
    assert_eq!(config.args.len() + config.command.len(), 3);
    assert_eq!(config.command[2], "1 $(NO)");
    assert_eq!(config.log_path, "c/3.log");
    assert_eq!(config.annotations["io.kubernetes.container.restartCount"], "3");
    assert_eq!(config.annotations["io.kubernetes.pod.terminationGracePeriod"], "30");
    assert_eq!(
        config.annotations["io.kubernetes.container.hash"],
        container_hash(&pod.spec.as_ref().unwrap().containers[0])
    );
    let resources = config.linux.unwrap().resources.unwrap();
    let want = (256, 50_000, 100_000, 64 << 20, 985);
    let got = (
        resources.cpu_shares,
        resources.cpu_quota,
        resources.cpu_period,
        resources.memory_limit_in_bytes,
        resources.oom_score_adj,
    );
    assert_eq!(got, want);
    let mounts: Vec<_> = config.mounts.iter().map(|it| it.container_path.as_str()).collect();
    assert_eq!(mounts, ["/data", "/etc/hosts", "/dev/termination-log"]);
    assert!(config.mounts[0].readonly);
    assert_eq!(config.mounts[0].propagation(), v1::MountPropagation::PropagationHostToContainer);
    let hosts = std::fs::read_to_string(dir.path().join("kubelet/pods/u/etc-hosts")).unwrap();
    assert!(hosts.ends_with("10.0.0.5\tp\n"), "{hosts}");
    assert!(
        Path::new(&config.mounts[2].host_path).starts_with(dir.path().join("kubelet/pods/u/containers/c"))
    );
}

#[tokio::test]
async fn a_container_that_cannot_be_is_refused_in_upstreams_words() {
    let dir = tempfile::tempdir().unwrap();
    let check = async |container: &str, want: &str| {
        let pod = pod(&format!(r#"{{"containers":[{container}]}}"#));
        let mut volumes = PodVolumes::default();
        let volume = MountedVolume { host_path: "/nowhere".into(), read_only: false, selinux_relabel: false };
        volumes.by_name.insert("v".into(), volume);
        let err = setup(dir.path(), &pod, &volumes).await.unwrap_err();
        assert_eq!((err.reason(), err.to_string().as_str()), ("CreateContainerConfigError", want));
    };
    check(
        r#"{"name":"c","volumeMounts":[{"name":"x","mountPath":"/x"}]}"#,
        r#"cannot find volume "x" to mount into container "c""#,
    )
    .await;
    check(
        r#"{"name":"c","volumeMounts":[{"name":"v","mountPath":"/x","subPathExpr":"$(NO)"}]}"#,
        r#"missing value for "NO""#,
    )
    .await;
    check(
        r#"{"name":"c","volumeMounts":[{"name":"v","mountPath":"/x","subPath":"a"}]}"#,
        r#"failed to prepare subPath for volumeMount "v" of container "c""#,
    )
    .await;
    check(
        r#"{"name":"c","securityContext":{"runAsNonRoot":true}}"#,
        r#"container has runAsNonRoot and image will run as root (pod: "p_n(u)", container: c)"#,
    )
    .await;
}

#[tokio::test]
async fn a_hosts_file_of_the_containers_own_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let pod = pod(r#"{"containers":[{"name":"c","volumeMounts":[{"name":"v","mountPath":"/etc/hosts"}]}]}"#);
    let mut volumes = PodVolumes::default();
    let volume = MountedVolume { host_path: "/host/hosts".into(), read_only: false, selinux_relabel: false };
    volumes.by_name.insert("v".into(), volume);
    let config = setup(dir.path(), &pod, &volumes).await.unwrap().config;
    assert_eq!(config.mounts.len(), 1);
    assert!(!dir.path().join("kubelet/pods/u/etc-hosts").exists());
}
