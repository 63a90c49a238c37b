//! The README's story, line by line, with the real kubectl.

use coracle_tests::{Cluster, Kubectl, eventually, eventually_within};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Creates the deployment `web` with two replicas and waits until both are available.
fn deploy_web(kubectl: &Kubectl) {
    let image = Cluster::demo_image();
    kubectl.ok(&format!("create deployment web --image={image} --replicas=2 --port=8080"));
    kubectl.ok("rollout status deployment/web --timeout=60s");
}

#[test]
fn a_node_is_ready_and_described() {
    let cluster = Cluster::start();
    let kubectl = cluster.kubectl();
    let nodes = kubectl.ok("get nodes -o wide");
    let header = nodes.lines().next().unwrap_or_default();
    for column in [
        "NAME",
        "STATUS",
        "ROLES",
        "AGE",
        "VERSION",
        "INTERNAL-IP",
        "OS-IMAGE",
        "KERNEL-VERSION",
        "CONTAINER-RUNTIME",
    ] {
        assert!(header.contains(column), "{column} in {header}");
    }
    let row = nodes.lines().nth(1).unwrap_or_default();
    for cell in [cluster.host().name(), " Ready ", "v1.36", "10.0.0.1", "containerd://"] {
        assert!(row.contains(cell), "{cell} in {row}");
    }
    assert!(kubectl.ok("get cs").contains("Healthy"));
    assert!(kubectl.ok("version").contains("Server Version: v1.36"));
    assert!(kubectl.ok("cluster-info").contains("control plane"));
    let resources = kubectl.ok("api-resources");
    assert!(
        resources
            .lines()
            .any(|it| it.starts_with("deployments") && it.contains("deploy") && it.contains("apps/v1"))
    );
    assert_eq!(kubectl.ok("get --raw /healthz"), "ok");
    assert!(kubectl.ok("explain deployment.spec").contains("replicas"));
    let node = kubectl.ok(&format!("describe node {}", cluster.host().name()));
    assert!(node.contains("KubeletReady"), "{node}");
}

#[test]
fn a_deployment_runs_scales_rolls_out_and_back() {
    let cluster = Cluster::start();
    let kubectl = cluster.kubectl();
    deploy_web(&kubectl);
    let pods = kubectl.ok("get pods -o wide");
    for column in
        ["NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP", "NODE", "NOMINATED NODE", "READINESS GATES"]
    {
        assert!(pods.lines().next().is_some_and(|it| it.contains(column)), "{column} in {pods}");
    }
    assert_eq!(
        pods.lines()
            .filter(|it| it.contains("1/1") && it.contains("Running") && it.contains("10.244."))
            .count(),
        2,
        "{pods}"
    );

    // A pod that is deleted comes back under another name.
    let first = kubectl.field("pods -l app=web", "{.items[0].metadata.name}");
    kubectl.ok(&format!("delete pod {first}"));
    kubectl.ok("rollout status deployment/web --timeout=30s");
    assert!(!kubectl.ok("get pods -l app=web -o name").contains(&first));

    kubectl.ok("scale deployment/web --replicas=4");
    kubectl.ok("rollout status deployment/web --timeout=60s");
    kubectl.ok("scale deployment/web --replicas=1");
    eventually("one pod is left", || {
        let pods = kubectl.ok("get pods -l app=web -o name");
        if pods.lines().count() == 1 { Ok(()) } else { Err(pods) }
    });

    kubectl.ok("set env deployment/web COLOUR=blue");
    kubectl.ok("rollout status deployment/web --timeout=60s");
    assert!(kubectl.ok("exec deploy/web -- env").contains("COLOUR=blue"));
    kubectl.ok("rollout undo deployment/web");
    kubectl.ok("rollout status deployment/web --timeout=60s");
    assert!(!kubectl.ok("exec deploy/web -- env").contains("COLOUR"));
    assert!(kubectl.ok("rollout history deployment/web").lines().count() >= 4);

    kubectl.ok("label deployment/web tier=front");
    kubectl.ok("annotate deployment/web note=hello");
    assert_eq!(
        kubectl.field("deployment/web", "{.metadata.labels.tier}{.metadata.annotations.note}"),
        "fronthello"
    );
    kubectl.ok("wait --for=condition=Available deployment/web --timeout=10s");
    let described = kubectl.ok("describe deployment/web");
    assert!(described.contains("ScalingReplicaSet"), "{described}");
    kubectl.ok("delete deployment web");
    eventually("every pod is gone", || {
        let pods = kubectl.ok("get pods -o name");
        if pods.is_empty() { Ok(()) } else { Err(pods) }
    });
}

