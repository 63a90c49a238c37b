//! Upstream's command line: the flags that stand beside the file, and those that override a field of it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use serde_json::{Map, Value};

use super::ConfigurationError;
use super::document::merge;

/// What the command line says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Flags {
    /// `--config`.
    pub config: Option<PathBuf>,
    /// `--config-dir`.
    pub config_dir: Option<PathBuf>,
    /// `--kubeconfig`; none: standalone.
    pub kubeconfig: Option<PathBuf>,
    /// `--bootstrap-kubeconfig`.
    pub bootstrap_kubeconfig: Option<PathBuf>,
    /// `--hostname-override`.
    pub hostname_override: Option<String>,
    /// `--node-ip`.
    pub node_ips: Vec<IpAddr>,
    /// `--node-labels`.
    pub node_labels: BTreeMap<String, String>,
    /// `--root-dir`.
    pub root_dir: Option<PathBuf>,
    /// `--cert-dir`.
    pub cert_dir: Option<PathBuf>,
    /// `--image-credential-provider-config`.
    pub credential_provider_config: Option<PathBuf>,
    /// `--image-credential-provider-bin-dir`.
    pub credential_provider_bin_dir: Option<PathBuf>,
    /// `-v`.
    pub verbosity: Option<i64>,
    /// `--version`.
    pub version: bool,
    /// `--help`.
    pub help: bool,
    /// Fields of `KubeletConfiguration` that flags set: they go over files.
    pub overrides: Value,
    /// Flags that were accepted and have no effect.
    pub ignored: Vec<String>,
}

/// How a flag's text becomes a field's value.
#[derive(Debug, Clone, Copy)]
enum Form {
    Bool,
    Int,
    Text,
    /// `a,b`.
    List,
    /// `a=b,c=d`.
    Map,
    /// `a=true,b=false`.
    Switches,
    /// `signal<amount,...`.
    Signals,
    /// `key=value:effect,...`.
    Taints,
    /// `name:value,...`.
    Headers,
}

use Form::{Bool, Headers, Int, List, Signals, Switches, Taints, Text};

