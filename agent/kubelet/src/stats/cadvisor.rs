//! Prometheus text of `/metrics/cadvisor`: the figures that dashboards ask for, under cAdvisor's names. Pure.

use std::fmt::Write as _;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

use super::sample::{PodSample, Sample, Usage};
use crate::cgroup::CgroupStats;
use crate::node::Machine;
use crate::resources::{container_limits, container_requests, quota, shares};
use crate::{pod, status};

/// One metric: its name, its type, what it is, how it is read.
struct Metric {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    read: fn(&CgroupStats) -> Option<u64>,
    /// Billionths make one.
    nanos: bool,
}

const fn gauge(name: &'static str, help: &'static str, read: fn(&CgroupStats) -> Option<u64>) -> Metric {
    Metric { name, kind: "gauge", help, read, nanos: false }
}

const METRICS: &[Metric] = &[
    Metric {
        name: "container_cpu_usage_seconds_total",
        kind: "counter",
        help: "Cumulative cpu time consumed in seconds",
        read: |it| it.cpu_usage_nanos,
        nanos: true,
    },
    gauge("container_memory_usage_bytes", "Current memory usage in bytes, page cache included", |it| {
        it.memory_usage
    }),
    gauge("container_memory_working_set_bytes", "Current working set in bytes", |it| it.memory_working_set),
    gauge("container_memory_rss", "Size of RSS in bytes", |it| it.memory_rss),
    gauge("container_memory_swap", "Container swap usage in bytes", |it| it.swap_usage),
    gauge("container_processes", "Number of processes running inside the container", |it| it.pids),
];

/// Upstream counts a kernel's page faults by kind and by whether children count.
const FAULTS: &str = "container_memory_failures_total";

/// Whose figures a line is about.
struct Subject<'a> {
    labels: String,
    usage: &'a Usage,
    of: Option<(&'a Pod, &'a str)>,
    started: Option<i64>,
    written: Option<u64>,
}

/// The whole body; `cgroup` names a pod's cgroup by its uid.
pub(super) fn render(
    sample: &Sample,
    machine: &Machine,
    cgroup: impl Fn(&Pod) -> String,
    kubepods: &str,
) -> String {
    let mut out = String::new();
    let mut subjects = vec![
        plain("/", &sample.node),
        plain(&format!("/{}", kubepods.trim_start_matches('/')), &sample.kubepods),
    ];
    for of in &sample.pods {
        add(&mut subjects, of, &cgroup(&of.pod));
    }
    let at = sample.at.as_millisecond();
    for metric in METRICS {
        let mut lines = String::new();
        for subject in &subjects {
            let Some(value) = (metric.read)(&subject.usage.stats) else { continue };
            let (cpu, value) =
                if metric.nanos { ("cpu=\"total\",", seconds(value)) } else { ("", value.to_string()) };
            // Writing to a String cannot fail.
            let _ = writeln!(lines, "{}{{{cpu}{}}} {value} {at}", metric.name, subject.labels);
        }
        family(&mut out, metric.name, metric.kind, metric.help, &lines);
    }
    faults(&mut out, &subjects, at);
    containers(&mut out, &subjects, at);
    node(&mut out, machine);
    out
}

fn plain<'a>(id: &str, usage: &'a Usage) -> Subject<'a> {
    Subject { labels: labels("", id, "", "", "", ""), usage, of: None, started: None, written: None }
}

fn add<'a>(subjects: &mut Vec<Subject<'a>>, of: &'a PodSample, cgroup: &str) {
    let (namespace, name) = (pod::namespace(&of.pod), pod::name(&of.pod));
    let whole = labels("", cgroup, "", "", namespace, name);
    subjects.push(Subject { labels: whole, usage: &of.usage, of: None, started: None, written: None });
    for container in &of.containers {
        let known = of.pod.status.as_ref().and_then(|it| status::of_container(it, &container.name));
        let id = known.and_then(id_of).unwrap_or_default();
        let image = known.map(|it| it.image.clone()).unwrap_or_default();
        let path = format!("{cgroup}/{id}");
        subjects.push(Subject {
            labels: labels(&container.name, &path, &image, &id, namespace, name),
            usage: &container.usage,
            of: Some((&of.pod, &container.name)),
            started: container.started.map(|it| it.as_second()),
            written: container.written.map(|it| it.0),
        });
    }
}

fn id_of(status: &ContainerStatus) -> Option<String> {
    status.container_id.as_deref()?.split_once("://").map(|(_, id)| id.to_owned())
}

fn labels(container: &str, id: &str, image: &str, name: &str, namespace: &str, pod: &str) -> String {
    let mut text = String::new();
    let all = [
        ("container", container),
        ("id", id),
        ("image", image),
        ("name", name),
        ("namespace", namespace),
        ("pod", pod),
    ];
    for (key, value) in all {
        let comma = if text.is_empty() { "" } else { "," };
        let value = value.replace('\\', "\\\\").replace('"', "\\\"");
        let _ = write!(text, "{comma}{key}=\"{value}\"");
    }
    text
}

