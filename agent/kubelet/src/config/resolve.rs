//! From the document to small structs: values parsed, cross-checked, every refusal with its field.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use coracle_apimachinery::{GoDuration, Quantity};
use k8s_openapi::api::core::v1::Taint;
use serde_json::Value;

use super::fields::{EVICTION_HARD, GATES, GATES_OFF};
use super::providers;
use super::{
    ApiSettings, CgroupDriver, CgroupSettings, ConfigurationError, CredentialPolicy, DnsSettings,
    EvictionThreshold, Flags, ImageSettings, KubeletConfig, LogSettings, NodeSettings, Paths, PodSettings,
    ProcessSettings, Reserved, ResourceSettings, RuntimeSettings, ServerSettings, SourceSettings, Threshold,
};

/// Reads a complete document: its types were checked against the table.
pub(super) fn resolve(
    document: Value,
    flags: &Flags,
    warnings: &mut Vec<String>,
) -> Result<KubeletConfig, ConfigurationError> {
    let doc = Doc(&document);
    let root = flags.root_dir.clone().unwrap_or_else(|| "/var/lib/kubelet".into());
    let paths = Paths::new(root, doc.text("podLogsDir"));
    let feature_gates = gates(&doc, warnings)?;
    Ok(KubeletConfig {
        node: node(&doc, flags)?,
        api: ApiSettings {
            kubeconfig: flags.kubeconfig.clone(),
            bootstrap_kubeconfig: flags.bootstrap_kubeconfig.clone(),
            rotate: doc.bool("rotateCertificates"),
            qps: doc.number("kubeAPIQPS")?,
            burst: doc.number("kubeAPIBurst")?,
            event_qps: doc.number("eventRecordQPS")?,
            event_burst: doc.number("eventBurst")?,
        },
        sources: SourceSettings {
            static_pod_path: doc.path("staticPodPath"),
            static_pod_url: url(&doc)?,
            static_pod_url_headers: headers(&doc)?,
            sync_frequency: doc.duration("syncFrequency")?,
            file_check: doc.duration("fileCheckFrequency")?,
            http_check: doc.duration("httpCheckFrequency")?,
        },
        server: server(&doc, flags, &paths)?,
        runtime: runtime(&doc)?,
        images: images(&doc, flags, &paths)?,
        cgroups: cgroups(&doc)?,
        resources: resources(&doc)?,
        dns: DnsSettings {
            cluster_domain: doc.text("clusterDomain").to_owned(),
            cluster_dns: doc
                .each("clusterDNS", |it| it.parse().map_err(|_| "is no IP address".to_owned()))?,
            resolv_conf: PathBuf::from(doc.text("resolvConf")),
        },
        logs: logs(&doc)?,
        pods: PodSettings {
            max_restart_period: within(
                &doc,
                "crashLoopBackOff.maxContainerRestartPeriod",
                Duration::from_secs(1)..=Duration::from_secs(300),
            )?,
            seccomp_default: doc.bool("seccompDefault"),
            allowed_unsafe_sysctls: doc.texts("allowedUnsafeSysctls"),
            ids_per_pod: doc.number("userNamespaces.idsPerPod")?,
        },
        shutdown: super::shutdown::resolve(&doc)?,
        process: ProcessSettings {
            oom_score_adj: doc.number("oomScoreAdj")?,
            max_open_files: doc.number("maxOpenFiles")?,
        },
        feature_gates,
        paths,
        document,
    })
}

