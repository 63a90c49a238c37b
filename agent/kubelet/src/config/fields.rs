//! `KubeletConfiguration v1beta1` as a table: every field with its type, its default and what we do with it.

/// What a field holds.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Bool,
    Int,
    Float,
    Text,
    /// Go's `1m0s`; zero means the default.
    Duration,
    Texts,
    Ints,
    /// A map of strings.
    Map,
    /// A map of lists of strings.
    ListMap,
    /// A map of switches.
    Switches,
    /// Anything: read by its own code, or not at all.
    Any,
    Object(&'static [Field]),
    Objects(&'static [Field]),
}

/// What we do with a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// It has its effect.
    Honoured,
    /// A value other than the default is refused by name at start.
    Refused,
    /// Has no meaning any more, or none on this kubelet, or nothing reads it yet: accepted, and a warning when set.
    Legacy,
}

/// A row of the table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// JSON text; empty: absent.
    pub(super) default: &'static str,
    pub(super) then: Use,
}

const fn honoured(name: &'static str, kind: Kind, default: &'static str) -> Field {
    Field { name, kind, default, then: Use::Honoured }
}

const fn refused(name: &'static str, kind: Kind, default: &'static str) -> Field {
    Field { name, kind, default, then: Use::Refused }
}

const fn legacy(name: &'static str, kind: Kind, default: &'static str) -> Field {
    Field { name, kind, default, then: Use::Legacy }
}

use Kind::{Any, Bool, Duration, Float, Int, Ints, ListMap, Map, Object, Objects, Switches, Text, Texts};

