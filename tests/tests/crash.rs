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

/// A moment between 0.1 and 1.5 s that differs from run to run.
fn fraction(round: u32) -> u32 {
    let seed = std::process::id().wrapping_mul(2_654_435_761).wrapping_add(round.wrapping_mul(40_503));
    100 + seed % 1_400
}