fn node(doc: &Doc, flags: &Flags) -> Result<NodeSettings, ConfigurationError> {
    let name = match &flags.hostname_override {
        Some(name) => name.trim().to_lowercase(),
        None => {
            let name =
                nix::unistd::gethostname().ok().and_then(|it| it.into_string().ok()).unwrap_or_default();
            name.trim().to_lowercase()
        }
    };
    if let Some(reason) = coracle_apimachinery::names::dns1123_subdomain(&name).into_iter().next() {
        return Err(ConfigurationError::Flag {
            flag: "hostname-override".into(),
            reason: format!("{name:?}: {reason}"),
        });
    }
    for (key, value) in &flags.node_labels {
        let wrong = coracle_apimachinery::names::qualified_name(key)
            .into_iter()
            .chain(coracle_apimachinery::names::label_value(value))
            .next();
        if let Some(reason) = wrong {
            return Err(ConfigurationError::Flag {
                flag: "node-labels".into(),
                reason: format!("{key}={value}: {reason}"),
            });
        }
    }
    let taints: Vec<Taint> = match doc.at("registerWithTaints") {
        Some(list) => serde_json::from_value(list.clone())
            .map_err(|err| doc.invalid("registerWithTaints", &err.to_string()))?,
        None => Vec::new(),
    };
    if let Some(taint) =
        taints.iter().find(|it| !matches!(&*it.effect, "NoSchedule" | "PreferNoSchedule" | "NoExecute"))
    {
        return Err(doc.invalid(
            "registerWithTaints",
            &format!("taint {} has no effect that there is: {:?}", taint.key, taint.effect),
        ));
    }
    Ok(NodeSettings {
        name,
        ips: flags.node_ips.clone(),
        labels: flags.node_labels.clone(),
        taints,
        register: doc.bool("registerNode"),
        provider_id: doc.text("providerID").to_owned(),
        status_update: doc.duration("nodeStatusUpdateFrequency")?,
        status_report: doc.duration("nodeStatusReportFrequency")?,
        lease_seconds: positive(doc, "nodeLeaseDurationSeconds")?,
        max_images: doc.number("nodeStatusMaxImages")?,
        max_pods: doc.number("maxPods")?,
        pods_per_core: doc.number("podsPerCore")?,
        pod_cidr: doc.text("podCIDR").to_owned(),
    })
}

fn server(doc: &Doc, flags: &Flags, paths: &Paths) -> Result<ServerSettings, ConfigurationError> {
    let mode = doc.text("authorization.mode");
    if !matches!(mode, "Webhook" | "AlwaysAllow") {
        return Err(doc.invalid("authorization.mode", "must be Webhook or AlwaysAllow"));
    }
    Ok(ServerSettings {
        enabled: doc.bool("enableServer"),
        address: doc.ip("address")?,
        port: doc.number("port")?,
        healthz_address: doc.ip("healthzBindAddress")?,
        healthz_port: doc.number("healthzPort")?,
        tls_cert_file: doc.path("tlsCertFile"),
        tls_key_file: doc.path("tlsPrivateKeyFile"),
        tls_bootstrap: doc.bool("serverTLSBootstrap"),
        tls: super::tls::resolve(doc)?,
        cert_dir: flags.cert_dir.clone().unwrap_or_else(|| paths.pki()),
        client_ca_file: doc.path("authentication.x509.clientCAFile"),
        anonymous: doc.bool("authentication.anonymous.enabled"),
        webhook_authentication: doc.bool("authentication.webhook.enabled"),
        authentication_ttl: doc.duration("authentication.webhook.cacheTTL")?,
        webhook_authorization: mode == "Webhook",
        authorized_ttl: doc.duration("authorization.webhook.cacheAuthorizedTTL")?,
        unauthorized_ttl: doc.duration("authorization.webhook.cacheUnauthorizedTTL")?,
        debugging_handlers: doc.bool("enableDebuggingHandlers"),
        system_log_handler: doc.bool("enableSystemLogHandler"),
        streaming_idle: doc.duration("streamingConnectionIdleTimeout")?,
    })
}

fn url(doc: &Doc) -> Result<Option<String>, ConfigurationError> {
    let text = doc.text("staticPodURL");
    let known = |it: &http::Uri| matches!(it.scheme_str(), Some("http" | "https")) && it.host().is_some();
    match text.parse::<http::Uri>() {
        _ if text.is_empty() => Ok(None),
        Ok(parsed) if known(&parsed) => Ok(Some(text.to_owned())),
        Ok(_) | Err(_) => Err(doc.invalid("staticPodURL", "is no http or https URL")),
    }
}

