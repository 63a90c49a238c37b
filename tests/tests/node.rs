//! The kubelet at the edges of its work: resources that change under way, and joining a cluster.

use std::process::Command;

use coracle_tests::{Cluster, eventually};

#[test]
fn resources_change_under_way_and_a_kubelet_joins() {
    let cluster = Cluster::start();
    let (kubectl, image) = (cluster.kubectl(), Cluster::demo_image());
    kubectl.apply(&format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: web}}\nspec:\n  containers:\n  - name: app\n    image: {image}\n    \
         resources: {{requests: {{cpu: 100m, memory: 32Mi}}, limits: {{cpu: 200m, memory: 64Mi}}}}\n"
    ));
    let phase =
        || Some(kubectl.field("pod/web", "{.status.phase}")).filter(|it| it == "Running").ok_or("not yet");
    eventually("the pod runs", phase);
    let resize = |cpu: &str, memory: &str| {
        let patch = format!(
            r#"{{"spec":{{"containers":[{{"name":"app","resources":{{"requests":{{"cpu":"{cpu}","memory":"{memory}"}},"limits":{{"cpu":"{cpu}","memory":"{memory}"}}}}}}]}}}}"#
        );
        kubectl.args(&["patch", "pod", "web", "--subresource", "resize", "-p", &patch])
    };
    // The class of service would change.
    let refused = resize("300m", "96Mi").output().unwrap();
    assert!(String::from_utf8_lossy(&refused.stderr).contains("Pod QOS Class may not change"), "{refused:?}");
    kubectl.ok(
        r#"patch pod web --subresource resize -p {"spec":{"containers":[{"name":"app","resources":{"requests":{"cpu":"150m"},"limits":{"cpu":"300m","memory":"96Mi"}}}]}}"#,
    );
    let status = "{.status.containerStatuses[0]";
    let given = || {
        let limits = kubectl.field("pod/web", &format!("{status}.resources.limits.cpu}}"));
        let conditions = kubectl.field("pod/web", "{.status.conditions[*].type}");
        if limits == "300m" && !conditions.contains("Resize") {
            Ok(())
        } else {
            Err(format!("{limits} {conditions}"))
        }
    };
    eventually("the resize is done", given);
    let text = |path: &str| kubectl.field("pod/web", path);
    assert_eq!(text(&format!("{status}.allocatedResources.cpu}}")), "150m");
    assert_eq!(text(&format!("{status}.restartCount}}")), "0");
    assert_eq!(text("{.status.observedGeneration}"), text("{.metadata.generation}"));
    // What the kernel holds the pod and the container to.
    let pod = format!("{}/kubepods/burstable/pod{}", cluster.cgroup(), text("{.metadata.uid}"));
    let id = text(&format!("{status}.containerID}}")).rsplit('/').next().unwrap().to_owned();
    for folder in [pod.clone(), format!("{pod}/{id}")] {
        let v1 = format!("/sys/fs/cgroup/cpu{folder}/cpu.cfs_quota_us");
        let line = format!("cat {v1} 2>/dev/null || cut -d' ' -f1 /sys/fs/cgroup{folder}/cpu.max");
        assert_eq!(cluster.host().sh(&line).trim(), "30000", "{folder}");
        let v1 = format!("/sys/fs/cgroup/memory{folder}/memory.limit_in_bytes");
        let line = format!("cat {v1} 2>/dev/null || cat /sys/fs/cgroup{folder}/memory.max");
        assert_eq!(cluster.host().sh(&line).trim(), (96 << 20).to_string(), "{folder}");
    }
    joins(&cluster);
}

/// The program `kubelet` with nothing but a bootstrap kubeconfig: it asks, waits, and has its own in the end. It gets no
/// runtime: two agents on one would each take the other's pods for orphans.
fn joins(cluster: &Cluster) {
    let (kubectl, data) = (cluster.kubectl(), cluster.data_dir());
    let folder = data.join("joiner");
    std::fs::create_dir_all(&folder).expect("make a folder");
    let config = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nrotateCertificates: true\n\
                  failCgroupV1: false\nfailSwapOn: false\nport: 20250\nhealthzPort: 0\ncontainerRuntimeEndpoint: unix:///nonexistent.sock\n";
    std::fs::write(folder.join("config.yaml"), config).expect("write a file");
    let kubelet = std::env::current_exe().expect("this program has a path");
    let kubelet = kubelet.ancestors().nth(2).expect("tests run from target/PROFILE/deps").join("kubelet");
    let kubelet =
        std::env::var_os("CORACLE_BIN_DIR").map_or(kubelet, |it| std::path::Path::new(&it).join("kubelet"));
    let at = folder.display();
    let mut command = Command::new(kubelet);
    command.args([
        format!("--config={at}/config.yaml"),
        format!("--bootstrap-kubeconfig={}/admin.kubeconfig", data.display()),
        format!("--kubeconfig={at}/kubelet.conf"),
        format!("--cert-dir={at}/pki"),
        format!("--root-dir={at}/root"),
        "--hostname-override=joiner".to_owned(),
    ]);
    let mut joining = cluster.host().enter(&command).spawn().expect("run the kubelet");
    let asked =
        || Some(kubectl.ok("get csr -o name")).filter(|it| it.contains("node-csr-")).ok_or("no request");
    let name = eventually("the kubelet asks", asked).trim().rsplit('/').next().unwrap_or_default().to_owned();
    kubectl.ok(&format!("certificate approve {name}"));
    let written = || if folder.join("kubelet.conf").exists() { Ok(()) } else { Err("no kubeconfig") };
    eventually("the kubelet has its kubeconfig", written);
    let program = std::env::var("CORACLE_KUBECTL").unwrap_or_else(|_| "kubectl".to_owned());
    let whoami = format!(
        "{program} --kubeconfig {at}/kubelet.conf auth whoami -o jsonpath='{{.status.userInfo.username}}'"
    );
    assert_eq!(cluster.host().sh(&whoami), "system:node:joiner");
    // There is no runtime, and it says so.
    assert!(!joining.wait().expect("the kubelet ends").success());
}
