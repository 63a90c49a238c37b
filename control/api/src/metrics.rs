//! What is counted, under upstream's names.

use std::sync::atomic::AtomicI64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Labels of a finished request.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RequestLabels {
    /// Verb in upper case, `WATCH` and `CONNECT` among them.
    pub verb: String,
    /// API group.
    pub group: String,
    /// Version.
    pub version: String,
    /// Resource.
    pub resource: String,
    /// Subresource.
    pub subresource: String,
    /// HTTP code.
    pub code: u16,
}

/// Labels of a duration.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct DurationLabels {
    /// Verb in upper case.
    pub verb: String,
    /// API group.
    pub group: String,
    /// Resource.
    pub resource: String,
}

/// The counters.
pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    durations: Family<DurationLabels, Histogram>,
    /// Watches and other long requests under way.
    pub long_running: Gauge<i64, AtomicI64>,
    /// Requests under way that are not long.
    pub inflight: Gauge<i64, AtomicI64>,
}

const BUCKETS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

fn histogram() -> Histogram {
    Histogram::new(BUCKETS)
}

impl Default for Metrics {
    fn default() -> Self {
        let requests = Family::<RequestLabels, Counter>::default();
        let durations =
            Family::<DurationLabels, Histogram>::new_with_constructor(histogram as fn() -> Histogram);
        let long_running = Gauge::default();
        let inflight = Gauge::default();
        let mut registry = Registry::default();
        // The encoder appends `_total` to counters.
        registry.register("apiserver_request", "Requests answered", requests.clone());
        registry.register(
            "apiserver_request_duration_seconds",
            "Seconds until a request was answered",
            durations.clone(),
        );
        registry.register(
            "apiserver_longrunning_requests",
            "Watches and other long requests under way",
            long_running.clone(),
        );
        registry.register("apiserver_current_inflight_requests", "Requests under way", inflight.clone());
        Self { registry, requests, durations, long_running, inflight }
    }
}

impl Metrics {
    /// A request was answered.
    pub fn answered(&self, labels: RequestLabels, seconds: Option<f64>) {
        if let Some(seconds) = seconds {
            let of = DurationLabels {
                verb: labels.verb.clone(),
                group: labels.group.clone(),
                resource: labels.resource.clone(),
            };
            self.durations.get_or_create(&of).observe(seconds);
        }
        self.requests.get_or_create(&labels).inc();
    }

    /// The text that `/metrics` serves.
    pub fn text(&self) -> String {
        let mut out = String::new();
        if let Err(err) = prometheus_client::encoding::text::encode(&mut out, &self.registry) {
            tracing::warn!(error = %err, "metrics could not be written");
        }
        out
    }
}