fn headers(doc: &Doc) -> Result<BTreeMap<String, Vec<String>>, ConfigurationError> {
    let given = doc.at("staticPodURLHeader").cloned().unwrap_or_default();
    let read: Option<BTreeMap<String, Vec<String>>> =
        serde_json::from_value(given).map_err(|err| doc.invalid("staticPodURLHeader", &err.to_string()))?;
    let read = read.unwrap_or_default();
    for (name, values) in &read {
        let fits = http::HeaderName::try_from(name).is_ok()
            && values.iter().all(|it| http::HeaderValue::try_from(it).is_ok());
        if !fits {
            return Err(invalid(
                &format!("staticPodURLHeader[{name}]"),
                &values.join(","),
                "is no HTTP header",
            ));
        }
    }
    Ok(read)
}

fn runtime(doc: &Doc) -> Result<RuntimeSettings, ConfigurationError> {
    let endpoint = doc.text("containerRuntimeEndpoint").to_owned();
    let image_endpoint = doc.text("imageServiceEndpoint").to_owned();
    if endpoint.is_empty() {
        return Err(doc.invalid("containerRuntimeEndpoint", "must be given"));
    }
    let image_endpoint = if image_endpoint.is_empty() { endpoint.clone() } else { image_endpoint };
    Ok(RuntimeSettings { endpoint, image_endpoint, request_timeout: doc.duration("runtimeRequestTimeout")? })
}

fn images(doc: &Doc, flags: &Flags, paths: &Paths) -> Result<ImageSettings, ConfigurationError> {
    let max_parallel_pulls: Option<u32> = match doc.at("maxParallelImagePulls") {
        Some(_) => Some(positive(doc, "maxParallelImagePulls")?),
        None => None,
    };
    let several = max_parallel_pulls.is_some_and(|it| it > 1);
    let serialize_pulls = doc.at("serializeImagePulls").and_then(Value::as_bool).unwrap_or(!several);
    if serialize_pulls && several {
        return Err(doc.invalid(
            "maxParallelImagePulls",
            "cannot be larger than 1 unless serializeImagePulls is false",
        ));
    }
    let settings = ImageSettings {
        serialize_pulls,
        max_parallel_pulls,
        pull_qps: doc.number("registryPullQPS")?,
        pull_burst: doc.number("registryBurst")?,
        gc_min_age: doc.duration("imageMinimumGCAge")?,
        gc_max_age: doc.duration("imageMaximumGCAge")?,
        gc_high_percent: percent(doc, "imageGCHighThresholdPercent")?,
        gc_low_percent: percent(doc, "imageGCLowThresholdPercent")?,
        verification: verification(doc)?,
        verification_allowed: doc.texts("preloadedImagesVerificationAllowlist"),
        config_json_folders: credential_folders(paths, ".docker"),
        dockercfg_folders: credential_folders(paths, ""),
        credential_providers: match (&flags.credential_provider_config, &flags.credential_provider_bin_dir) {
            (Some(config), Some(programs)) => providers::read(config, programs)?,
            (None, None) => Vec::new(),
            (None, Some(_)) => return Err(needs_both("image-credential-provider-config")),
            (Some(_), None) => return Err(needs_both("image-credential-provider-bin-dir")),
        },
    };
    if settings.gc_max_age > Duration::ZERO && settings.gc_max_age <= settings.gc_min_age {
        return Err(doc.invalid("imageMaximumGCAge", "must be greater than imageMinimumGCAge"));
    }
    if settings.pull_qps < 0 || settings.pull_burst < 0 {
        return Err(doc.invalid("registryPullQPS", "neither this nor registryBurst may be negative"));
    }
    if settings.gc_low_percent >= settings.gc_high_percent {
        return Err(
            doc.invalid("imageGCLowThresholdPercent", "must be less than imageGCHighThresholdPercent")
        );
    }
    Ok(settings)
}