#[test]
fn logs_exec_and_a_terminal() {
    let cluster = Cluster::start();
    let kubectl = cluster.kubectl();
    deploy_web(&kubectl);
    assert!(kubectl.ok("logs deploy/web").contains("listening on port 8080"));
    let hosts = kubectl.ok("exec deploy/web -- cat /etc/hosts");
    assert!(hosts.contains("# Kubernetes-managed hosts file.") && hosts.contains("web-"), "{hosts}");
    // The input ends, and so does cat: half-close reaches the container.
    let echoed = kubectl.run_with("exec -i deploy/web -- cat", "hi\n");
    assert_eq!((echoed.success, echoed.stdout.as_str()), (true, "hi\n"), "{}", echoed.stderr);
    let failed = kubectl.run_with("exec deploy/web -- sh -c exit\\ 7", "");
    assert!(!failed.success);
    // A terminal, of a known size, through script(1) which gives kubectl one. The size comes on a stream of its own,
    // right after the start.
    let pod = kubectl.field("pods -l app=web", "{.items[0].metadata.name}");
    let mut inner = kubectl.args(&["exec", "-it", &pod, "--", "sh", "-c", "tty; sleep 1; stty size"]);
    let words: Vec<String> = std::iter::once(inner.get_program())
        .chain(inner.get_args())
        .map(|it| format!("'{}'", it.to_string_lossy().replace('\'', r"'\''")))
        .collect();
    let line = format!("stty rows 33 cols 77; {}", words.join(" "));
    let mut script = Command::new("script");
    script.args(["-qec", &line, "/dev/null"]).stdin(Stdio::null());
    for (name, value) in inner.get_envs() {
        if let Some(value) = value {
            script.env(name, value);
        }
    }
    inner.stdin(Stdio::null());
    let terminal = script.output().unwrap();
    let text = String::from_utf8_lossy(&terminal.stdout).into_owned();
    assert!(text.contains("/dev/pts/"), "{text}");
    assert!(text.contains("33 77"), "{text}");

    // Followed logs show what comes later.
    let ip = kubectl.field("pods -l app=web", "{.items[0].status.podIP}");
    let mut follow = kubectl.args(&["logs", "-f", &pod]).stdout(Stdio::piped()).spawn().unwrap();
    cluster.host().sh(&format!("curl -sf http://{ip}:8080/followed || true"));
    let mut stdout = std::io::BufReader::new(follow.stdout.take().unwrap());
    let found = std::thread::spawn(move || {
        use std::io::BufRead;
        let mut line = String::new();
        while stdout.read_line(&mut line).is_ok_and(|it| it > 0) {
            if line.contains("/followed") {
                return true;
            }
            line.clear();
        }
        false
    });
    eventually("the followed log shows the request", || {
        if found.is_finished() { Ok(()) } else { Err("not yet") }
    });
    assert!(found.join().unwrap());
    follow.kill().unwrap();
    follow.wait().unwrap();
}

#[test]
fn services_answer_from_the_node_and_from_pods_by_name() {
    let cluster = Cluster::start();
    let kubectl = cluster.kubectl();
    deploy_web(&kubectl);
    kubectl.ok("expose deployment web --port=80 --target-port=8080 --type=NodePort");
    let ip = kubectl.field("service/web", "{.spec.clusterIP}");
    let port = kubectl.field("service/web", "{.spec.ports[0].nodePort}");
    let host = cluster.host();
    eventually("the ClusterIP answers", || {
        let output =
            host.run(Command::new("curl").args(["-sf", "-m", "2", &format!("http://{ip}/hostname")]));
        if output.status.success() { Ok(()) } else { Err(output.status) }
    });
    // Both pods get their share.
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..40 {
        seen.insert(host.sh(&format!("curl -sf -m 2 http://{ip}/hostname")));
    }
    assert_eq!(seen.len(), 2, "{seen:?}");
    assert!(host.sh(&format!("curl -sf -m 2 http://10.0.0.1:{port}/hostname")).starts_with("web-"));
    // From a pod, by name; a Service's own pods reach it too.
    for name in ["web", "web.default", "web.default.svc", "web.default.svc.cluster.local"] {
        let got = kubectl.ok(&format!("exec deploy/web -- demo get http://{name}/hostname"));
        assert!(got.starts_with("web-"), "{name}: {got}");
    }
    assert!(kubectl.ok("exec deploy/web -- demo resolve kubernetes.default").contains("10.96.0.1"));
    let slices = kubectl.ok("get endpointslices -l kubernetes.io/service-name=web");
    assert!(slices.contains("8080"), "{slices}");
    assert!(kubectl.ok("get endpoints web").contains(":8080"));
    // Without endpoints it refuses at once.
    kubectl.ok("scale deployment/web --replicas=0");
    eventually("a connection is refused", || {
        let output = host.run(Command::new("curl").args(["-s", "-m", "2", &format!("http://{ip}/")]));
        // curl: 7 is a refused connection, 28 would be silence.
        if output.status.code() == Some(7) { Ok(()) } else { Err(output.status) }
    });
}