/// The top level, in the order of the checklist.
pub(super) const FIELDS: &[Field] = &[
    honoured("apiVersion", Text, ""),
    honoured("kind", Text, ""),
    // Process, sources, server
    honoured("enableServer", Bool, "true"),
    honoured("staticPodPath", Text, r#""""#),
    honoured("podLogsDir", Text, r#""/var/log/pods""#),
    honoured("syncFrequency", Duration, r#""1m0s""#),
    honoured("fileCheckFrequency", Duration, r#""20s""#),
    honoured("httpCheckFrequency", Duration, r#""20s""#),
    honoured("staticPodURL", Text, r#""""#),
    honoured("staticPodURLHeader", ListMap, ""),
    honoured("address", Text, r#""0.0.0.0""#),
    honoured("port", Int, "10250"),
    refused("readOnlyPort", Int, "0"),
    honoured("healthzPort", Int, "10248"),
    honoured("healthzBindAddress", Text, r#""127.0.0.1""#),
    honoured("oomScoreAdj", Int, "-999"),
    honoured("maxOpenFiles", Int, "1000000"),
    refused("runOnce", Bool, "false"),
    honoured("featureGates", Switches, ""),
    legacy("logging", Any, ""),
    refused("tracing", Any, ""),
    legacy("showHiddenMetricsForVersion", Text, r#""""#),
    legacy("contentType", Text, r#""application/vnd.kubernetes.protobuf""#),
    honoured("kubeAPIQPS", Int, "50"),
    honoured("kubeAPIBurst", Int, "100"),
    honoured("eventRecordQPS", Int, "50"),
    honoured("eventBurst", Int, "100"),
    // TLS, authentication, authorization
    honoured("tlsCertFile", Text, r#""""#),
    honoured("tlsPrivateKeyFile", Text, r#""""#),
    honoured("tlsCipherSuites", Texts, ""),
    honoured("tlsCurvePreferences", Ints, ""),
    honoured("tlsMinVersion", Text, r#""""#),
    honoured("rotateCertificates", Bool, "false"),
    honoured("serverTLSBootstrap", Bool, "false"),
    honoured("authentication", Object(AUTHENTICATION), "{}"),
    honoured("authorization", Object(AUTHORIZATION), "{}"),
    honoured("enableDebuggingHandlers", Bool, "true"),
    legacy("enableContentionProfiling", Bool, "false"),
    legacy("enableProfilingHandler", Bool, "true"),
    legacy("enableDebugFlagsHandler", Bool, "true"),
    honoured("enableSystemLogHandler", Bool, "true"),
    refused("enableSystemLogQuery", Bool, "false"),
    honoured("streamingConnectionIdleTimeout", Duration, r#""4h0m0s""#),
    // Node registration and heartbeat
    honoured("registerNode", Bool, "true"),
    honoured("registerWithTaints", Objects(TAINT), ""),
    honoured("providerID", Text, r#""""#),
    honoured("nodeStatusUpdateFrequency", Duration, r#""10s""#),
    honoured("nodeStatusReportFrequency", Duration, r#""5m0s""#),
    honoured("nodeLeaseDurationSeconds", Int, "40"),
    honoured("nodeStatusMaxImages", Int, "50"),
    honoured("podCIDR", Text, r#""""#),
    honoured("maxPods", Int, "110"),
    honoured("podsPerCore", Int, "0"),
    honoured("clusterDomain", Text, r#""""#),
    honoured("clusterDNS", Texts, "[]"),
    honoured("resolvConf", Text, r#""/etc/resolv.conf""#),
    legacy("hairpinMode", Text, r#""promiscuous-bridge""#),
    // Runtime, images
    honoured("containerRuntimeEndpoint", Text, r#""unix:///run/containerd/containerd.sock""#),
    honoured("imageServiceEndpoint", Text, r#""""#),
    honoured("runtimeRequestTimeout", Duration, r#""2m0s""#),
    honoured("serializeImagePulls", Bool, ""),
    honoured("maxParallelImagePulls", Int, ""),
    honoured("registryPullQPS", Int, "5"),
    honoured("registryBurst", Int, "10"),
    honoured("imagePullCredentialsVerificationPolicy", Text, r#""NeverVerifyPreloadedImages""#),
    honoured("preloadedImagesVerificationAllowlist", Texts, ""),
    honoured("imageMinimumGCAge", Duration, r#""2m0s""#),
    honoured("imageMaximumGCAge", Duration, r#""0s""#),
    honoured("imageGCHighThresholdPercent", Int, "85"),
    honoured("imageGCLowThresholdPercent", Int, "80"),
    honoured("crashLoopBackOff", Object(CRASH_LOOP), "{}"),
    // cgroups, CPU, memory, topology
    honoured("kubeletCgroups", Text, r#""""#),
    refused("systemCgroups", Text, r#""""#),
    honoured("cgroupRoot", Text, r#""""#),
    refused("cgroupsPerQOS", Bool, "true"),
    honoured("cgroupDriver", Text, r#""cgroupfs""#),
    honoured("failCgroupV1", Bool, "true"),
    refused("cpuManagerPolicy", Text, r#""none""#),
    refused("cpuManagerPolicyOptions", Map, ""),
    legacy("cpuManagerReconcilePeriod", Duration, r#""10s""#),
    refused("memoryManagerPolicy", Text, r#""None""#),
    refused("reservedMemory", Objects(RESERVED_MEMORY), ""),
    refused("topologyManagerPolicy", Text, r#""none""#),
    legacy("topologyManagerScope", Text, r#""container""#),
    refused("topologyManagerPolicyOptions", Map, ""),
    refused("qosReserved", Map, ""),
    honoured("cpuCFSQuota", Bool, "true"),
    honoured("cpuCFSQuotaPeriod", Duration, r#""100ms""#),
    refused("reservedSystemCPUs", Text, r#""""#),
    honoured("systemReserved", Map, ""),
    honoured("kubeReserved", Map, ""),
    honoured("systemReservedCgroup", Text, r#""""#),
    honoured("kubeReservedCgroup", Text, r#""""#),
    honoured("enforceNodeAllocatable", Texts, r#"["pods"]"#),
    refused("singleProcessOOMKill", Bool, ""),
    legacy("memoryThrottlingFactor", Float, "0.9"),
    refused("memoryReservationPolicy", Text, r#""None""#),
    honoured("podPidsLimit", Int, "-1"),
    refused("kernelMemcgNotification", Bool, "false"),
    refused("protectKernelDefaults", Bool, "false"),
    honoured("failSwapOn", Bool, "true"),
    refused("memorySwap", Object(MEMORY_SWAP), "{}"),
    refused("userNamespaces", Object(USER_NAMESPACES), "{}"),
    honoured("seccompDefault", Bool, "false"),
    honoured("allowedUnsafeSysctls", Texts, "[]"),
    // Eviction, logs, shutdown
    honoured("evictionHard", Map, ""),
    refused("evictionSoft", Map, ""),
    refused("evictionSoftGracePeriod", Map, ""),
    legacy("evictionPressureTransitionPeriod", Duration, r#""5m0s""#),
    legacy("evictionMaxPodGracePeriod", Int, "0"),
    refused("evictionMinimumReclaim", Map, ""),
    honoured("mergeDefaultEvictionSettings", Bool, "false"),
    honoured("containerLogMaxSize", Text, r#""10Mi""#),
    honoured("containerLogMaxFiles", Int, "5"),
    honoured("containerLogMaxWorkers", Int, "1"),
    honoured("containerLogMonitorInterval", Duration, r#""10s""#),
    honoured("shutdownGracePeriod", Duration, r#""0s""#),
    honoured("shutdownGracePeriodCriticalPods", Duration, r#""0s""#),
    honoured("shutdownGracePeriodByPodPriority", Objects(SHUTDOWN), ""),
    // Volumes, configuration, network rules
    legacy("volumeStatsAggPeriod", Duration, r#""1m0s""#),
    legacy("volumePluginDir", Text, r#""/usr/libexec/kubernetes/kubelet-plugins/volume/exec/""#),
    legacy("enableControllerAttachDetach", Bool, "true"),
    refused("configMapAndSecretChangeDetectionStrategy", Text, r#""Watch""#),
    honoured("localStorageCapacityIsolation", Bool, "true"),
    legacy("makeIPTablesUtilChains", Bool, "true"),
    legacy("iptablesMasqueradeBit", Int, "14"),
    legacy("iptablesDropBit", Int, "15"),
];

const AUTHENTICATION: &[Field] = &[
    honoured("x509", Object(&[honoured("clientCAFile", Text, r#""""#)]), "{}"),
    honoured(
        "webhook",
        Object(&[honoured("enabled", Bool, "true"), honoured("cacheTTL", Duration, r#""2m0s""#)]),
        "{}",
    ),
    honoured("anonymous", Object(&[honoured("enabled", Bool, "false")]), "{}"),
];

const AUTHORIZATION: &[Field] = &[
    honoured("mode", Text, r#""Webhook""#),
    honoured(
        "webhook",
        Object(&[
            honoured("cacheAuthorizedTTL", Duration, r#""5m0s""#),
            honoured("cacheUnauthorizedTTL", Duration, r#""30s""#),
        ]),
        "{}",
    ),
];

const CRASH_LOOP: &[Field] = &[honoured("maxContainerRestartPeriod", Duration, r#""5m0s""#)];
const MEMORY_SWAP: &[Field] = &[refused("swapBehavior", Text, r#""""#)];
const USER_NAMESPACES: &[Field] = &[honoured("idsPerPod", Int, "65536")];
const TAINT: &[Field] = &[
    honoured("key", Text, ""),
    honoured("value", Text, ""),
    honoured("effect", Text, ""),
    honoured("timeAdded", Text, ""),
];
const RESERVED_MEMORY: &[Field] = &[honoured("numaNode", Int, ""), honoured("limits", Map, "")];
const SHUTDOWN: &[Field] = &[honoured("priority", Int, ""), honoured("shutdownGracePeriodSeconds", Int, "")];

/// `evictionHard` where nothing is said.
pub(super) const EVICTION_HARD: &[(&str, &str)] = &[
    ("memory.available", "100Mi"),
    ("nodefs.available", "10%"),
    ("nodefs.inodesFree", "5%"),
    ("imagefs.available", "15%"),
    ("imagefs.inodesFree", "5%"),
];

/// Feature gates that upstream's kubelet knows; those not listed are warned about.
pub(super) const GATES: &str = "CPUCFSQuotaPeriod CPUManagerPolicyOptions DynamicResourceAllocation ExecProbeTimeout \
ImageMaximumGCAge ImageVolume InPlacePodVerticalScaling KubeletCgroupDriverFromCRI KubeletFineGrainedAuthz \
KubeletPodResourcesDynamicResources KubeletPodResourcesGet KubeletPSI KubeletTracing \
MutableCSINodeAllocatableCount NodeLogQuery NodeSwap PodLifecycleSleepAction PodLifecycleSleepActionAllowZero \
PodObservedGenerationTracking PodSchedulingReadiness ProcMountType RecoverVolumeExpansionFailure \
RecursiveReadOnlyMounts RelaxedDNSSearchValidation RelaxedEnvironmentVariableValidation SELinuxChangePolicy \
SELinuxMountReadWriteOncePod SidecarContainers SupplementalGroupsPolicy SystemdWatchdog \
TopologyManagerPolicyOptions UserNamespacesSupport CPUManagerPolicyBetaOptions ComponentFlagz ComponentStatusz \
ContainerCheckpoint ContainerRestartRules ContainerStopSignals DRAExtendedResource EnvFiles ExtendWebSocketsToKubelet \
GracefulNodeShutdown GracefulNodeShutdownBasedOnPodPriority HostnameOverride \
InPlacePodLevelResourcesVerticalScaling InPlacePodVerticalScalingInitContainers KubeletCrashLoopBackOffMax \
KubeletEnsureSecretPulledImages KubeletSeparateDiskGC KubeletServiceAccountTokenForCredentialProviders \
NodeDeclaredFeatures PLEGOnDemandRelist PodLevelResources PodReadyToStartContainersCondition PortForwardWebsockets \
PreventStaticPodAPIReferences ReloadKubeletClientCAFile ReloadKubeletServerCertificateFile ResourceHealthStatus \
ResourceHealthStatusMessage RestartAllContainersOnContainerExits RotateKubeletServerCertificate \
TopologyManagerPolicyBetaOptions TranslateStreamCloseWebsocketRequests WindowsGracefulNodeShutdown \
DisableCPUQuotaWithExclusiveCPUs DisableNodeKubeProxyVersion KubeletPodResourcesListUseActivePods";

/// Gates that are off by default upstream and that nothing here stands behind: refused when switched on.
pub(super) const GATES_OFF: &str = "ClusterTrustBundleProjection LocalStorageCapacityIsolationFSQuotaMonitoring \
PodCertificateRequest SELinuxMount CPUManagerPolicyAlphaOptions CRIListStreaming CSIVolumeHealth \
DRAWorkloadResourceClaims EventedPLEG ImageVolumeWithDigest \
InPlacePodVerticalScalingExclusiveCPUs InPlacePodVerticalScalingExclusiveMemory KubeletInUserNamespace MemoryQoS \
PodAndContainerStatsFromCRI PodLevelResourceManagers PodLogsQuerySplitStreams PodsAPI QOSReserved \
ReduceDefaultCrashLoopBackOffDecay RuntimeClassInImageCriAPI TaintTolerationComparisonOperators \
TopologyManagerPolicyAlphaOptions UserNamespacesHostNetworkSupport WindowsCPUAndMemoryAffinity \
AllowDNSOnlyNodeCSR ChangeContainerStatusOnKubeletRestart GitRepoVolumeDriver KubeletRegistrationGetOnExistsOnly";