fn verification(doc: &Doc) -> Result<CredentialPolicy, ConfigurationError> {
    let field = "imagePullCredentialsVerificationPolicy";
    let policy = match doc.text(field) {
        "NeverVerify" => CredentialPolicy::NeverVerify,
        "NeverVerifyPreloadedImages" => CredentialPolicy::NeverVerifyPreloadedImages,
        "NeverVerifyAllowlistedImages" => CredentialPolicy::NeverVerifyAllowlistedImages,
        "AlwaysVerify" => CredentialPolicy::AlwaysVerify,
        _ => {
            let reason = "must be NeverVerify, NeverVerifyPreloadedImages, NeverVerifyAllowlistedImages or AlwaysVerify";
            return Err(doc.invalid(field, reason));
        }
    };
    let allowed = doc.texts("preloadedImagesVerificationAllowlist");
    if !allowed.is_empty() && policy != CredentialPolicy::NeverVerifyAllowlistedImages {
        let reason =
            "can only be set with imagePullCredentialsVerificationPolicy NeverVerifyAllowlistedImages";
        return Err(doc.invalid("preloadedImagesVerificationAllowlist", reason));
    }
    let is_wrong = |it: &&String| {
        let name = it.strip_suffix("/*").unwrap_or(it);
        name.contains(['*', '@', ' ']) || crate::image::repository(name) != name
    };
    match allowed.iter().find(is_wrong) {
        Some(wrong) => Err(invalid(
            "preloadedImagesVerificationAllowlist",
            wrong,
            "must be a whole repository without tag or digest, perhaps with /* at its end",
        )),
        None => Ok(policy),
    }
}

/// Where upstream looks for the node's registry credentials; `at_home` is the folder below a user's.
fn credential_folders(paths: &Paths, at_home: &str) -> Vec<PathBuf> {
    let home = std::env::var_os("HOME").filter(|it| !it.is_empty()).map(PathBuf::from);
    let root = PathBuf::from("/");
    let mut folders = vec![paths.root.clone(), PathBuf::from(".")];
    folders.extend(home.into_iter().chain([root]).map(|it| it.join(at_home)));
    folders
}

fn needs_both(missing: &str) -> ConfigurationError {
    let reason = "the folder of credential providers and their configuration need each other".to_owned();
    ConfigurationError::Flag { flag: missing.to_owned(), reason }
}

fn logs(doc: &Doc) -> Result<LogSettings, ConfigurationError> {
    let settings = LogSettings {
        max_size: u64::try_from(doc.quantity("containerLogMaxSize")?).ok(),
        max_files: doc.number("containerLogMaxFiles")?,
        max_workers: positive(doc, "containerLogMaxWorkers")?,
        monitor_interval: doc.duration("containerLogMonitorInterval")?,
    };
    if settings.max_files < 2 {
        return Err(doc.invalid("containerLogMaxFiles", "must be greater than 1"));
    }
    if settings.monitor_interval < Duration::from_secs(3) {
        return Err(doc.invalid("containerLogMonitorInterval", "must be at least 3s"));
    }
    Ok(settings)
}

fn cgroups(doc: &Doc) -> Result<CgroupSettings, ConfigurationError> {
    Ok(CgroupSettings {
        driver: match doc.text("cgroupDriver") {
            "cgroupfs" => CgroupDriver::Cgroupfs,
            "systemd" => CgroupDriver::Systemd,
            _ => return Err(doc.invalid("cgroupDriver", "must be cgroupfs or systemd")),
        },
        root: doc.text("cgroupRoot").to_owned(),
        per_qos: doc.bool("cgroupsPerQOS"),
        fail_v1: doc.bool("failCgroupV1"),
        kube_reserved: doc.text("kubeReservedCgroup").to_owned(),
        system_reserved: doc.text("systemReservedCgroup").to_owned(),
        kubelet: doc.text("kubeletCgroups").to_owned(),
    })
}

