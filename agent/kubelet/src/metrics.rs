//! The kubelet's own figures, under upstream's names.

use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::pod;
use crate::probe::Kind;

/// One label for a runtime operation.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Operation {
    operation_type: String,
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Terminated {
    container_type: &'static str,
    exit_code: i32,
}

/// Labels of a probe's count.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Probed {
    probe_type: &'static str,
    result: &'static str,
    container: String,
    pod: String,
    namespace: String,
    pod_uid: String,
}

/// Whose probe it is.
#[derive(Debug, Clone, Copy)]
pub struct ProbeOf<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// The container.
    pub container: &'a str,
    /// Which of its probes.
    pub kind: Kind,
}

impl ProbeOf<'_> {
    fn labels(self, result: &'static str) -> Probed {
        Probed {
            probe_type: self.kind.title(),
            result,
            container: self.container.to_owned(),
            pod: pod::name(self.pod).to_owned(),
            namespace: pod::namespace(self.pod).to_owned(),
            pod_uid: pod::uid(self.pod).to_owned(),
        }
    }
}

/// Why an image was removed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Collected {
    reason: &'static str,
}

/// State of a container.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ContainerState {
    container_state: &'static str,
}

/// All of them. Counting is cheap; encoding happens when somebody asks.
pub struct Metrics {
    registry: Mutex<Registry>,
    running_pods: Gauge,
    running_containers: Family<ContainerState, Gauge>,
    desired_pods: Gauge,
    pod_start: Histogram,
    pod_start_sli: Histogram,
    started_pods: Counter,
    started_containers: Counter,
    status_sync: Histogram,
    relist: Histogram,
    orphaned: Counter,
    image_pull: Histogram,
    images_collected: Family<Collected, Counter>,
    operations: Family<Operation, Counter>,
    operation_errors: Family<Operation, Counter>,
    operation_seconds: Family<Operation, Histogram>,
    probes: Family<Probed, Counter>,
    rejections: Family<Operation, Counter<u64, AtomicU64>>,
    terminated: Family<Terminated, Counter>,
    shutdown_start: Gauge,
    shutdown_end: Gauge,
}

fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.005, 2.5, 12))
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Registers everything.
    pub fn new() -> Self {
        let mut registry = Registry::default();
        let it = Self {
            registry: Mutex::default(),
            running_pods: Gauge::default(),
            running_containers: Family::default(),
            desired_pods: Gauge::default(),
            pod_start: seconds(),
            pod_start_sli: seconds(),
            started_pods: Counter::default(),
            started_containers: Counter::default(),
            status_sync: seconds(),
            relist: seconds(),
            orphaned: Counter::default(),
            image_pull: seconds(),
            images_collected: Family::default(),
            operations: Family::default(),
            operation_errors: Family::default(),
            operation_seconds: Family::new_with_constructor(seconds),
            probes: Family::default(),
            rejections: Family::default(),
            terminated: Family::default(),
            shutdown_start: Gauge::default(),
            shutdown_end: Gauge::default(),
        };
        it.describe(&mut registry);
        Self { registry: Mutex::new(registry), ..it }
    }

    /// Names of everything.
    fn describe(&self, r: &mut Registry) {
        r.register(
            "kubelet_running_pods",
            "Number of pods that have a running pod sandbox",
            self.running_pods.clone(),
        );
        r.register(
            "kubelet_running_containers",
            "Number of containers by state",
            self.running_containers.clone(),
        );
        r.register(
            "kubelet_desired_pods",
            "Number of pods the kubelet is being instructed to run",
            self.desired_pods.clone(),
        );
        r.register(
            "kubelet_pod_start_duration_seconds",
            "From the pod seen to its first running status",
            self.pod_start.clone(),
        );
        r.register(
            "kubelet_pod_start_sli_duration_seconds",
            "From the pod's creation to running, without image pulls",
            self.pod_start_sli.clone(),
        );
        r.register("kubelet_started_pods", "Cumulative number of pods started", self.started_pods.clone());
        r.register(
            "kubelet_started_containers",
            "Cumulative number of containers started",
            self.started_containers.clone(),
        );
        r.register(
            "kubelet_pod_status_sync_duration_seconds",
            "Time to write a pod's status",
            self.status_sync.clone(),
        );
        r.register(
            "kubelet_pleg_relist_duration_seconds",
            "Time of one look at everything the runtime has",
            self.relist.clone(),
        );
        r.register(
            "kubelet_orphaned_runtime_pods",
            "Pods found in the runtime that no source knows",
            self.orphaned.clone(),
        );
        r.register("kubelet_image_pull_duration_seconds", "Time of image pulls", self.image_pull.clone());
        r.register(
            "kubelet_image_garbage_collected",
            "Total number of images garbage collected by the kubelet",
            self.images_collected.clone(),
        );
        r.register("kubelet_runtime_operations", "Runtime calls by type", self.operations.clone());
        r.register(
            "kubelet_runtime_operations_errors",
            "Failed runtime calls by type",
            self.operation_errors.clone(),
        );
        r.register(
            "kubelet_runtime_operations_duration_seconds",
            "Time of runtime calls by type",
            self.operation_seconds.clone(),
        );
        r.register(
            "kubelet_admission_rejections",
            "Pods refused by the node, by reason",
            self.rejections.clone(),
        );
        self.describe_ends(r);
    }

    /// Names of what tells of ends.
    fn describe_ends(&self, r: &mut Registry) {
        r.register(
            "kubelet_terminated_containers",
            "Cumulative number of containers that ended, by type and exit code",
            self.terminated.clone(),
        );
        r.register(
            "kubelet_graceful_shutdown_start_time_seconds",
            "When the last graceful shutdown of the node began",
            self.shutdown_start.clone(),
        );
        r.register(
            "kubelet_graceful_shutdown_end_time_seconds",
            "When the last graceful shutdown of the node ended",
            self.shutdown_end.clone(),
        );
    }

    /// Lets another room add its own figures.
    pub fn register(&self, add: impl FnOnce(&mut Registry)) {
        add(&mut self.registry.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Everything as text in the exposition format.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Writing into a String cannot fail.
        let _ = encode(&mut text, &self.registry.lock().unwrap_or_else(PoisonError::into_inner));
        text
    }

    /// A runtime call ended.
    pub fn operation(&self, name: &str, took: Duration, failed: bool) {
        let labels = Operation { operation_type: name.to_owned() };
        self.operations.get_or_create(&labels).inc();
        self.operation_seconds.get_or_create(&labels).observe(took.as_secs_f64());
        if failed {
            self.operation_errors.get_or_create(&labels).inc();
        }
    }

    /// A probe gave a result.
    pub fn probed(&self, of: ProbeOf<'_>, result: &'static str) {
        self.probes.get_or_create(&of.labels(result)).inc();
    }

    /// A probe will not be asked any more.
    pub fn probe_ended(&self, of: ProbeOf<'_>) {
        for result in ["successful", "failed", "unknown"] {
            self.probes.remove(&of.labels(result));
        }
    }

    /// Probes as text in the exposition format: `/metrics/probes`.
    pub fn encode_probes(&self) -> String {
        let mut registry = Registry::default();
        let help = "Cumulative number of a liveness, readiness or startup probe for a container by result";
        registry.register("prober_probe", help, self.probes.clone());
        let mut text = String::new();
        // Writing into a String cannot fail.
        let _ = encode(&mut text, &registry);
        text
    }

    /// What runs now.
    pub fn running(&self, desired: usize, pods: usize, containers: [(&'static str, usize); 3]) {
        self.desired_pods.set(i64::try_from(desired).unwrap_or(i64::MAX));
        self.running_pods.set(i64::try_from(pods).unwrap_or(i64::MAX));
        for (container_state, count) in containers {
            let gauge = self.running_containers.get_or_create(&ContainerState { container_state });
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// A pod runs for the first time: since it was seen, and since it was created less its pulls.
    pub fn pod_started(&self, since_seen: Duration, sli: Duration) {
        self.pod_start.observe(since_seen.as_secs_f64());
        self.pod_start_sli.observe(sli.as_secs_f64());
    }

    /// A sandbox was asked for.
    pub fn pod_begun(&self) {
        self.started_pods.inc();
    }

    /// A container was started.
    pub fn container_started(&self) {
        self.started_containers.inc();
    }

    /// A status was written.
    pub fn status_written(&self, took: Duration) {
        self.status_sync.observe(took.as_secs_f64());
    }

    /// The runtime was looked through.
    pub fn relisted(&self, took: Duration) {
        self.relist.observe(took.as_secs_f64());
    }

    /// A pod was found that nobody wants.
    pub fn orphan(&self) {
        self.orphaned.inc();
    }

    /// An unused image was removed: by `age` or for `space`.
    pub fn image_collected(&self, reason: &'static str) {
        self.images_collected.get_or_create(&Collected { reason }).inc();
    }

    /// An image was pulled.
    pub fn pulled(&self, took: Duration) {
        self.image_pull.observe(took.as_secs_f64());
    }

    /// A container's process ended.
    pub fn container_ended(&self, container_type: &'static str, exit_code: i32) {
        self.terminated.get_or_create(&Terminated { container_type, exit_code }).inc();
    }

    /// The machine goes down.
    pub fn shutdown_began(&self, at: jiff::Timestamp) {
        self.shutdown_start.set(at.as_second());
        self.shutdown_end.set(0);
    }

    /// All pods have ended before it.
    pub fn shutdown_ended(&self, at: jiff::Timestamp) {
        self.shutdown_end.set(at.as_second());
    }

    /// The node refused a pod.
    pub fn refused(&self, reason: &str) {
        self.rejections.get_or_create(&Operation { operation_type: reason.to_owned() }).inc();
    }
}
