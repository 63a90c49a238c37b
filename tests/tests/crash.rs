//! kill -9 at any moment: containers run on, nothing acknowledged is lost, nothing is restarted.

use coracle_tests::{Cluster, eventually_within};
use std::time::{Duration, Instant};

/// How often the process is killed.
const ROUNDS: u32 = 6;

#[test]
fn nothing_is_lost_or_restarted_by_kill_9() {
    let cluster = Cluster::start();
    let kubectl = cluster.kubectl();
    let image = Cluster::demo_image();
    kubectl.ok(&format!("create deployment web --image={image} --replicas=3"));
    kubectl.ok("rollout status deployment/web --timeout=60s");
    let ids = || {
        let each = "{{range.status.containerStatuses}}{{.containerID}}/{{.restartCount}};{{end}}";
        let template = format!("{{{{range.items}}}}{{{{.metadata.name}}}}={each}{{{{end}}}}");
        kubectl.ok(&format!("get pods -l app=web -o go-template={template}"))
    };
    let before = ids();
    assert_eq!(before.matches("/0;").count(), 3, "{before}");
    let mut written = Vec::new();
    for round in 0..ROUNDS {
        // Writes go on until the process dies under them; those that were acknowledged must be there afterwards.
        let deadline = Instant::now() + Duration::from_millis(u64::from(fraction(round)));
        let writer = {
            let kubectl = kubectl.clone();
            std::thread::spawn(move || {
                let mut acknowledged = Vec::new();
                for n in 0.. {
                    let name = format!("kept-{round}-{n}");
                    if !kubectl.run_with(&format!("create configmap {name} --request-timeout=2s"), "").success
                    {
                        break;
                    }
                    acknowledged.push(name);
                }
                acknowledged
            })
        };
        std::thread::sleep(deadline.saturating_duration_since(Instant::now()));
        cluster.kill();
        written.extend(writer.join().unwrap());
        let (success, text) = cluster.up();
        assert!(success, "round {round}: {text}");
        let there = kubectl.ok("get configmaps -o name");
        for name in &written {
            assert!(
                there.lines().any(|it| it == format!("configmap/{name}")),
                "round {round}: {name} was lost"
            );
        }
        eventually_within(Duration::from_secs(20), "all pods are as before", || {
            let now = ids();
            if now == before { Ok(()) } else { Err(now) }
        });
        let ready = kubectl.field("deployment/web", "{.status.readyReplicas}");
        assert_eq!(ready, "3", "round {round}");
    }
    assert!(!written.is_empty());
}

/// How many pods come and go while the process is killed.
const CHURNED: u32 = 100;

#[test]
fn a_hundred_pods_come_and_go_under_kill_9_and_nothing_leaks() {
    let cluster = Cluster::start();
    let kubectl = cluster.kubectl();
    kubectl.ok("create configmap settings --from-literal=a=b");
    kubectl.apply(&format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: churn}}\nspec: {{replicas: 0, \
         selector: {{matchLabels: {{app: churn}}}}, template: {{metadata: {{labels: {{app: churn}}}}, \
         spec: {{containers: [{{name: demo, image: {image}, volumeMounts: [{{name: fast, mountPath: /fast}}, \
         {{name: settings, mountPath: /settings, subPath: a}}]}}], volumes: [{{name: fast, emptyDir: \
         {{medium: Memory}}}}, {{name: settings, configMap: {{name: settings}}}}]}}}}}}",
        image = Cluster::demo_image()
    ));
    let empty = left_of_pods(&cluster);
    for (round, replicas) in [CHURNED, 20, CHURNED, 0].into_iter().enumerate() {
        kubectl.ok(&format!("scale deployment/churn --replicas={replicas}"));
        let rest = u32::try_from(round).unwrap();
        std::thread::sleep(Duration::from_millis(u64::from(fraction(rest)) * 2));
        cluster.kill();
        let (success, text) = cluster.up();
        assert!(success, "round {round}: {text}");
        eventually_within(Duration::from_secs(120), "all pods are as wanted", || {
            let template = "{{range.items}}{{.metadata.name}}={{.status.phase}} \
                            {{range.status.containerStatuses}}{{.ready}}/{{.restartCount}}{{end}};{{end}}";
            let template = template.split_whitespace().collect::<Vec<_>>().join("");
            let pods = kubectl.ok(&format!("get pods -l app=churn -o go-template={template}"));
            // A start that was under way when its caller was killed is taken back by the runtime: that one counts.
            let good = pods.matches("=Runningtrue/0;").count() + pods.matches("=Runningtrue/1;").count();
            let all = pods.matches(';').count();
            let wanted = replicas as usize;
            if good == wanted && all == wanted {
                Ok(())
            } else {
                Err(format!("{good} good of {all}: {pods}"))
            }
        });
    }
    // The runtime's own goodbyes are a moment behind the API's.
    eventually_within(Duration::from_secs(30), "nothing of the pods is left", || {
        let left = left_of_pods(&cluster);
        if left == empty { Ok(()) } else { Err(left) }
    });
}

/// What a node has of pods, outside the API: counted. Not the runtime's shims: containerd 1.6 forgets one whose start it
/// breaks off when its caller dies, and then nobody knows of it any more.
fn left_of_pods(cluster: &Cluster) -> String {
    let data = cluster.data_dir().display().to_string();
    let ctr = format!("ctr --address {data}/run/containerd.sock --namespace k8s.io");
    let counts = [
        ("containers", format!("{ctr} containers ls -q")),
        ("tasks", format!("{ctr} tasks ls -q")),
        ("mounts", format!("grep {data}/kubelet/ /proc/self/mountinfo || true")),
        ("folders", format!("ls {data}/kubelet/pods {data}/log/pods | grep -v : || true")),
        ("links of logs", format!("ls {data}/log/containers 2>/dev/null || true")),
        ("cgroups", format!("find /sys/fs/cgroup -path '*{}/*pod*' -name 'pod*' -type d", cluster.cgroup())),
        ("namespaces", "ls /run/netns".to_owned()),
        ("links", "ip -o link show type veth | grep -v -e up0 -e world0 || true".to_owned()),
        ("addresses", format!("find {data}/cni/leases -name '10.*' || true")),
    ];
    let count = |line: &str| cluster.host().sh(line).lines().filter(|it| !it.trim().is_empty()).count();
    counts.map(|(what, line)| format!("{what}: {}", count(&line))).join(", ")
}

/// A moment between 0.1 and 1.5 s that differs from run to run.
fn fraction(round: u32) -> u32 {
    let seed = std::process::id().wrapping_mul(2_654_435_761).wrapping_add(round.wrapping_mul(40_503));
    100 + seed % 1_400
}