#[test]
fn port_forward_and_copy() {
    let cluster = Cluster::start();
    let kubectl = cluster.kubectl();
    deploy_web(&kubectl);
    let mut forward =
        kubectl.args(&["port-forward", "deploy/web", "18080:8080"]).stdout(Stdio::null()).spawn().unwrap();
    let host = cluster.host();
    eventually("the forwarded port answers", || {
        let output =
            host.run(Command::new("curl").args(["-sf", "-m", "2", "http://127.0.0.1:18080/hostname"]));
        if output.status.success() { Ok(()) } else { Err(output.status) }
    });
    forward.kill().unwrap();
    forward.wait().unwrap();
    let pod = kubectl.field("pods -l app=web", "{.items[0].metadata.name}");
    let file = cluster.data_dir().join("copied");
    std::fs::write(&file, vec![7u8; 300_000]).unwrap();
    kubectl.ok(&format!("cp {} {pod}:/tmp/copied", file.display()));
    let sum = kubectl.ok(&format!("exec {pod} -- md5sum /tmp/copied"));
    let own = host.sh(&format!("md5sum {}", file.display()));
    assert_eq!(sum.split(' ').next(), own.split(' ').next());
}

#[test]
fn apply_and_server_side_apply_and_edit() {
    let cluster = Cluster::start();
    let kubectl = cluster.kubectl();
    let manifest = |value: &str| {
        format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: settings}}\ndata: {{colour: {value}}}\n")
    };
    assert!(kubectl.apply(&manifest("red")).contains("configmap/settings created"));
    assert!(kubectl.apply(&manifest("red")).contains("unchanged"));
    assert!(kubectl.apply(&manifest("blue")).contains("configured"));
    assert_eq!(kubectl.field("configmap/settings", "{.data.colour}"), "blue");
    let output = kubectl.run_with("apply --server-side -f -", &manifest("blue").replace("settings", "owned"));
    assert!(
        output.success && output.stdout.contains("serverside-applied"),
        "{}{}",
        output.stdout,
        output.stderr
    );
    let conflict = kubectl.run_with(
        "apply --server-side --field-manager=other -f -",
        &manifest("green").replace("settings", "owned"),
    );
    assert!(!conflict.success && conflict.stderr.contains("conflict"), "{}", conflict.stderr);
    let mut edit = kubectl.args(&["edit", "configmap", "settings"]);
    edit.env("KUBE_EDITOR", "sed -i s/blue/yellow/");
    assert!(edit.output().unwrap().status.success());
    assert_eq!(kubectl.field("configmap/settings", "{.data.colour}"), "yellow");
    assert!(kubectl.run_with("diff -f -", &manifest("white")).stdout.contains("+  colour: white"));
    kubectl.ok("delete configmap settings owned");
}

#[test]
fn events_and_why_tell_what_happened() {
    let cluster = Cluster::start();
    let kubectl = cluster.kubectl();
    deploy_web(&kubectl);
    let events = kubectl.ok("get events");
    for reason in ["Scheduled", "Pulled", "Created", "Started", "SuccessfulCreate", "ScalingReplicaSet"] {
        assert!(events.contains(reason), "{reason} in {events}");
    }
    let pod = kubectl.field("pods -l app=web", "{.items[0].metadata.name}");
    let data = cluster.data_dir().display().to_string();
    let (success, why) = cluster.coracle(&["why", "--data-dir", &data, "pod", &pod]);
    assert!(success, "{why}");
    for call in ["run_podsandbox", "create_container", "start_container"] {
        assert!(why.contains(call), "{call} in {why}");
    }
    let described = kubectl.ok(&format!("describe pod {pod}"));
    assert!(
        described.contains("Started container") || described.contains("Container started"),
        "{described}"
    );
}

#[test]
fn what_stops_leaves_nothing_behind() {
    let cluster = Cluster::start();
    let kubectl = cluster.kubectl();
    let host = cluster.host();
    deploy_web(&kubectl);
    let (success, text) = cluster.down(&["--purge"]);
    assert!(success, "{text}");
    assert!(!cluster.data_dir().exists());
    let left = |what: &str, line: &str| assert_eq!(host.sh(line).trim(), "", "{what}");
    left(
        "processes",
        "ps axo args | grep -E 'containerd|coracle|pause|demo' | grep -v -e grep -e 'hack/down' || true",
    );
    left("mounts", "grep -e /tmp/cor- -e /run/netns/ /proc/self/mountinfo || true");
    left("network namespaces", "ls /run/netns");
    left("links", "ip -o link | grep -v -e ': lo:' -e up0 -e world0 -e ifb || true");
    left("rules", "nft list ruleset");
    left("addresses of lo", "ip -o addr show lo | grep -v -e 127.0.0.1 -e ::1 || true");
    left("cgroups", &format!("find /sys/fs/cgroup -path '*{}*' -type d", cluster.cgroup()));
}

#[test]
fn up_is_idempotent_and_down_keeps_what_was_stored() {
    let cluster = Cluster::start();
    let kubectl = cluster.kubectl();
    deploy_web(&kubectl);
    let before = kubectl.ok("get pods -o jsonpath={.items[*].metadata.uid}");
    let (success, text) = cluster.up();
    assert!(success && text.contains("already running"), "{text}");
    assert_eq!(kubectl.ok("get pods -o jsonpath={.items[*].metadata.uid}"), before);
    assert!(cluster.down(&[]).0);
    assert!(cluster.up().0);
    eventually_within(Duration::from_secs(60), "the deployment is available again", || {
        let output = kubectl.run_with("wait --for=condition=Available deployment/web --timeout=5s", "");
        if output.success { Ok(()) } else { Err(output.stderr) }
    });
}
