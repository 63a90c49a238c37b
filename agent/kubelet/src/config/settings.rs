//! The resolved configuration: what the rooms of the kubelet are handed, checked, with every default in place.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::api::core::v1::Taint;

use super::{CredentialProvider, Paths};

/// Everything that the kubelet was told, by room.
#[derive(Debug, Clone)]
pub struct KubeletConfig {
    /// Folders.
    pub paths: Paths,
    /// The Node object and its heartbeat.
    pub node: NodeSettings,
    /// The way to the API server.
    pub api: ApiSettings,
    /// Where pods come from besides the API.
    pub sources: SourceSettings,
    /// The HTTPS server.
    pub server: ServerSettings,
    /// The container runtime.
    pub runtime: RuntimeSettings,
    /// Images and their garbage.
    pub images: ImageSettings,
    /// The cgroup tree.
    pub cgroups: CgroupSettings,
    /// Reservations, limits, eviction.
    pub resources: ResourceSettings,
    /// What pods resolve names with.
    pub dns: DnsSettings,
    /// Container logs.
    pub logs: LogSettings,
    /// What every pod is held to.
    pub pods: PodSettings,
    /// The end of the machine.
    pub shutdown: ShutdownSettings,
    /// This process itself.
    pub process: ProcessSettings,
    /// `featureGates` as given; names we do not know were warned about.
    pub feature_gates: BTreeMap<String, bool>,
    /// The whole `KubeletConfiguration` with defaults, as `/configz` shows it.
    pub document: serde_json::Value,
}

/// The Node object and its heartbeat.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeSettings {
    /// The node's name: `--hostname-override`, or the machine's host name in lower case.
    pub name: String,
    /// `--node-ip`; empty: found by the default route.
    pub ips: Vec<IpAddr>,
    /// `--node-labels`.
    pub labels: BTreeMap<String, String>,
    /// `registerWithTaints`.
    pub taints: Vec<Taint>,
    /// `registerNode`.
    pub register: bool,
    /// `providerID`.
    pub provider_id: String,
    /// `nodeStatusUpdateFrequency`: how often the status is computed.
    pub status_update: Duration,
    /// `nodeStatusReportFrequency`: how often an unchanged status is sent all the same.
    pub status_report: Duration,
    /// `nodeLeaseDurationSeconds`; renewed every quarter.
    pub lease_seconds: i32,
    /// `nodeStatusMaxImages`; −1: all.
    pub max_images: i32,
    /// `maxPods`.
    pub max_pods: i32,
    /// `podsPerCore`; 0: no limit.
    pub pods_per_core: i32,
    /// `podCIDR`, for a kubelet without an API server.
    pub pod_cidr: String,
}

/// The way to the API server.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ApiSettings {
    /// `--kubeconfig`; none: standalone.
    pub kubeconfig: Option<PathBuf>,
    /// `--bootstrap-kubeconfig`.
    pub bootstrap_kubeconfig: Option<PathBuf>,
    /// `rotateCertificates`: the client certificate is renewed before it expires.
    pub rotate: bool,
    /// `kubeAPIQPS`.
    pub qps: i32,
    /// `kubeAPIBurst`.
    pub burst: i32,
    /// `eventRecordQPS`.
    pub event_qps: i32,
    /// `eventBurst`.
    pub event_burst: i32,
}

/// Where pods come from besides the API.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SourceSettings {
    /// `staticPodPath`: a folder or a file of manifests.
    pub static_pod_path: Option<PathBuf>,
    /// `staticPodURL`.
    pub static_pod_url: Option<String>,
    /// `staticPodURLHeader`.
    pub static_pod_url_headers: BTreeMap<String, Vec<String>>,
    /// `syncFrequency`: the longest a pod goes without a look.
    pub sync_frequency: Duration,
    /// `fileCheckFrequency`.
    pub file_check: Duration,
    /// `httpCheckFrequency`.
    pub http_check: Duration,
}

