//! The JSON of `/stats/summary`: pure.

use coracle_apimachinery::time::rfc3339;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::sample::{ContainerSample, FileSystems, PodSample, Sample, Usage};
use crate::node::FileSystem;

/// The whole answer; without file systems when only cpu and memory are asked for.
pub(super) fn render(node: &str, sample: &Sample, full: Option<&FileSystems>) -> Value {
    let at = rfc3339(sample.at);
    let mut of_node = usage(&sample.node, &at);
    of_node.insert("nodeName".into(), node.into());
    set_time(&mut of_node, "startTime", sample.booted);
    if let (Some(available), Some(memory)) = (sample.available, of_node.get_mut("memory")) {
        memory["availableBytes"] = available.into();
    }
    let mut pods = usage(&sample.kubepods, &at);
    pods.insert("name".into(), "pods".into());
    of_node.insert("systemContainers".into(), json!([pods]));
    if let Some(full) = full {
        if let Some(it) = &full.node {
            of_node.insert("fs".into(), file_system(it, None, &at));
        }
        if let Some(it) = &full.images {
            of_node.insert("runtime".into(), json!({"imageFs": file_system(it, full.images_used, &at)}));
        }
    }
    let pods: Vec<Value> = sample.pods.iter().map(|it| pod(it, full.is_some(), &at)).collect();
    json!({"node": of_node, "pods": pods})
}

fn pod(sample: &PodSample, full: bool, at: &str) -> Value {
    let meta = &sample.pod.metadata;
    let mut out = usage(&sample.usage, at);
    out.insert("podRef".into(), json!({"name": meta.name, "namespace": meta.namespace, "uid": meta.uid}));
    let start = sample.pod.status.as_ref().and_then(|it| it.start_time.as_ref()).map(|it| it.0);
    set_time(&mut out, "startTime", start);
    out.insert("containers".into(), sample.containers.iter().map(|it| container(it, full, at)).collect());
    if full {
        let written = sample.containers.iter().filter_map(|it| it.written);
        let (bytes, inodes) = written.fold((0, 0), |sum, it| (sum.0 + it.0, sum.1 + it.1));
        out.insert("ephemeral-storage".into(), json!({"time": at, "usedBytes": bytes, "inodesUsed": inodes}));
        if let Some(count) = sample.usage.stats.pids {
            out.insert("process_stats".into(), json!({"process_count": count}));
        }
    }
    Value::Object(out)
}

fn container(sample: &ContainerSample, full: bool, at: &str) -> Value {
    let mut out = usage(&sample.usage, at);
    out.insert("name".into(), sample.name.clone().into());
    set_time(&mut out, "startTime", sample.started);
    if let (true, Some((bytes, inodes))) = (full, sample.written) {
        out.insert("rootfs".into(), json!({"time": at, "usedBytes": bytes, "inodesUsed": inodes}));
    }
    Value::Object(out)
}

fn usage(usage: &Usage, at: &str) -> Map<String, Value> {
    let stats = &usage.stats;
    let group = |fields: &[(&str, Option<u64>)]| {
        let mut group = Map::new();
        for (name, value) in fields {
            if let Some(value) = value {
                group.insert((*name).to_owned(), (*value).into());
            }
        }
        if !group.is_empty() {
            group.insert("time".to_owned(), at.into());
        }
        Value::Object(group)
    };
    let groups = [
        (
            "cpu",
            group(&[("usageNanoCores", usage.nano_cores), ("usageCoreNanoSeconds", stats.cpu_usage_nanos)]),
        ),
        (
            "memory",
            group(&[
                (
                    "availableBytes",
                    stats.memory_limit.zip(stats.memory_working_set).map(|(l, w)| l.saturating_sub(w)),
                ),
                ("usageBytes", stats.memory_usage),
                ("workingSetBytes", stats.memory_working_set),
                ("rssBytes", stats.memory_rss),
                ("pageFaults", stats.page_faults),
                ("majorPageFaults", stats.major_page_faults),
            ]),
        ),
        ("swap", group(&[("swapUsageBytes", stats.swap_usage)])),
    ];
    let filled = groups.into_iter().filter(|(_, it)| it.as_object().is_some_and(|it| !it.is_empty()));
    filled.map(|(name, group)| (name.to_owned(), group)).collect()
}

fn file_system(fs: &FileSystem, used: Option<(u64, u64)>, at: &str) -> Value {
    let mut out = json!({
        "time": at,
        "availableBytes": fs.available,
        "capacityBytes": fs.capacity,
        "usedBytes": fs.capacity - fs.available,
        "inodes": fs.inodes,
        "inodesFree": fs.inodes_free,
        "inodesUsed": fs.inodes - fs.inodes_free,
    });
    if let Some((bytes, inodes)) = used {
        out["usedBytes"] = bytes.into();
        out["inodesUsed"] = inodes.into();
    }
    out
}

fn set_time(out: &mut Map<String, Value>, name: &str, at: Option<Timestamp>) {
    if let Some(at) = at {
        out.insert(name.to_owned(), rfc3339(at).into());
    }
}