/// Flag, field, form.
const OVERRIDES: &[(&str, &str, Form)] = &[
    ("address", "address", Text),
    ("port", "port", Int),
    ("read-only-port", "readOnlyPort", Int),
    ("anonymous-auth", "authentication.anonymous.enabled", Bool),
    ("authentication-token-webhook", "authentication.webhook.enabled", Bool),
    ("authentication-token-webhook-cache-ttl", "authentication.webhook.cacheTTL", Text),
    ("authorization-mode", "authorization.mode", Text),
    ("authorization-webhook-cache-authorized-ttl", "authorization.webhook.cacheAuthorizedTTL", Text),
    ("authorization-webhook-cache-unauthorized-ttl", "authorization.webhook.cacheUnauthorizedTTL", Text),
    ("client-ca-file", "authentication.x509.clientCAFile", Text),
    ("tls-cert-file", "tlsCertFile", Text),
    ("tls-private-key-file", "tlsPrivateKeyFile", Text),
    ("tls-cipher-suites", "tlsCipherSuites", List),
    ("tls-min-version", "tlsMinVersion", Text),
    ("rotate-certificates", "rotateCertificates", Bool),
    ("rotate-server-certificates", "serverTLSBootstrap", Bool),
    ("cgroup-driver", "cgroupDriver", Text),
    ("cgroup-root", "cgroupRoot", Text),
    ("cgroups-per-qos", "cgroupsPerQOS", Bool),
    ("cluster-dns", "clusterDNS", List),
    ("cluster-domain", "clusterDomain", Text),
    ("max-pods", "maxPods", Int),
    ("pods-per-core", "podsPerCore", Int),
    ("pod-cidr", "podCIDR", Text),
    ("pod-max-pids", "podPidsLimit", Int),
    ("eviction-hard", "evictionHard", Signals),
    ("eviction-soft", "evictionSoft", Signals),
    ("eviction-soft-grace-period", "evictionSoftGracePeriod", Form::Map),
    ("eviction-pressure-transition-period", "evictionPressureTransitionPeriod", Text),
    ("eviction-max-pod-grace-period", "evictionMaxPodGracePeriod", Int),
    ("eviction-minimum-reclaim", "evictionMinimumReclaim", Form::Map),
    ("system-reserved", "systemReserved", Form::Map),
    ("system-reserved-cgroup", "systemReservedCgroup", Text),
    ("kube-reserved", "kubeReserved", Form::Map),
    ("kube-reserved-cgroup", "kubeReservedCgroup", Text),
    ("enforce-node-allocatable", "enforceNodeAllocatable", List),
    ("reserved-cpus", "reservedSystemCPUs", Text),
    ("cpu-manager-policy", "cpuManagerPolicy", Text),
    ("cpu-manager-policy-options", "cpuManagerPolicyOptions", Form::Map),
    ("cpu-manager-reconcile-period", "cpuManagerReconcilePeriod", Text),
    ("memory-manager-policy", "memoryManagerPolicy", Text),
    ("topology-manager-policy", "topologyManagerPolicy", Text),
    ("topology-manager-scope", "topologyManagerScope", Text),
    ("topology-manager-policy-options", "topologyManagerPolicyOptions", Form::Map),
    ("cpu-cfs-quota", "cpuCFSQuota", Bool),
    ("cpu-cfs-quota-period", "cpuCFSQuotaPeriod", Text),
    ("qos-reserved", "qosReserved", Form::Map),
    ("image-gc-high-threshold", "imageGCHighThresholdPercent", Int),
    ("image-gc-low-threshold", "imageGCLowThresholdPercent", Int),
    ("minimum-image-ttl-duration", "imageMinimumGCAge", Text),
    ("serialize-image-pulls", "serializeImagePulls", Bool),
    ("registry-qps", "registryPullQPS", Int),
    ("registry-burst", "registryBurst", Int),
    ("event-qps", "eventRecordQPS", Int),
    ("event-burst", "eventBurst", Int),
    ("kube-api-qps", "kubeAPIQPS", Int),
    ("kube-api-burst", "kubeAPIBurst", Int),
    ("kube-api-content-type", "contentType", Text),
    ("node-status-update-frequency", "nodeStatusUpdateFrequency", Text),
    ("node-status-max-images", "nodeStatusMaxImages", Int),
    ("container-log-max-size", "containerLogMaxSize", Text),
    ("container-log-max-files", "containerLogMaxFiles", Int),
    ("volume-plugin-dir", "volumePluginDir", Text),
    ("volume-stats-agg-period", "volumeStatsAggPeriod", Text),
    ("enable-controller-attach-detach", "enableControllerAttachDetach", Bool),
    ("register-node", "registerNode", Bool),
    ("register-with-taints", "registerWithTaints", Taints),
    ("provider-id", "providerID", Text),
    ("resolv-conf", "resolvConf", Text),
    ("hairpin-mode", "hairpinMode", Text),
    ("make-iptables-util-chains", "makeIPTablesUtilChains", Bool),
    ("protect-kernel-defaults", "protectKernelDefaults", Bool),
    ("allowed-unsafe-sysctls", "allowedUnsafeSysctls", List),
    ("fail-swap-on", "failSwapOn", Bool),
    ("fail-cgroupv1", "failCgroupV1", Bool),
    ("max-open-files", "maxOpenFiles", Int),
    ("oom-score-adj", "oomScoreAdj", Int),
    ("healthz-port", "healthzPort", Int),
    ("healthz-bind-address", "healthzBindAddress", Text),
    ("streaming-connection-idle-timeout", "streamingConnectionIdleTimeout", Text),
    ("enable-server", "enableServer", Bool),
    ("enable-debugging-handlers", "enableDebuggingHandlers", Bool),
    ("contention-profiling", "enableContentionProfiling", Bool),
    ("pod-manifest-path", "staticPodPath", Text),
    ("manifest-url", "staticPodURL", Text),
    ("manifest-url-header", "staticPodURLHeader", Headers),
    ("sync-frequency", "syncFrequency", Text),
    ("file-check-frequency", "fileCheckFrequency", Text),
    ("http-check-frequency", "httpCheckFrequency", Text),
    ("runonce", "runOnce", Bool),
    ("runtime-request-timeout", "runtimeRequestTimeout", Text),
    ("container-runtime-endpoint", "containerRuntimeEndpoint", Text),
    ("image-service-endpoint", "imageServiceEndpoint", Text),
    ("kubelet-cgroups", "kubeletCgroups", Text),
    ("system-cgroups", "systemCgroups", Text),
    ("kernel-memcg-notification", "kernelMemcgNotification", Bool),
    ("local-storage-capacity-isolation", "localStorageCapacityIsolation", Bool),
    ("seccomp-default", "seccompDefault", Bool),
    ("feature-gates", "featureGates", Switches),
];