/// The HTTPS server.
#[derive(Debug, Clone, PartialEq)]
pub struct ServerSettings {
    /// `enableServer`.
    pub enabled: bool,
    /// `address`.
    pub address: IpAddr,
    /// `port`.
    pub port: u16,
    /// `healthzBindAddress`.
    pub healthz_address: IpAddr,
    /// `healthzPort`; 0: off.
    pub healthz_port: u16,
    /// `tlsCertFile`; none: self-signed under `cert_dir`.
    pub tls_cert_file: Option<PathBuf>,
    /// `tlsPrivateKeyFile`.
    pub tls_key_file: Option<PathBuf>,
    /// `serverTLSBootstrap`: the certificate is asked for in the cluster.
    pub tls_bootstrap: bool,
    /// What TLS may be spoken.
    pub tls: TlsSettings,
    /// `--cert-dir`.
    pub cert_dir: PathBuf,
    /// `authentication.x509.clientCAFile`.
    pub client_ca_file: Option<PathBuf>,
    /// `authentication.anonymous.enabled`.
    pub anonymous: bool,
    /// `authentication.webhook.enabled`: TokenReview.
    pub webhook_authentication: bool,
    /// `authentication.webhook.cacheTTL`.
    pub authentication_ttl: Duration,
    /// `authorization.mode` is `Webhook` (else `AlwaysAllow`).
    pub webhook_authorization: bool,
    /// `authorization.webhook.cacheAuthorizedTTL`.
    pub authorized_ttl: Duration,
    /// `authorization.webhook.cacheUnauthorizedTTL`.
    pub unauthorized_ttl: Duration,
    /// `enableDebuggingHandlers`: exec, attach, logs, port-forward, run.
    pub debugging_handlers: bool,
    /// `enableSystemLogHandler`: `/logs/`.
    pub system_log_handler: bool,
    /// `streamingConnectionIdleTimeout`.
    pub streaming_idle: Duration,
}

/// What TLS may be spoken; empty lists: what is good today.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TlsSettings {
    /// `tlsMinVersion` is 1.3.
    pub only_13: bool,
    /// `tlsCipherSuites`; those of TLS 1.3 are always there, as upstream.
    pub suites: Vec<rustls::CipherSuite>,
    /// `tlsCurvePreferences`.
    pub groups: Vec<rustls::NamedGroup>,
}

/// When the machine shuts down.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ShutdownSettings {
    /// Pods of at least this priority have this long to end; lowest priority first. Empty: a shutdown is not delayed.
    pub by_priority: Vec<(i32, Duration)>,
}

/// The container runtime.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RuntimeSettings {
    /// `containerRuntimeEndpoint`.
    pub endpoint: String,
    /// `imageServiceEndpoint`; the runtime's own when not set.
    pub image_endpoint: String,
    /// `runtimeRequestTimeout`.
    pub request_timeout: Duration,
}

/// Images and their garbage.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ImageSettings {
    /// `serializeImagePulls`.
    pub serialize_pulls: bool,
    /// `maxParallelImagePulls`.
    pub max_parallel_pulls: Option<u32>,
    /// `registryPullQPS`; 0: no limit.
    pub pull_qps: i32,
    /// `registryBurst`.
    pub pull_burst: i32,
    /// `imageMinimumGCAge`.
    pub gc_min_age: Duration,
    /// `imageMaximumGCAge`; zero: off.
    pub gc_max_age: Duration,
    /// `imageGCHighThresholdPercent`.
    pub gc_high_percent: u8,
    /// `imageGCLowThresholdPercent`.
    pub gc_low_percent: u8,
    /// `imagePullCredentialsVerificationPolicy`.
    pub verification: CredentialPolicy,
    /// `preloadedImagesVerificationAllowlist`.
    pub verification_allowed: Vec<String>,
    /// Where the node's `config.json` of docker's may be: the first one counts.
    pub config_json_folders: Vec<PathBuf>,
    /// Where its `.dockercfg` may be.
    pub dockercfg_folders: Vec<PathBuf>,
    /// `--image-credential-provider-config`.
    pub credential_providers: Vec<CredentialProvider>,
}

/// Which images that are there a pod may use only with credentials of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CredentialPolicy {
    /// None.
    #[default]
    NeverVerify,
    /// Those that this kubelet pulled.
    NeverVerifyPreloadedImages,
    /// All but those of a list.
    NeverVerifyAllowlistedImages,
    /// All.
    AlwaysVerify,
}

