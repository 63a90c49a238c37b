//! Pod start and deletion, beside the container runtime's own time for the same work.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use coracle_cri::proto as v1;
use coracle_cri::{Containers, Remote, Sandboxes};
use coracle_tests::Cluster;
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, PostParams, WatchEvent, WatchParams};
use serde_json::json;

use crate::figures::{Samples, ms, row};

/// How many pods are started one after the other.
const ROUNDS: usize = 20;

/// Deadline of any single wait.
const DEADLINE: Duration = Duration::from_secs(120);

fn pod(name: &str, token: bool) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": name, "labels": {"bench": "pod"}},
        "spec": {
            "automountServiceAccountToken": token,
            "containers": [{"name": "web", "image": Cluster::demo_image()}],
        },
    }))
    .expect("the manifest is a Pod")
}

/// One pod at a time: create → Running with an address, delete → gone; the runtime alone in between.
pub async fn one_by_one(cluster: &Cluster, client: &kube::Client) -> Result<()> {
    let pods = Api::<Pod>::namespaced(client.clone(), "default");
    let runtime = Remote::connect(&format!("unix://{}/run/containerd.sock", cluster.data_dir().display()))?;
    let (mut starts, mut ends, mut raw) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        raw.push(runtime_alone(&runtime, round).await?);
        let name = format!("bench-{round}");
        let begin = Instant::now();
        let created = pods.create(&PostParams::default(), &pod(&name, true)).await?;
        wait_for(&pods, &name, &created, is_running).await?;
        starts.push(begin.elapsed());
        tokio::time::sleep(Duration::from_millis(200)).await;
        let begin = Instant::now();
        let current = pods.get(&name).await?;
        pods.delete(&name, &DeleteParams::default()).await?;
        wait_for(&pods, &name, &current, |event| matches!(event, WatchEvent::Deleted(_))).await?;
        ends.push(begin.elapsed());
    }
    let (starts, ends, raw) = (Samples::new(starts), Samples::new(ends), Samples::new(raw));
    row("runtime alone: sandbox + create + start", &raw.text());
    row("pod create → Running with address", &starts.text());
    row("… as a ratio to the runtime alone", &format!("{:.2}", ms(starts.median()) / ms(raw.median())));
    row("pod delete → gone", &ends.text());
    Ok(())
}

fn is_running(event: &WatchEvent<Pod>) -> bool {
    let WatchEvent::Modified(pod) = event else { return false };
    pod.status.as_ref().is_some_and(|it| it.phase.as_deref() == Some("Running") && it.pod_ip.is_some())
}

/// Watches one pod from a known version until an event satisfies.
async fn wait_for(
    pods: &Api<Pod>,
    name: &str,
    from: &Pod,
    done: impl Fn(&WatchEvent<Pod>) -> bool,
) -> Result<()> {
    let version = from.metadata.resource_version.clone().unwrap_or_default();
    let params = WatchParams::default().fields(&format!("metadata.name={name}"));
    let mut events = pods.watch(&params, &version).await?.boxed();
    let wait = async {
        while let Some(event) = events.try_next().await? {
            if done(&event) {
                return Ok(());
            }
        }
        anyhow::bail!("the watch of pod {name} ended")
    };
    tokio::time::timeout(DEADLINE, wait).await.with_context(|| format!("pod {name}"))?
}

/// What containerd needs for the same pod when nobody else is asked.
async fn runtime_alone(runtime: &Remote, round: usize) -> Result<Duration> {
    let begin = Instant::now();
    let (sandbox, container) = run_alone(runtime, &format!("raw-{round}")).await?;
    let took = begin.elapsed();
    end_alone(runtime, &sandbox, &container).await?;
    Ok(took)
}

/// Many of them at once, and their end.
async fn runtime_alone_at_once(runtime: &Remote, count: usize) -> Result<(Duration, Duration)> {
    let begin = Instant::now();
    let starts = (0..count).map(|it| async move { run_alone(runtime, &format!("raw-many-{it}")).await });
    let made = futures::future::try_join_all(starts).await?;
    let started = begin.elapsed();
    let begin = Instant::now();
    let ends = made.iter().map(|(sandbox, container)| end_alone(runtime, sandbox, container));
    futures::future::try_join_all(ends).await?;
    Ok((started, begin.elapsed()))
}

