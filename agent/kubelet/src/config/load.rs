//! The whole way: files, flags, checks, structs.

use super::{ConfigurationError, Flags, KubeletConfig, document, resolve};

/// A configuration, and what should be said about it at start.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The configuration.
    pub config: KubeletConfig,
    /// Fields, flags and gates that have no effect.
    pub warnings: Vec<String>,
}

/// Reads the files that the flags name, puts the flags over them, checks and resolves all of it.
pub fn load(flags: &Flags) -> Result<Loaded, ConfigurationError> {
    let mut whole = document::read(flags.config.as_deref(), flags.config_dir.as_deref())?;
    document::merge(&mut whole, flags.overrides.clone());
    let mut warnings = document::complete(&mut whole)?;
    warnings.extend(flags.ignored.iter().map(|it| format!("--{it} has no effect on this kubelet")));
    let config = resolve::resolve(whole, flags, &mut warnings)?;
    Ok(Loaded { config, warnings })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{EvictionThreshold, Threshold};

    fn with(text: &str) -> Result<Loaded, ConfigurationError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        let head = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n";
        std::fs::write(file.path(), format!("{head}{text}")).unwrap();
        let mut flags = Flags::parse(&["--hostname-override=N1"]).unwrap();
        flags.config = Some(file.path().to_owned());
        load(&flags)
    }

    #[test]
    fn values_are_resolved() {
        let config = with(
            "kubeReserved: {cpu: 100m, memory: 1Gi}\nevictionHard: {memory.available: 5%, nodefs.available: 1Gi}\n\
             containerLogMaxSize: 1Mi\nmaxParallelImagePulls: 4\nclusterDNS: [10.96.0.10]\npodPidsLimit: 100",
        )
        .unwrap()
        .config;
        assert_eq!(config.node.name, "n1");
        assert_eq!(
            (config.resources.kube_reserved.cpu_milli, config.resources.kube_reserved.memory),
            (100, 1 << 30)
        );
        let below = |signal: &str, below| EvictionThreshold { signal: signal.to_owned(), below };
        assert_eq!(
            config.resources.eviction_hard,
            [
                below("memory.available", Threshold::Fraction(0.05)),
                below("nodefs.available", Threshold::Amount(1 << 30))
            ]
        );
        assert_eq!((config.logs.max_size, config.images.serialize_pulls), (Some(1 << 20), false));
        assert_eq!(config.resources.pod_pids_limit, Some(100));
        assert_eq!(config.document["maxPods"], 110);
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_its_field() {
        let check = |text: &str, want: &str| {
            let got = with(text).unwrap_err().to_string();
            assert!(got.contains(want), "{text:?}: {got}");
        };
        check("port: 70000", "port: invalid value 70000: is out of range");
        check("address: here", r#"address: invalid value "here": is no IP address"#);
        check(
            "evictionHard: {memory.free: 1Gi}",
            "evictionHard[memory.free]: invalid value 1Gi: is a signal that there is not",
        );
        check("evictionHard: {memory.available: 200%}", "must be between 0% and 100%");
        check(
            "kubeReserved: {gpu: '1'}",
            "kubeReserved[gpu]: invalid value 1: reserves a resource that there is not",
        );
        check("cgroupDriver: none", r#"cgroupDriver: invalid value "none": must be cgroupfs or systemd"#);
        check("imageGCLowThresholdPercent: 90", "must be less than imageGCHighThresholdPercent");
        check("containerLogMaxFiles: 1", "containerLogMaxFiles: invalid value 1: must be greater than 1");
        check("containerLogMonitorInterval: 1s", "must be at least 3s");
        check("containerLogMaxWorkers: 0", "must be greater than 0");
        check("imagePullCredentialsVerificationPolicy: Sometimes", "must be NeverVerify, ");
        check("preloadedImagesVerificationAllowlist: [a.example/b]", "can only be set with");
        let listed = "imagePullCredentialsVerificationPolicy: NeverVerifyAllowlistedImages\npreloadedImagesVerificationAllowlist: ";
        check(&format!("{listed}[busybox]"), "must be a whole repository");
        check(&format!("{listed}['a.example/*/b']"), "must be a whole repository");
        check("imageMaximumGCAge: 1m", "must be greater than imageMinimumGCAge");
        check("serializeImagePulls: true\nmaxParallelImagePulls: 3", "cannot be larger than 1");
        check("crashLoopBackOff: {maxContainerRestartPeriod: 10m}", "must be between 1s and 300s");
        check(
            "featureGates: {MemoryQoS: true}",
            "featureGates[MemoryQoS]: true is not supported by this kubelet",
        );
        check("registerWithTaints: [{key: a, effect: Now}]", "taint a has no effect that there is");
    }

    #[test]
    fn what_has_no_effect_is_said() {
        let warnings =
            with("hairpinMode: none\nfeatureGates: {Nope: true, EnvFiles: true}").unwrap().warnings;
        assert_eq!(
            warnings,
            ["hairpinMode has no effect on this kubelet", "unrecognized feature gate: Nope"]
        );
        let read = "imageMinimumGCAge: 3m\nimageMaximumGCAge: 1h\nimageGCHighThresholdPercent: 90\n\
                      imageGCLowThresholdPercent: 70\ncontainerLogMaxSize: 1Mi\ncontainerLogMaxFiles: 3\n\
                      containerLogMaxWorkers: 2\ncontainerLogMonitorInterval: 5s";
        assert_eq!(with(read).unwrap().warnings, Vec::<String>::new());
        assert_eq!(with("containerLogMaxSize: '-1'").unwrap().config.logs.max_size, None);
    }

    #[test]
    fn what_kubeadm_writes_is_accepted() {
        let text = "address: 0.0.0.0\nauthentication: {anonymous: {enabled: false}, webhook: {cacheTTL: 0s, enabled: true}, \
            x509: {clientCAFile: /etc/kubernetes/pki/ca.crt}}\nauthorization: {mode: Webhook, webhook: \
            {cacheAuthorizedTTL: 0s, cacheUnauthorizedTTL: 0s}}\ncgroupDriver: systemd\nclusterDNS: [10.96.0.10]\n\
            clusterDomain: cluster.local\ncontainerRuntimeEndpoint: \"\"\ncpuManagerReconcilePeriod: 0s\n\
            crashLoopBackOff: {}\nevictionPressureTransitionPeriod: 0s\nfileCheckFrequency: 0s\n\
            healthzBindAddress: 127.0.0.1\nhealthzPort: 10248\nhttpCheckFrequency: 0s\nimageMaximumGCAge: 0s\n\
            imageMinimumGCAge: 0s\nlogging: {flushFrequency: 0, options: {json: {infoBufferSize: '0'}, \
            text: {infoBufferSize: '0'}}, verbosity: 0}\nmemorySwap: {}\nnodeStatusReportFrequency: 0s\n\
            nodeStatusUpdateFrequency: 0s\nresolvConf: /run/systemd/resolve/resolv.conf\nrotateCertificates: true\n\
            runtimeRequestTimeout: 0s\nshutdownGracePeriod: 0s\nshutdownGracePeriodCriticalPods: 0s\n\
            staticPodPath: /etc/kubernetes/manifests\nstreamingConnectionIdleTimeout: 0s\nsyncFrequency: 0s\n\
            volumeStatsAggPeriod: 0s";
        let config = with(text).unwrap().config;
        assert_eq!(config.runtime.endpoint, "unix:///run/containerd/containerd.sock");
        assert!(config.api.rotate && config.shutdown.by_priority.is_empty());
        assert_eq!(config.dns.resolv_conf, std::path::Path::new("/run/systemd/resolve/resolv.conf"));
        assert_eq!(with("resolvConf: \"\"").unwrap().config.dns.resolv_conf, std::path::Path::new(""));
    }

    #[test]
    fn tls_and_shutdown_are_checked_by_name() {
        let check = |text: &str, want: &str| {
            let got = with(text).unwrap_err().to_string();
            assert!(got.contains(want), "{text:?}: {got}");
        };
        check("tlsMinVersion: VersionTLS9", "tlsMinVersion: invalid value");
        check(
            "tlsCipherSuites: [TLS_RSA_WITH_RC4_128_SHA]",
            r#"tlsCipherSuites: "TLS_RSA_WITH_RC4_128_SHA" is not supported"#,
        );
        check("tlsCurvePreferences: [25]", "tlsCurvePreferences: 25 is not supported");
        check(
            "shutdownGracePeriod: 10s\nshutdownGracePeriodCriticalPods: 20s",
            "must be <= shutdownGracePeriod",
        );
        check("shutdownGracePeriod: 500ms", "must be either zero or otherwise >= 1 sec");
        let both = "shutdownGracePeriod: 10s\nshutdownGracePeriodByPodPriority: [{priority: 0, shutdownGracePeriodSeconds: 5}]";
        check(both, "cannot be given together");
        check("staticPodURL: ftp://x", "is no http or https URL");
        let seconds = std::time::Duration::from_secs;
        let config = with("shutdownGracePeriod: 30s\nshutdownGracePeriodCriticalPods: 10s").unwrap().config;
        assert_eq!(config.shutdown.by_priority, [(0, seconds(20)), (2_000_000_000, seconds(10))]);
        let config = with("tlsMinVersion: VersionTLS13\ntlsCurvePreferences: [29]").unwrap().config;
        assert!(config.server.tls.only_13 && config.server.tls.groups == [rustls::NamedGroup::X25519]);
    }
}
