//! A second node joins, works, goes and comes back; what cannot join is told why.

use coracle_tests::{Cluster, Kubectl, Options, eventually, eventually_within};
use std::time::Duration;

fn ready(kubectl: &Kubectl, node: &str) -> Result<(), String> {
    let path = r#"{.status.conditions[?(@.type=="Ready")].status}"#;
    let output = kubectl.run_with(&format!("get node {node} -o jsonpath={path}"), "");
    if output.stdout == "True" { Ok(()) } else { Err(output.stdout + &output.stderr) }
}

fn run_pod(kubectl: &Kubectl, name: &str, node: &str) {
    let image = Cluster::demo_image();
    kubectl.apply(&format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{nodeName: {node}, \
         containers: [{{name: c, image: '{image}'}}]}}\n"
    ));
}

#[test]
fn a_second_node_joins_works_goes_and_comes_back() {
    let cluster = Cluster::start_with(Options { nodes: 2, ..Options::default() });
    let kubectl = cluster.kubectl();
    let (first, second) = (cluster.host().name().to_owned(), cluster.node_name(2));
    for node in [&first, &second] {
        eventually("the node is Ready", || ready(&kubectl, node));
    }
    let field = |node: &str, path: &str| kubectl.field(&format!("node/{node}"), path);
    let network = "{.spec.podCIDRs[*]}";
    assert!(field(&second, network).starts_with("10.244."));
    assert_ne!(field(&first, network), field(&second, network));
    assert_eq!(field(&second, r#"{.status.addresses[?(@.type=="InternalIP")].address}"#), "10.89.0.2");

    // Both certificates came by requests that nobody had to look at; what let the node in is gone.
    let requests = kubectl.ok("get csr");
    assert_eq!(requests.matches("Approved,Issued").count(), 2, "{requests}");
    assert!(requests.contains("system:bootstrap:") && requests.contains(&format!("system:node:{second}")));
    let files = cluster.on_node(2, &format!("ls {0}/agent {0}/agent/pki", cluster.node_dir(2).display()));
    assert!(!files.contains("bootstrap.kubeconfig"), "{files}");
    assert!(files.contains("kubelet-server-current.pem"), "{files}");

    run_pod(&kubectl, "a", &first);
    run_pod(&kubectl, "b", &second);
    for pod in ["a", "b"] {
        kubectl.ok(&format!("wait --for=condition=Ready pod/{pod} --timeout=60s"));
        assert_eq!(kubectl.ok(&format!("exec {pod} -- hostname")).trim(), pod);
        let logs = kubectl.run_with(&format!("logs {pod}"), "");
        assert!(logs.success, "{}", logs.stderr);
    }
    the_server_may_die(&cluster, &kubectl);
    a_node_goes_and_comes_back(&cluster, &kubectl, &second);
}

/// What runs on the other node does not notice.
fn the_server_may_die(cluster: &Cluster, kubectl: &Kubectl) {
    let id = || kubectl.field("pod/b", "{.status.containerStatuses[0].containerID}");
    let before = id();
    cluster.kill();
    // Not even an agent that starts anew meanwhile does.
    let folder = cluster.node_dir(2).display().to_string();
    let script = "cd $1/run; pid=$(cat coracle.pid); mapfile -d '' -t all </proc/$pid/cmdline; kill -9 $pid
        until flock -n lock true; do sleep 0.05; done
        setsid nohup ${all[@]} >>../log/coracle.log 2>&1 </dev/null & echo $! >coracle.pid";
    std::fs::write(format!("{folder}/run/again"), script).expect("write a file");
    cluster.on_node(2, &format!("bash {folder}/run/again {folder}"));
    eventually("the agent is up without the server", || {
        let log = std::fs::read_to_string(format!("{folder}/log/coracle.log")).unwrap_or_default();
        if log.matches("node is up").count() == 2 { Ok(()) } else { Err(log) }
    });
    let (success, text) = cluster.up();
    assert!(success, "{text}");
    assert_eq!(id(), before);
    assert_eq!(kubectl.field("pod/b", "{.status.containerStatuses[0].restartCount}"), "0");
    eventually("the other node is heard again", || {
        let output = kubectl.run_with("exec b -- hostname", "");
        if output.success { Ok(()) } else { Err(output.stderr) }
    });
}

fn a_node_goes_and_comes_back(cluster: &Cluster, kubectl: &Kubectl, node: &str) {
    kubectl.ok(&format!("drain {node} --force --ignore-daemonsets --delete-emptydir-data --timeout=60s"));
    assert_eq!(kubectl.field(&format!("node/{node}"), "{.spec.unschedulable}"), "true");
    assert!(!kubectl.run_with("get pod b", "").success, "drained");
    kubectl.ok(&format!("uncordon {node}"));
    kubectl.ok(&format!("delete node {node}"));
    // A kubelet that starts registers its node again, with the certificate that it has.
    cluster.on_node(2, &format!("kill -9 $(cat {}/run/coracle.pid)", cluster.node_dir(2).display()));
    let (success, text) = cluster.up();
    assert!(success, "{text}");
    eventually_within(Duration::from_secs(60), "the node is back", || ready(kubectl, node));
    run_pod(kubectl, "c", node);
    kubectl.ok("wait --for=condition=Ready pod/c --timeout=60s");
}

#[test]
fn a_control_plane_alone_has_its_nodes_elsewhere() {
    let up = vec!["--no-node".to_owned()];
    let cluster = Cluster::start_with(Options { nodes: 2, up, ..Options::default() });
    let (kubectl, node) = (cluster.kubectl(), cluster.node_name(2));
    assert_eq!(kubectl.ok("get nodes -o name").trim(), format!("node/{node}"));
    kubectl.ok(&format!("run a --image={}", Cluster::demo_image()));
    kubectl.ok("wait --for=condition=Ready pod/a --timeout=60s");
    assert_eq!(kubectl.field("pod/a", "{.spec.nodeName}"), node);
    assert_eq!(kubectl.ok("exec a -- hostname").trim(), "a");
    // The agent answers for itself when it is asked there.
    let program = cluster.program("coracle");
    let status = format!("{} status --data-dir {}", program.display(), cluster.node_dir(2).display());
    assert_eq!(cluster.on_node(2, &status).trim(), format!("node {node} is Ready"));
}

/// `coracle agent` beside the server, with ports of its own: it must not get as far as using them.
fn agent(cluster: &Cluster, server: &str, more: &[&str]) -> String {
    let data = cluster.data_dir();
    let runtime = format!("unix://{}/run/containerd.sock", data.display());
    let folder = data.join("stranger").display().to_string();
    let mut arguments = vec!["agent", "--data-dir", &folder, "--runtime-endpoint", &runtime];
    arguments.extend(["--kubelet-port", "11250", "--kubelet-healthz-port", "11248"]);
    arguments.extend(["--proxy-healthz-port", "11256", "--server", server]);
    arguments.extend(more);
    let (success, text) = cluster.coracle(&arguments);
    assert!(!success, "{text}");
    assert!(!data.join("stranger/agent").exists(), "something was written: {text}");
    text
}

#[test]
fn what_cannot_join_is_told_why() {
    let cluster = Cluster::start();
    let data = cluster.data_dir().display().to_string();
    let token = |arguments: &[&str]| {
        let all = [&["token", "--data-dir", &data], arguments].concat();
        let (success, text) = cluster.coracle(&all);
        assert!(success, "{text}");
        text.trim().to_owned()
    };
    let good = token(&["create", "--description", "for a test"]);
    let (mark, secret) = good.split_once("::").unwrap();
    let hash = format!("sha256:{}", mark.strip_prefix("K1").unwrap());
    let id = secret.split_once('.').unwrap().0;
    let list = token(&["list"]);
    assert!(list.contains(id) && list.contains("for a test") && !list.contains(secret), "{list}");

    // By this a machine sees that its clock is off.
    let head = cluster.host().sh("curl -skD - -o /dev/null https://127.0.0.1:6443/version");
    assert!(head.contains("date: "), "{head}");

    let server = "https://127.0.0.1:6443";
    let wrong = format!("{mark}::{id}.0000000000000000");
    let elsewhere = format!("K1{}::{secret}", "0".repeat(64));
    let taken = cluster.host().name();
    let other = ["--node-name", "other"];
    for (what, server, arguments, expected) in [
        ("wrong token", server, vec!["--token", &wrong], "does not accept the token"),
        (
            "wrong CA",
            server,
            vec!["--token", &elsewhere],
            "it is another cluster, or somebody stands between",
        ),
        ("no CA", server, vec!["--token", secret], "give it by --ca-hash"),
        ("no token", server, vec![], "has not joined yet: give --token"),
        ("nobody there", "https://127.0.0.1:1", vec!["--token", &good], "connection refused"),
        (
            "no API server",
            "https://127.0.0.1:10250",
            vec!["--token", &good],
            "does not answer as a cluster's API",
        ),
    ] {
        let text = agent(&cluster, server, &[&other[..], &arguments].concat());
        assert!(text.contains(expected), "{what}: {text}");
    }
    let text = agent(&cluster, server, &["--node-name", taken, "--token", secret, "--ca-hash", &hash]);
    assert!(text.contains(&format!("a node named {taken} is in the cluster and Ready")), "{text}");

    assert_eq!(token(&["delete", id]), format!("token {id} deleted"));
    let text = agent(&cluster, server, &[&other[..], &["--token", &good]].concat());
    assert!(text.contains("does not accept the token"), "{text}");
    // A token ends by itself, and its Secret with it.
    token(&["create", "--ttl", "1s", "aaaaaa.0123456789abcdef"]);
    let kubectl = cluster.kubectl();
    eventually("the token is cleared away", || {
        let left = kubectl.ok("get secrets -n kube-system -o name");
        if left.contains("aaaaaa") { Err(left) } else { Ok(()) }
    });
}

#[test]
fn nodes_have_networks_of_both_families() {
    let up = ["--pod-cidr", "10.244.0.0/16,fd00:10:244::/56", "--node-cidr-mask-size-ipv4", "26"];
    let up = up.map(str::to_owned).to_vec();
    let cluster = Cluster::start_with(Options { nodes: 2, up, ..Options::default() });
    let kubectl = cluster.kubectl();
    let networks = |node: &str| kubectl.field(&format!("node/{node}"), "{.spec.podCIDRs[*]}");
    let of = [networks(cluster.host().name()), networks(&cluster.node_name(2))];
    let both =
        |text: &String| text.split(' ').filter(|it| it.ends_with("/26") || it.ends_with("::/64")).count();
    assert!(of[0] != of[1] && of.iter().all(|it| both(it) == 2), "{of:?}");
    run_pod(&kubectl, "a", &cluster.node_name(2));
    kubectl.ok("wait --for=condition=Ready pod/a --timeout=60s");
    let addresses = kubectl.field("pod/a", "{.status.podIPs[*].ip}");
    let (v4, v6) = addresses.split_once(' ').unwrap_or_default();
    assert!(v4.starts_with("10.244.0.") && v6.starts_with("fd00:10:244:"), "{addresses}");
}
