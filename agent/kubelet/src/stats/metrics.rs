//! Prometheus text of `/metrics/resource`: pure.

use std::fmt::Write as _;

use super::sample::{Sample, Usage};

/// One metric: its name, its type, what it is, and how it is read.
struct Metric {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    read: fn(&Usage) -> Option<f64>,
}

#[expect(clippy::cast_precision_loss, reason = "a metric is a float")]
fn cpu(usage: &Usage) -> Option<f64> {
    usage.stats.cpu_usage_nanos.map(|it| it as f64 / 1e9)
}

#[expect(clippy::cast_precision_loss, reason = "a metric is a float")]
fn memory(usage: &Usage) -> Option<f64> {
    usage.stats.memory_working_set.map(|it| it as f64)
}

#[expect(clippy::cast_precision_loss, reason = "a metric is a float")]
fn swap(usage: &Usage) -> Option<f64> {
    usage.stats.swap_usage.map(|it| it as f64)
}

const METRICS: &[Metric] = &[
    Metric {
        name: "cpu_usage_seconds_total",
        kind: "counter",
        help: "Processor time used, in core-seconds",
        read: cpu,
    },
    Metric { name: "memory_working_set_bytes", kind: "gauge", help: "Working set, in bytes", read: memory },
    Metric { name: "swap_usage_bytes", kind: "gauge", help: "Swap used, in bytes", read: swap },
];

/// The whole body.
pub(super) fn render(sample: &Sample) -> String {
    let mut out = String::new();
    let at = sample.at.as_millisecond();
    for metric in METRICS {
        let mut lines = Vec::new();
        for pod in &sample.pods {
            for container in &pod.containers {
                if let Some(value) = (metric.read)(&container.usage) {
                    lines.push(format!("{{container=\"{}\",{}}} {value} {at}", container.name, labels(pod)));
                }
            }
        }
        family(&mut out, "container", metric, &lines);
        let of_pod = |it: &super::sample::PodSample| {
            Some(format!("{{{}}} {} {at}", labels(it), (metric.read)(&it.usage)?))
        };
        family(&mut out, "pod", metric, &sample.pods.iter().filter_map(of_pod).collect::<Vec<_>>());
        let of_node: Vec<String> =
            (metric.read)(&sample.node).map(|it| format!(" {it} {at}")).into_iter().collect();
        family(&mut out, "node", metric, &of_node);
    }
    let mut starts = Vec::new();
    for pod in &sample.pods {
        for container in &pod.containers {
            if let Some(started) = container.started {
                let labels = labels(pod);
                starts.push(format!("{{container=\"{}\",{labels}}} {}", container.name, started.as_second()));
            }
        }
    }
    let start =
        Metric { name: "start_time_seconds", kind: "gauge", help: "Start, in seconds since 1970", read: cpu };
    family(&mut out, "container", &start, &starts);
    for name in ["resource_scrape_error", "scrape_error"] {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "# HELP {name} 1 if figures could not be had\n# TYPE {name} gauge\n{name} 0");
    }
    out
}

fn family(out: &mut String, of: &str, metric: &Metric, lines: &[String]) {
    if lines.is_empty() {
        return;
    }
    let name = format!("{of}_{}", metric.name);
    let _ = writeln!(out, "# HELP {name} {} of the {of}\n# TYPE {name} {}", metric.help, metric.kind);
    for line in lines {
        let _ = writeln!(out, "{name}{line}");
    }
}

fn labels(pod: &super::sample::PodSample) -> String {
    let text = |it: &Option<String>| it.clone().unwrap_or_default();
    let meta = &pod.pod.metadata;
    format!("namespace=\"{}\",pod=\"{}\"", text(&meta.namespace), text(&meta.name))
}

#[cfg(test)]
mod tests {
    use super::super::sample::{ContainerSample, PodSample};
    use super::super::summary;
    use super::*;
    use crate::cgroup::CgroupStats;
    use std::sync::Arc;

    fn sample() -> Sample {
        let usage = |cpu: u64, memory: u64| Usage {
            stats: CgroupStats {
                cpu_usage_nanos: Some(cpu),
                memory_working_set: Some(memory),
                ..CgroupStats::default()
            },
            nano_cores: None,
        };
        let pod = serde_json::from_str(r#"{"metadata":{"name":"p","namespace":"n","uid":"u"}}"#).unwrap();
        let at = "2026-01-01T00:00:00Z".parse().unwrap();
        Sample {
            at,
            booted: None,
            node: usage(5_000_000_000, 100),
            available: Some(900),
            kubepods: usage(3, 3),
            pods: vec![PodSample {
                pod: Arc::new(pod),
                usage: usage(2_500_000_000, 20),
                containers: vec![ContainerSample {
                    name: "c".into(),
                    started: Some(at),
                    usage: usage(1_500_000_000, 10),
                    written: Some((7, 1)),
                }],
            }],
        }
    }

    #[test]
    fn the_text_is_what_metrics_servers_read() {
        let text = render(&sample());
        let lines: Vec<&str> = text.lines().filter(|it| !it.starts_with('#')).collect();
        let want = [
            r#"container_cpu_usage_seconds_total{container="c",namespace="n",pod="p"} 1.5 1767225600000"#,
            r#"pod_cpu_usage_seconds_total{namespace="n",pod="p"} 2.5 1767225600000"#,
            "node_cpu_usage_seconds_total 5 1767225600000",
            r#"container_memory_working_set_bytes{container="c",namespace="n",pod="p"} 10 1767225600000"#,
            r#"pod_memory_working_set_bytes{namespace="n",pod="p"} 20 1767225600000"#,
            "node_memory_working_set_bytes 100 1767225600000",
            r#"container_start_time_seconds{container="c",namespace="n",pod="p"} 1767225600"#,
            "resource_scrape_error 0",
            "scrape_error 0",
        ];
        assert_eq!(lines, want);
        assert!(text.contains("# TYPE container_cpu_usage_seconds_total counter\n"));
    }

    #[test]
    fn the_summary_has_upstreams_shape() {
        let got = summary::render("node-1", &sample(), None);
        assert_eq!(got["node"]["nodeName"], "node-1");
        assert_eq!(got["node"]["memory"]["availableBytes"], 900);
        let pod = &got["pods"][0];
        assert_eq!(pod["podRef"]["uid"], "u");
        assert_eq!(pod["containers"][0]["cpu"]["usageCoreNanoSeconds"], 1_500_000_000_u64);
        assert!(pod["containers"][0].get("rootfs").is_none());
        let full = summary::render("node-1", &sample(), Some(&super::super::sample::FileSystems::default()));
        assert_eq!(full["pods"][0]["containers"][0]["rootfs"]["usedBytes"], 7);
    }
}