/// Accepted as upstream accepts them: they do nothing (`true`: a switch that may come without a value).
const IGNORED: &[(&str, bool)] = &[
    ("minimum-container-ttl-duration", false),
    ("maximum-dead-containers-per-container", false),
    ("maximum-dead-containers", false),
    ("experimental-mounter-path", false),
    ("experimental-allocatable-ignore-eviction", true),
    ("housekeeping-interval", false),
    ("max-housekeeping-interval", false),
    ("application-metrics-count-limit", false),
    ("boot-id-file", false),
    ("container-hints", false),
    ("containerd", false),
    ("containerd-namespace", false),
    ("enable-load-reader", true),
    ("event-storage-age-limit", false),
    ("event-storage-event-limit", false),
    ("global-housekeeping-interval", false),
    ("log-cadvisor-usage", true),
    ("machine-id-file", false),
    ("storage-driver-buffer-duration", false),
    ("storage-driver-db", false),
    ("storage-driver-host", false),
    ("storage-driver-password", false),
    ("storage-driver-secure", true),
    ("storage-driver-table", false),
    ("storage-driver-user", false),
    ("runtime-cgroups", false),
    ("vmodule", false),
    ("log-flush-frequency", false),
    ("logging-format", false),
];

/// Known to upstream, refused here.
const REFUSED: &[&str] = &["cloud-provider", "lock-file", "exit-on-lock-contention", "reserved-memory"];

impl Flags {
    /// Reads a command line without its program name: `--flag=value`, `--flag value`, `--switch`.
    pub fn parse<S: AsRef<str>>(args: &[S]) -> Result<Self, ConfigurationError> {
        let mut flags = Self { overrides: Value::Object(Map::new()), ..Self::default() };
        let mut args = args.iter().map(AsRef::as_ref);
        while let Some(arg) = args.next() {
            let Some(body) =
                arg.strip_prefix("--").or_else(|| arg.strip_prefix('-')).filter(|it| !it.is_empty())
            else {
                return Err(wrong(arg, "is not a flag; this program takes no arguments"));
            };
            let (name, value) = match body.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (body, None),
            };
            let value = match value {
                Some(value) => value,
                None if is_switch(name) => "true".to_owned(),
                None => args.next().ok_or_else(|| wrong(name, "needs a value"))?.to_owned(),
            };
            flags.set(name, value)?;
        }
        Ok(flags)
    }

    fn set(&mut self, name: &str, value: String) -> Result<(), ConfigurationError> {
        let path = |value: String| Some(PathBuf::from(value)).filter(|it| !it.as_os_str().is_empty());
        match name {
            "config" => self.config = path(value),
            "config-dir" => self.config_dir = path(value),
            "kubeconfig" => self.kubeconfig = path(value),
            "bootstrap-kubeconfig" => self.bootstrap_kubeconfig = path(value),
            "root-dir" => self.root_dir = path(value),
            "cert-dir" => self.cert_dir = path(value),
            "image-credential-provider-config" => self.credential_provider_config = path(value),
            "image-credential-provider-bin-dir" => self.credential_provider_bin_dir = path(value),
            "hostname-override" => self.hostname_override = Some(value).filter(|it| !it.is_empty()),
            "node-ip" => {
                let parse =
                    |it: &str| it.trim().parse().map_err(|_| wrong(name, format!("{it:?} is no IP address")));
                self.node_ips = list(&value).iter().map(|it| parse(it)).collect::<Result<_, _>>()?;
            }
            "node-labels" => self.node_labels = pairs(name, &value)?.into_iter().collect(),
            "v" => self.verbosity = Some(value.parse().map_err(|_| wrong(name, "needs a number"))?),
            "version" => self.version = value == "true",
            "help" | "h" => self.help = true,
            _ => return self.set_field(name, &value),
        }
        Ok(())
    }

    fn set_field(&mut self, name: &str, value: &str) -> Result<(), ConfigurationError> {
        if let Some((_, field, form)) = OVERRIDES.iter().find(|it| it.0 == name) {
            let mut value = form.read(name, value)?;
            for part in field.rsplit('.') {
                value = Value::Object(Map::from_iter([(part.to_owned(), value)]));
            }
            merge(&mut self.overrides, value);
            return Ok(());
        }
        if IGNORED.iter().any(|it| it.0 == name) {
            self.ignored.push(name.to_owned());
            return Ok(());
        }
        if REFUSED.contains(&name) {
            return if value.is_empty() {
                Ok(())
            } else {
                Err(wrong(name, "is not supported by this kubelet"))
            };
        }
        Err(wrong(name, "unknown flag"))
    }
}

