//! `coracle server`: the control plane, and a node unless told otherwise, in one process; its rooms are started in the
//! order in which they need each other.

mod objects; // what a fresh cluster holds besides the API server's own

use anyhow::{Context, Result};
use coracle_control::{ControlConfig, ControlPlane};
use coracle_cri::RuntimeHandle;
use coracle_kubelet::config::Flags;
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::join::ClusterFacts;
use crate::node::{self, Clients, Parts};
use crate::preflight::Needs;
use crate::settings::{Role, Settings, Started};
use crate::started;
use crate::supervise::Rooms;

/// Runs the cluster until it is told to stop. Pods run on afterwards.
pub async fn run(settings: Settings) -> Result<()> {
    let layout = settings.node.layout();
    let _lock = started::claim(&settings.node)?;
    layout.create_server().with_context(|| format!("make the folders below {}", layout.data().display()))?;
    let runtime = if settings.runs_node { Some(started::runtime(&settings.node)?) } else { None };
    started::look(Needs {
        node: &settings.node,
        runtime: runtime.as_deref(),
        api: Some(settings.api_address),
    })
    .await?;
    started::remember(&Started {
        node: settings.node.clone(),
        cluster_dns: Some(settings.cluster_dns),
        role: if settings.runs_node { Role::Server } else { Role::ControlPlane },
    })?;
    if let Some(runtime) = &runtime {
        started::import_images(&settings.node, runtime).await?;
    }

    let token = CancellationToken::new();
    let (control, tasks) = ControlPlane::start(control_config(&settings), token.child_token()).await?;
    let mut rooms: Rooms = JoinSet::new();
    rooms.spawn(async move { ("control plane", tasks.run().await.context("run the control plane")) });
    let facts = facts(&settings);
    objects::ensure(&control, &settings, &facts).await?;
    if let Some(runtime) = runtime {
        start_node(&settings, &facts, &control, runtime, (&mut rooms, &token)).await?;
    }
    tracing::info!(node = %settings.node.node_name, api = %settings.api_url(), "cluster is up");
    started::run(rooms, token).await
}

fn facts(settings: &Settings) -> ClusterFacts {
    ClusterFacts {
        cluster_domain: settings.cluster_domain.clone(),
        cluster_dns: vec![settings.cluster_dns],
        pod_cidrs: settings.pod_cidrs.iter().map(ToString::to_string).collect(),
        service_cidrs: vec![settings.service_cidr.to_string()],
    }
}

fn control_config(settings: &Settings) -> ControlConfig {
    let layout = settings.node.layout();
    ControlConfig {
        store: layout.store(),
        pki: layout.pki(),
        admin_kubeconfig: layout.admin_kubeconfig(),
        listen: settings.api_address,
        server_url: settings.api_url(),
        advertise: settings.node.node_ip,
        service_cidr: settings.service_cidr.to_string(),
        node_ports: settings.node_ports,
        pod_cidrs: settings.pod_cidrs.iter().map(ToString::to_string).collect(),
        node_masks: settings.node_masks,
        cluster_domain: settings.cluster_domain.clone(),
    }
}

/// The node in this process: its clients need no certificates, its kubelet serves with one that the plane made.
async fn start_node(
    settings: &Settings,
    facts: &ClusterFacts,
    control: &ControlPlane,
    runtime: RuntimeHandle,
    (rooms, token): (&mut Rooms, &CancellationToken),
) -> Result<()> {
    let node = &settings.node;
    let files = control
        .kubelet_serving(&node.node_name, node.node_ip)
        .await
        .context("issue the kubelet's serving certificate")?;
    let more = Flags {
        overrides: json!({
            "tlsCertFile": files.certificate,
            "tlsPrivateKeyFile": files.key,
            "authentication": node::authentication(&files.client_ca),
        }),
        ..Flags::default()
    };
    let kubelet = node::kubelet_config(node, &facts.cluster_domain, &facts.cluster_dns, more)?;
    let clients = Clients {
        node: control.node_client(&node.node_name),
        proxy: control.client("system:kube-proxy", &[]),
        dns: control.client(objects::DNS_USER, &[]),
    };
    node::start(Parts { settings: node, facts, kubelet, clients, runtime }, rooms, token).await
}