/// How cgroups are named and made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CgroupDriver {
    /// Plain folders: `/kubepods/burstable/pod<uid>`.
    #[default]
    Cgroupfs,
    /// Slices: `kubepods-burstable-pod<uid>.slice`.
    Systemd,
}

/// The cgroup tree.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CgroupSettings {
    /// `cgroupDriver`; the runtime's own word goes before it.
    pub driver: CgroupDriver,
    /// `cgroupRoot`, `/` when not set.
    pub root: String,
    /// `cgroupsPerQOS`.
    pub per_qos: bool,
    /// `failCgroupV1`: refuse to start on a cgroup v1 machine.
    pub fail_v1: bool,
    /// `kubeReservedCgroup`, for its figures in `/stats/summary`.
    pub kube_reserved: String,
    /// `systemReservedCgroup`.
    pub system_reserved: String,
    /// `kubeletCgroups`.
    pub kubelet: String,
}

/// An amount held back from pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reserved {
    /// Thousandths of a core.
    pub cpu_milli: i64,
    /// Bytes.
    pub memory: i64,
    /// Bytes of the node's file system.
    pub ephemeral_storage: i64,
    /// Processes.
    pub pids: i64,
}

/// A limit given as an amount or as a part of the whole.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Threshold {
    /// So many bytes, inodes or processes.
    Amount(i64),
    /// This part of the capacity, 0 to 1.
    Fraction(f64),
}

impl Threshold {
    /// The amount, given the capacity.
    pub fn of(self, capacity: i64) -> i64 {
        match self {
            Self::Amount(amount) => amount,
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_precision_loss,
                reason = "bytes of one machine"
            )]
            Self::Fraction(part) => (capacity as f64 * part) as i64,
        }
    }
}

/// One signal's threshold: `memory.available<100Mi`.
#[derive(Debug, Clone, PartialEq)]
pub struct EvictionThreshold {
    /// `memory.available`, `nodefs.inodesFree`, ...
    pub signal: String,
    /// Below this, act.
    pub below: Threshold,
}

/// Reservations, limits, eviction.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ResourceSettings {
    /// `kubeReserved`.
    pub kube_reserved: Reserved,
    /// `systemReserved`.
    pub system_reserved: Reserved,
    /// `enforceNodeAllocatable`.
    pub enforce: Vec<String>,
    /// `evictionHard`.
    pub eviction_hard: Vec<EvictionThreshold>,
    /// `podPidsLimit`; none: no limit.
    pub pod_pids_limit: Option<i64>,
    /// `cpuCFSQuota`.
    pub cpu_quota: bool,
    /// `cpuCFSQuotaPeriod`.
    pub cpu_quota_period: Duration,
    /// `failSwapOn`.
    pub fail_swap_on: bool,
}

/// What pods resolve names with.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DnsSettings {
    /// `clusterDomain`.
    pub cluster_domain: String,
    /// `clusterDNS`.
    pub cluster_dns: Vec<IpAddr>,
    /// `resolvConf`; empty: pods with the Default policy get none.
    pub resolv_conf: PathBuf,
}

/// Container logs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogSettings {
    /// `containerLogMaxSize`, bytes; none (a negative size): logs are not rotated.
    pub max_size: Option<u64>,
    /// `containerLogMaxFiles`, the one that is written to among them.
    pub max_files: u32,
    /// `containerLogMaxWorkers`: rotations side by side.
    pub max_workers: u32,
    /// `containerLogMonitorInterval`.
    pub monitor_interval: Duration,
}

/// What every pod is held to.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PodSettings {
    /// `crashLoopBackOff.maxContainerRestartPeriod`.
    pub max_restart_period: Duration,
    /// `seccompDefault`: RuntimeDefault for pods that say nothing.
    pub seccomp_default: bool,
    /// `allowedUnsafeSysctls`.
    pub allowed_unsafe_sysctls: Vec<String>,
    /// `userNamespaces.idsPerPod`.
    pub ids_per_pod: u32,
}

/// This process itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ProcessSettings {
    /// `oomScoreAdj`.
    pub oom_score_adj: i32,
    /// `maxOpenFiles`.
    pub max_open_files: u64,
}