fn faults(out: &mut String, subjects: &[Subject<'_>], at: i64) {
    let mut lines = String::new();
    for subject in subjects {
        let stats = &subject.usage.stats;
        for (kind, value) in [("pgfault", stats.page_faults), ("pgmajfault", stats.major_page_faults)] {
            let Some(value) = value else { continue };
            let labels = &subject.labels;
            let _ = writeln!(
                lines,
                "{FAULTS}{{failure_type=\"{kind}\",scope=\"container\",{labels}}} {value} {at}"
            );
        }
    }
    family(out, FAULTS, "counter", "Cumulative count of memory allocation failures", &lines);
}

/// What is only known of containers: what they asked for, when they began, what they wrote.
fn containers(out: &mut String, subjects: &[Subject<'_>], at: i64) {
    type Read = fn(&Subject<'_>, i64) -> Option<i64>;
    fn spec<T>(it: &Subject<'_>, read: fn(&k8s_openapi::api::core::v1::Container) -> T) -> Option<T> {
        let (pod, name) = it.of?;
        pod::container(pod, name).map(read)
    }
    const PERIOD: i64 = 100_000;
    let all: [(&str, &str, Read); 7] = [
        (
            "container_start_time_seconds",
            "Start time of the container since unix epoch in seconds",
            |it, _| it.started,
        ),
        ("container_last_seen", "Last time a container was seen by the exporter", |it, at| {
            it.of.map(|_| at / 1000)
        }),
        (
            "container_fs_usage_bytes",
            "Number of bytes that are consumed by the container on this filesystem",
            |it, _| it.written.and_then(|it| i64::try_from(it).ok()),
        ),
        ("container_spec_memory_limit_bytes", "Memory limit for the container", |it, _| {
            spec(it, |it| container_limits(it).memory())
        }),
        ("container_spec_cpu_shares", "CPU share of the container", |it, _| {
            spec(it, |it| shares(container_requests(it).cpu_milli()))
        }),
        ("container_spec_cpu_period", "CPU period of the container", |it, _| spec(it, |_| PERIOD)),
        ("container_spec_cpu_quota", "CPU quota of the container", |it, _| {
            spec(it, |it| quota(container_limits(it).cpu_milli(), PERIOD)).filter(|it| *it > 0)
        }),
    ];
    for (name, help, read) in all {
        let mut lines = String::new();
        for subject in subjects {
            if let Some(value) = read(subject, at) {
                let _ = writeln!(lines, "{name}{{{}}} {value} {at}", subject.labels);
            }
        }
        family(out, name, "gauge", help, &lines);
    }
}

fn node(out: &mut String, machine: &Machine) {
    let all = [
        ("machine_cpu_cores", "Number of logical CPU cores", machine.cpu_milli / 1000),
        ("machine_memory_bytes", "Amount of memory installed on the machine", machine.memory),
    ];
    for (name, help, value) in all {
        family(out, name, "gauge", help, &format!("{name} {value}\n"));
    }
    let name = "container_scrape_error";
    family(
        out,
        name,
        "gauge",
        "1 if there was an error while getting container metrics, 0 otherwise",
        &format!("{name} 0\n"),
    );
}

fn seconds(nanos: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "a metric is a float")]
    let value = nanos as f64 / 1e9;
    value.to_string()
}

fn family(out: &mut String, name: &str, kind: &str, help: &str, lines: &str) {
    if !lines.is_empty() {
        let _ = write!(out, "# HELP {name} {help}.\n# TYPE {name} {kind}\n{lines}");
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample::ContainerSample;
    use super::*;
    use std::sync::Arc;

    #[test]
    fn the_names_and_labels_that_dashboards_ask_for() {
        let usage = |cpu: u64, memory: u64| Usage {
            stats: CgroupStats {
                cpu_usage_nanos: Some(cpu),
                memory_working_set: Some(memory),
                page_faults: Some(3),
                ..CgroupStats::default()
            },
            nano_cores: None,
        };
        let pod = serde_json::from_str(
            r#"{"metadata":{"name":"p","namespace":"n","uid":"u"},
                "spec":{"containers":[{"name":"c","resources":{"limits":{"cpu":"500m","memory":"1Mi"}}}]},
                "status":{"containerStatuses":[{"name":"c","containerID":"x://id1","image":"demo:1","imageID":"","ready":true,"restartCount":0}]}}"#,
        )
        .unwrap();
        let at = "2026-01-01T00:00:00Z".parse().unwrap();
        let container = ContainerSample {
            name: "c".into(),
            started: Some(at),
            usage: usage(1_500_000_000, 10),
            written: Some((7, 1)),
        };
        let sample = Sample {
            at,
            booted: None,
            node: usage(5_000_000_000, 100),
            available: None,
            kubepods: usage(4_000_000_000, 90),
            pods: vec![PodSample {
                pod: Arc::new(pod),
                usage: usage(2_000_000_000, 20),
                containers: vec![container],
            }],
        };
        let machine = Machine { cpu_milli: 2000, memory: 1 << 30, ..Machine::read().unwrap() };
        let text = render(&sample, &machine, |_| "/kubepods/podu".into(), "kubepods");
        let of = r#"container="c",id="/kubepods/podu/id1",image="demo:1",name="id1",namespace="n",pod="p""#;
        for line in [
            format!("container_cpu_usage_seconds_total{{cpu=\"total\",{of}}} 1.5 1767225600000"),
            format!("container_memory_working_set_bytes{{{of}}} 10 1767225600000"),
            format!(
                "container_memory_failures_total{{failure_type=\"pgfault\",scope=\"container\",{of}}} 3 1767225600000"
            ),
            format!("container_spec_memory_limit_bytes{{{of}}} 1048576 1767225600000"),
            format!("container_spec_cpu_quota{{{of}}} 50000 1767225600000"),
            format!("container_start_time_seconds{{{of}}} 1767225600 1767225600000"),
            format!("container_fs_usage_bytes{{{of}}} 7 1767225600000"),
            "machine_cpu_cores 2".to_owned(),
        ] {
            assert!(text.lines().any(|it| it == line), "{line}\n{text}");
        }
        let root = r#"container_memory_working_set_bytes{container="",id="/",image="",name="",namespace="",pod=""} 100"#;
        assert!(text.contains(root), "{text}");
        assert!(text.contains("# TYPE container_cpu_usage_seconds_total counter\n"));
    }
}