async fn run_alone(runtime: &Remote, name: &str) -> Result<(String, String)> {
    let config = v1::PodSandboxConfig {
        metadata: Some(v1::PodSandboxMetadata {
            name: name.to_owned(),
            uid: name.to_owned(),
            namespace: "default".into(),
            attempt: 0,
        }),
        hostname: name.to_owned(),
        log_directory: "/tmp".into(),
        linux: Some(v1::LinuxPodSandboxConfig::default()),
        ..Default::default()
    };
    let container = v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata { name: "web".into(), attempt: 0 }),
        image: Some(v1::ImageSpec { image: Cluster::demo_image(), ..Default::default() }),
        linux: Some(v1::LinuxContainerConfig::default()),
        ..Default::default()
    };
    let sandbox = runtime.run_pod_sandbox(config.clone(), "").await?;
    let id = runtime.create_container(&sandbox, container, config).await?;
    runtime.start_container(&id).await?;
    Ok((sandbox, id))
}

async fn end_alone(runtime: &Remote, sandbox: &str, container: &str) -> Result<()> {
    runtime.stop_container(container, Duration::from_secs(1)).await?;
    runtime.stop_pod_sandbox(sandbox).await?;
    runtime.remove_pod_sandbox(sandbox).await?;
    Ok(())
}

/// Many pods at once.
pub struct Many {
    pods: Api<Pod>,
    names: Vec<String>,
}

impl Many {
    /// Creates them all, waits until the last is Running; before that, as many by the runtime alone.
    pub async fn start(cluster: &Cluster, client: &kube::Client, count: usize) -> Result<Self> {
        let runtime =
            Remote::connect(&format!("unix://{}/run/containerd.sock", cluster.data_dir().display()))?;
        let (alone, ended) = runtime_alone_at_once(&runtime, count).await?;
        let seconds = |it: Duration| format!("{:.2} s", it.as_secs_f64());
        row(&format!("runtime alone: {count} at once"), &seconds(alone));
        row(&format!("runtime alone: {count} stopped and removed"), &seconds(ended));
        let pods = Api::<Pod>::namespaced(client.clone(), "default");
        let names: Vec<String> = (0..count).map(|it| format!("many-{it}")).collect();
        let begin = Instant::now();
        for name in &names {
            pods.create(&PostParams::default(), &pod(name, true)).await?;
        }
        let params = WatchParams::default().labels("bench=pod");
        let mut events = pods.watch(&params, "0").await?.boxed();
        let mut running = BTreeSet::new();
        let wait = async {
            while running.len() < count {
                match events.try_next().await?.context("the watch ended")? {
                    WatchEvent::Added(pod) | WatchEvent::Modified(pod) => {
                        let status = pod.status.unwrap_or_default();
                        if status.phase.as_deref() == Some("Running") && status.pod_ip.is_some() {
                            running.insert(pod.metadata.name);
                        }
                    }
                    _ => {}
                }
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(DEADLINE, wait).await.context("all pods Running")??;
        let took = begin.elapsed();
        row(&format!("{count} pods at once → all Running"), &seconds(took));
        row("… as a ratio to the runtime alone", &format!("{:.2}", ms(took) / ms(alone)));
        Ok(Self { pods, names })
    }

    /// Deletes them all, waits until the last is gone.
    pub async fn delete(self) -> Result<()> {
        let begin = Instant::now();
        let deletions = self.names.iter().map(|name| {
            let pods = self.pods.clone();
            async move { pods.delete(name, &DeleteParams::default()).await }
        });
        futures::future::try_join_all(deletions).await?;
        let gone = async {
            loop {
                let left = self.pods.list(&kube::api::ListParams::default().labels("bench=pod")).await?;
                if left.items.is_empty() {
                    return anyhow::Ok(());
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(DEADLINE, gone).await.context("all pods gone")??;
        row(
            &format!("{} pods deleted → all gone", self.names.len()),
            &format!("{:.2} s", begin.elapsed().as_secs_f64()),
        );
        Ok(())
    }
}