impl Form {
    fn read(self, flag: &str, text: &str) -> Result<Value, ConfigurationError> {
        Ok(match self {
            Bool => switch(flag, text)?.into(),
            Int => {
                text.parse::<i64>().map_err(|_| wrong(flag, format!("{text:?} is no whole number")))?.into()
            }
            Text => text.into(),
            List => list(text).into(),
            Self::Map => {
                pairs(flag, text)?.into_iter().map(|(key, value)| (key, Value::from(value))).collect()
            }
            Switches => {
                let read = |(key, value): (String, String)| Ok((key, Value::from(switch(flag, &value)?)));
                pairs(flag, text)?.into_iter().map(read).collect::<Result<_, ConfigurationError>>()?
            }
            Signals => {
                let read = |it: &String| {
                    let (signal, amount) = it
                        .split_once('<')
                        .ok_or_else(|| wrong(flag, format!("{it:?}: expected signal<amount")))?;
                    Ok((signal.trim().to_owned(), Value::from(amount.trim())))
                };
                list(text).iter().map(read).collect::<Result<_, ConfigurationError>>()?
            }
            Headers => {
                let mut headers: BTreeMap<String, Vec<String>> = BTreeMap::new();
                for it in list(text) {
                    let (name, value) = it
                        .split_once(':')
                        .ok_or_else(|| wrong(flag, format!("{it:?}: expected name:value")))?;
                    headers.entry(name.trim().to_owned()).or_default().push(value.trim().to_owned());
                }
                serde_json::json!(headers)
            }
            Taints => list(text).iter().map(|it| taint(flag, it)).collect::<Result<_, _>>()?,
        })
    }
}

fn taint(flag: &str, text: &str) -> Result<Value, ConfigurationError> {
    let (rest, effect) =
        text.rsplit_once(':').ok_or_else(|| wrong(flag, format!("{text:?}: expected key=value:effect")))?;
    let (key, value) = rest.split_once('=').unwrap_or((rest, ""));
    Ok(serde_json::json!({"key": key, "value": value, "effect": effect}))
}

fn is_switch(name: &str) -> bool {
    matches!(name, "version" | "help" | "h" | "exit-on-lock-contention")
        || OVERRIDES.iter().any(|it| it.0 == name && matches!(it.2, Bool))
        || IGNORED.iter().any(|it| it.0 == name && it.1)
}

fn switch(flag: &str, text: &str) -> Result<bool, ConfigurationError> {
    match text {
        "true" | "True" | "TRUE" | "t" | "T" | "1" => Ok(true),
        "false" | "False" | "FALSE" | "f" | "F" | "0" => Ok(false),
        _ => Err(wrong(flag, format!("{text:?} is neither true nor false"))),
    }
}

fn list(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|it| !it.is_empty()).map(str::to_owned).collect()
}

fn pairs(flag: &str, text: &str) -> Result<Vec<(String, String)>, ConfigurationError> {
    let split = |it: &String| {
        let (key, value) =
            it.split_once('=').ok_or_else(|| wrong(flag, format!("{it:?}: expected key=value")))?;
        Ok((key.trim().to_owned(), value.trim().to_owned()))
    };
    list(text).iter().map(split).collect()
}

fn wrong(flag: &str, reason: impl Into<String>) -> ConfigurationError {
    ConfigurationError::Flag { flag: flag.trim_start_matches('-').to_owned(), reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_override_the_field_they_stand_for() {
        let args = [
            "--max-pods=7",
            "--anonymous-auth",
            "--eviction-hard",
            "memory.available<5%,nodefs.available<1Gi",
            "--client-ca-file=/ca",
            "--register-with-taints=a=b:NoSchedule,c:NoExecute",
            "--node-labels=x=y",
            "--node-ip=10.0.0.1,fd00::1",
            "--fail-swap-on=false",
            "--housekeeping-interval=1s",
            "--manifest-url-header=a:b,a:c",
            "-v=2",
        ];
        let flags = Flags::parse(&args).unwrap();
        let want = serde_json::json!({
            "maxPods": 7,
            "authentication": {"anonymous": {"enabled": true}, "x509": {"clientCAFile": "/ca"}},
            "evictionHard": {"memory.available": "5%", "nodefs.available": "1Gi"},
            "registerWithTaints": [
                {"key": "a", "value": "b", "effect": "NoSchedule"}, {"key": "c", "value": "", "effect": "NoExecute"}],
            "failSwapOn": false,
            "staticPodURLHeader": {"a": ["b", "c"]},
        });
        assert_eq!(flags.overrides, want);
        assert_eq!(flags.node_labels["x"], "y");
        assert_eq!(flags.node_ips.len(), 2);
        assert_eq!((flags.ignored.len(), flags.verbosity), (1, Some(2)));
    }

    #[test]
    fn wrong_flags_are_named() {
        let check = |arg: &str, want: &str| {
            assert_eq!(Flags::parse(&[arg]).unwrap_err().to_string(), want);
        };
        check("--nope=1", "--nope: unknown flag");
        check("--max-pods=x", r#"--max-pods: "x" is no whole number"#);
        check("--max-pods", "--max-pods: needs a value");
        check("--cloud-provider=external", "--cloud-provider: is not supported by this kubelet");
        check("run", "--run: is not a flag; this program takes no arguments");
    }
}
