//! The kubelet inside `coracle up`: what the cluster's settings say of its configuration.

use anyhow::{Context, Result};
use coracle_control::ControlPlane;
use coracle_cri::RuntimeHandle;
use coracle_kubelet::config::{self, Flags};
use kube::Client;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::node_agent;
use crate::settings::Settings;
use crate::supervise::Rooms;

/// Starts the kubelet and its server.
pub async fn start(
    settings: &Settings,
    control: &ControlPlane,
    client: Client,
    runtime: RuntimeHandle,
    rooms: &mut Rooms,
    token: &CancellationToken,
) -> Result<()> {
    let certificate = control
        .kubelet_serving(&settings.node_name, settings.node_ip)
        .await
        .context("issue the kubelet's serving certificate")?;
    let flags = flags(settings, &certificate);
    let loaded = config::load(&flags).context("configure the kubelet")?;
    for warning in &loaded.warnings {
        tracing::warn!(%warning, "kubelet configuration");
    }
    node_agent::start(loaded.config, Some(client), runtime, rooms, token).await
}

/// Files of the kubelet's serving certificate and of the CA that signs its clients' certificates.
pub use coracle_control::ServingFiles;

/// A user's KubeletConfiguration comes first; what this cluster is made of goes over it.
fn flags(settings: &Settings, files: &ServingFiles) -> Flags {
    let layout = settings.layout();
    Flags {
        config: settings.kubelet_config.clone(),
        root_dir: Some(layout.kubelet()),
        hostname_override: Some(settings.node_name.clone()),
        node_ips: vec![settings.node_ip],
        overrides: json!({
            "containerRuntimeEndpoint": settings.runtime_endpoint,
            "staticPodPath": layout.manifests(),
            "podLogsDir": layout.pod_logs(),
            "port": settings.kubelet_port,
            "healthzPort": settings.kubelet_healthz_port,
            "clusterDNS": [settings.cluster_dns],
            "clusterDomain": settings.cluster_domain,
            "cgroupRoot": settings.cgroup_root,
            "failCgroupV1": false,
            "failSwapOn": false,
            "tlsCertFile": files.certificate,
            "tlsPrivateKeyFile": files.key,
            "authentication": {
                "anonymous": {"enabled": false},
                "webhook": {"enabled": true},
                "x509": {"clientCAFile": files.client_ca},
            },
            "authorization": {"mode": "Webhook"},
        }),
        ..Flags::default()
    }
}