fn resources(doc: &Doc) -> Result<ResourceSettings, ConfigurationError> {
    let enforce: Vec<String> = doc.texts("enforceNodeAllocatable");
    if let Some(other) = enforce.iter().find(|it| !matches!(it.as_str(), "pods" | "none")) {
        return Err(ConfigurationError::NotSupported(vec![(
            "enforceNodeAllocatable".to_owned(),
            format!("{other:?}"),
        )]));
    }
    Ok(ResourceSettings {
        kube_reserved: reserved(doc, "kubeReserved")?,
        system_reserved: reserved(doc, "systemReserved")?,
        enforce,
        eviction_hard: eviction_hard(doc)?,
        pod_pids_limit: Some(doc.number("podPidsLimit")?).filter(|it: &i64| *it > 0),
        cpu_quota: doc.bool("cpuCFSQuota"),
        cpu_quota_period: within(
            doc,
            "cpuCFSQuotaPeriod",
            Duration::from_millis(1)..=Duration::from_secs(1),
        )?,
        fail_swap_on: doc.bool("failSwapOn"),
    })
}

fn reserved(doc: &Doc, field: &str) -> Result<Reserved, ConfigurationError> {
    let mut reserved = Reserved::default();
    for (name, text) in doc.map(field) {
        let field = format!("{field}[{name}]");
        let quantity = Quantity::parse(&text).map_err(|err| invalid(&field, &text, &err.to_string()))?;
        match name.as_str() {
            "cpu" => reserved.cpu_milli = quantity.milli_value(),
            "memory" => reserved.memory = quantity.value(),
            "ephemeral-storage" => reserved.ephemeral_storage = quantity.value(),
            "pid" => reserved.pids = quantity.value(),
            _ => return Err(invalid(&field, &text, "reserves a resource that there is not")),
        }
        if quantity.value() < 0 {
            return Err(invalid(&field, &text, "must not be negative"));
        }
    }
    Ok(reserved)
}

fn eviction_hard(doc: &Doc) -> Result<Vec<EvictionThreshold>, ConfigurationError> {
    let given = doc.map("evictionHard");
    let mut all: BTreeMap<String, String> = BTreeMap::new();
    if given.is_empty() || doc.bool("mergeDefaultEvictionSettings") {
        all.extend(EVICTION_HARD.iter().map(|(signal, amount)| ((*signal).to_owned(), (*amount).to_owned())));
    }
    all.extend(given);
    all.into_iter().map(|(signal, text)| threshold(signal, &text)).collect()
}

fn threshold(signal: String, text: &str) -> Result<EvictionThreshold, ConfigurationError> {
    let field = format!("evictionHard[{signal}]");
    let known = [
        "memory.available",
        "nodefs.available",
        "nodefs.inodesFree",
        "imagefs.available",
        "imagefs.inodesFree",
        "containerfs.available",
        "containerfs.inodesFree",
        "pid.available",
        "allocatableMemory.available",
    ];
    if !known.contains(&signal.as_str()) {
        return Err(invalid(&field, text, "is a signal that there is not"));
    }
    let below = match text.strip_suffix('%') {
        Some(number) => {
            let part: f64 = number.parse().map_err(|_| invalid(&field, text, "is no percentage"))?;
            if !(0.0..=100.0).contains(&part) {
                return Err(invalid(&field, text, "must be between 0% and 100%"));
            }
            Threshold::Fraction(part / 100.0)
        }
        None => {
            let amount =
                Quantity::parse(text).map_err(|err| invalid(&field, text, &err.to_string()))?.value();
            if amount < 0 {
                return Err(invalid(&field, text, "must not be negative"));
            }
            Threshold::Amount(amount)
        }
    };
    Ok(EvictionThreshold { signal, below })
}

fn gates(doc: &Doc, warnings: &mut Vec<String>) -> Result<BTreeMap<String, bool>, ConfigurationError> {
    let mut gates = BTreeMap::new();
    for (name, value) in doc.at("featureGates").and_then(Value::as_object).into_iter().flatten() {
        let on = value.as_bool().unwrap_or_default();
        if on && GATES_OFF.split(' ').any(|it| it == name) {
            return Err(ConfigurationError::NotSupported(vec![(
                format!("featureGates[{name}]"),
                "true".to_owned(),
            )]));
        }
        if !GATES.split(' ').chain(GATES_OFF.split(' ')).any(|it| it == name) {
            warnings.push(format!("unrecognized feature gate: {name}"));
        } else if !on && GATES.split(' ').any(|it| it == name) {
            warnings.push(format!("feature gate {name} cannot be switched off on this kubelet"));
        }
        gates.insert(name.clone(), on);
    }
    Ok(gates)
}

