//! Rates of the API server: create, get, list, watch.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use serde_json::json;

use crate::figures::{Samples, ms, row};

/// Objects created by one client, one after the other.
const CREATES: usize = 2_000;
/// Objects listed at once.
const LISTED: usize = 5_000;
/// Watchers of the fan-out.
const WATCHERS: usize = 100;
/// Changes sent to them.
const CHANGES: usize = 300;

/// Measures and prints everything about the API.
pub async fn report(client: &kube::Client) -> Result<()> {
    let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": "bench"}}))?;
    let namespaces = Api::<Namespace>::all(client.clone());
    namespaces.create(&PostParams::default(), &namespace).await?;
    let maps = Api::<ConfigMap>::namespaced(client.clone(), "bench");
    creates(&maps).await?;
    fan_out(&maps).await?;
    lists(&maps).await?;
    namespaces.delete("bench", &DeleteParams::default()).await?;
    Ok(())
}

fn map(name: &str, size: usize) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name}, "data": {"value": "x".repeat(size)}}))
        .expect("the manifest is a ConfigMap")
}

async fn creates(maps: &Api<ConfigMap>) -> Result<()> {
    let mut times = Vec::with_capacity(CREATES);
    let begin = Instant::now();
    for n in 0..CREATES {
        let one = Instant::now();
        maps.create(&PostParams::default(), &map(&format!("one-{n}"), 20)).await?;
        times.push(one.elapsed());
    }
    let rate = CREATES as f64 / begin.elapsed().as_secs_f64();
    let times = Samples::new(times);
    row(
        "create a small ConfigMap, 1 client",
        &format!("{rate:.0} /s, {:.2} ms median, {:.2} ms p99", ms(times.median()), ms(times.at(0.99))),
    );
    for clients in [16, 64] {
        let begin = Instant::now();
        let writers = (0..clients).map(|client| {
            let maps = maps.clone();
            async move {
                for n in 0..CREATES / clients {
                    maps.create(&PostParams::default(), &map(&format!("c{clients}-{client}-{n}"), 20))
                        .await?;
                }
                anyhow::Ok(())
            }
        });
        futures::future::try_join_all(writers).await?;
        row(
            &format!("create, {clients} clients"),
            &format!("{:.0} /s", CREATES as f64 / begin.elapsed().as_secs_f64()),
        );
    }
    let begin = Instant::now();
    for n in 0..CREATES {
        maps.get(&format!("one-{n}")).await?;
    }
    row("get, 1 client", &format!("{:.0} /s", CREATES as f64 / begin.elapsed().as_secs_f64()));
    Ok(())
}

async fn lists(maps: &Api<ConfigMap>) -> Result<()> {
    maps.delete_collection(&DeleteParams::default(), &ListParams::default()).await?;
    let names: Vec<String> = (0..LISTED).map(|it| format!("big-{it}")).collect();
    futures::stream::iter(
        names.iter().map(|name| async move {
            maps.create(&PostParams::default(), &map(name, 1_200)).await.map(|_| ())
        }),
    )
    .buffer_unordered(32)
    .try_collect::<Vec<_>>()
    .await?;
    let mut times = Vec::new();
    for _ in 0..10 {
        let begin = Instant::now();
        // As raw text: what the server does, not what this client makes of it.
        let request = http::Request::get("/api/v1/namespaces/bench/configmaps").body(Vec::new())?;
        let text = maps.clone().into_client().request_text(request).await?;
        anyhow::ensure!(text.len() > LISTED * 1_200, "the list is too short");
        times.push(begin.elapsed());
    }
    row(&format!("list {LISTED} × 1.4 KB as JSON"), &Samples::new(times).text());
    let begin = Instant::now();
    maps.delete_collection(&DeleteParams::default(), &ListParams::default()).await?;
    row(&format!("deletecollection of {LISTED}"), &format!("{:.2} s", begin.elapsed().as_secs_f64()));
    Ok(())
}

/// One writer, many watchers: from the write's answer to each watcher's event.
async fn fan_out(maps: &Api<ConfigMap>) -> Result<()> {
    let first = maps.create(&PostParams::default(), &map("watched", 20)).await?;
    let version = first.metadata.resource_version.clone().context("an object has a version")?;
    let start = Instant::now();
    let mut watchers = tokio::task::JoinSet::new();
    for _ in 0..WATCHERS {
        let maps = maps.clone();
        let version = version.clone();
        watchers.spawn(async move {
            let params = WatchParams::default().fields("metadata.name=watched");
            let mut events = maps.watch(&params, &version).await?.boxed();
            let mut seen = Vec::with_capacity(CHANGES);
            while seen.len() < CHANGES {
                if let WatchEvent::Modified(_) = events.try_next().await?.context("the watch ended")? {
                    seen.push(start.elapsed());
                }
            }
            anyhow::Ok(seen)
        });
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut written = Vec::with_capacity(CHANGES);
    let begin = Instant::now();
    for n in 0..CHANGES {
        written.push(start.elapsed());
        let patch = json!({"data": {"n": n.to_string()}});
        maps.patch("watched", &PatchParams::default(), &Patch::Merge(patch)).await?;
    }
    let rate = CHANGES as f64 / begin.elapsed().as_secs_f64();
    let mut delays = Vec::new();
    while let Some(seen) = watchers.join_next().await {
        delays.extend(seen??.iter().zip(&written).map(|(seen, written)| seen.saturating_sub(*written)));
    }
    let delays = Samples::new(delays);
    row(
        &format!("{WATCHERS} watchers, 1 writer"),
        &format!(
            "{rate:.0} updates/s, event after {:.1} ms median, {:.1} ms p99",
            ms(delays.median()),
            ms(delays.at(0.99))
        ),
    );
    Ok(())
}