fn percent(doc: &Doc, field: &str) -> Result<u8, ConfigurationError> {
    let value: u8 = doc.number(field)?;
    if value > 100 { Err(doc.invalid(field, "must be between 0 and 100")) } else { Ok(value) }
}

fn positive<T: TryFrom<i64> + PartialOrd + From<u8>>(
    doc: &Doc,
    field: &str,
) -> Result<T, ConfigurationError> {
    let value: T = doc.number(field)?;
    if value < T::from(1) { Err(doc.invalid(field, "must be greater than 0")) } else { Ok(value) }
}

fn within(
    doc: &Doc,
    field: &str,
    range: std::ops::RangeInclusive<Duration>,
) -> Result<Duration, ConfigurationError> {
    let value = doc.duration(field)?;
    if range.contains(&value) {
        Ok(value)
    } else {
        Err(doc.invalid(field, &format!("must be between {:?} and {:?}", range.start(), range.end())))
    }
}

fn invalid(field: &str, value: &str, reason: &str) -> ConfigurationError {
    ConfigurationError::Invalid {
        field: field.to_owned(),
        value: value.to_owned(),
        reason: reason.to_owned(),
    }
}

/// Typed reads; the table has checked the types and filled in the defaults.
pub(super) struct Doc<'a>(&'a Value);

impl<'a> Doc<'a> {
    pub(super) fn at(&self, field: &str) -> Option<&'a Value> {
        field.split('.').try_fold(self.0, |value, part| value.get(part))
    }

    pub(super) fn invalid(&self, field: &str, reason: &str) -> ConfigurationError {
        invalid(field, &self.at(field).map(ToString::to_string).unwrap_or_default(), reason)
    }

    pub(super) fn bool(&self, field: &str) -> bool {
        self.at(field).and_then(Value::as_bool).unwrap_or_default()
    }

    pub(super) fn text(&self, field: &str) -> &'a str {
        self.at(field).and_then(Value::as_str).unwrap_or_default()
    }

    pub(super) fn texts(&self, field: &str) -> Vec<String> {
        let list = self.at(field).and_then(Value::as_array).into_iter().flatten();
        list.filter_map(|it| it.as_str().map(str::to_owned)).collect()
    }

    pub(super) fn map(&self, field: &str) -> BTreeMap<String, String> {
        let map = self.at(field).and_then(Value::as_object).into_iter().flatten();
        map.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
    }

    pub(super) fn path(&self, field: &str) -> Option<PathBuf> {
        Some(PathBuf::from(self.text(field))).filter(|it| !it.as_os_str().is_empty())
    }

    pub(super) fn number<T: TryFrom<i64>>(&self, field: &str) -> Result<T, ConfigurationError> {
        let value = self.at(field).and_then(Value::as_i64).unwrap_or_default();
        T::try_from(value).map_err(|_| self.invalid(field, "is out of range"))
    }

    pub(super) fn duration(&self, field: &str) -> Result<Duration, ConfigurationError> {
        let duration =
            GoDuration::parse(self.text(field)).map_err(|err| self.invalid(field, &err.to_string()))?;
        if duration.nanos() < 0 {
            return Err(self.invalid(field, "must not be negative"));
        }
        Ok(duration.as_duration())
    }

    pub(super) fn quantity(&self, field: &str) -> Result<i64, ConfigurationError> {
        Ok(Quantity::parse(self.text(field)).map_err(|err| self.invalid(field, &err.to_string()))?.value())
    }

    pub(super) fn ip(&self, field: &str) -> Result<IpAddr, ConfigurationError> {
        self.text(field).parse().map_err(|_| self.invalid(field, "is no IP address"))
    }

    pub(super) fn each<T>(
        &self,
        field: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Vec<T>, ConfigurationError> {
        self.texts(field).iter().map(|it| parse(it).map_err(|reason| invalid(field, it, &reason))).collect()
    }
}
