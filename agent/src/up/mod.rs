//! `coracle up`: a whole cluster in one process, its rooms started in the order in which they need each other.

mod kubelet; // the node agent's configuration, as this process wants it
mod lock; // one process per data folder
mod objects; // what a fresh cluster holds besides the API server's own

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use coracle_control::{ControlConfig, ControlPlane};
use coracle_cri::{Remote, RuntimeHandle};
use coracle_dns::{Dns, DnsConfig};
use coracle_proxy::{PodTraffic, Proxy, ProxyConfig};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::images;
use crate::node_network::NodeNetwork;
use crate::preflight;
use crate::settings::Settings;
use crate::supervise::{self, Rooms};

/// Longest time that the rooms have to end.
const SHUTDOWN: Duration = Duration::from_secs(15);

/// The packet mark's bit that asks for masquerade: upstream's.
const MASQUERADE_BIT: u8 = 14;

/// The service proxy's nftables table.
pub const PROXY_TABLE: &str = "coracle";

/// Runs the cluster until it is told to stop. Pods run on afterwards.
pub async fn run(settings: Settings) -> Result<()> {
    let layout = settings.layout();
    layout.create().with_context(|| format!("make the folders below {}", layout.data().display()))?;
    let _lock = lock::take(&layout.run().join("lock"))?;
    let runtime: RuntimeHandle =
        Arc::new(Remote::connect(&settings.runtime_endpoint).context("reach the container runtime")?);
    let findings = preflight::check(&settings, runtime.as_ref()).await;
    if !findings.is_empty() {
        for finding in &findings {
            tracing::error!(%finding, "cannot start");
        }
        bail!("{} of the things a cluster needs are not so (see above)", findings.len());
    }
    write_settings(&settings)?;
    import_images(&settings, &runtime).await?;

    let token = CancellationToken::new();
    let (control, tasks) = ControlPlane::start(control_config(&settings), token.child_token()).await?;
    let mut rooms: Rooms = JoinSet::new();
    rooms.spawn(async move { ("control plane", tasks.run().await.context("run the control plane")) });
    objects::ensure(&control, &settings).await?;
    start_node(&settings, &control, runtime, &mut rooms, &token).await?;
    supervise::ready();
    tracing::info!(node = %settings.node_name, api = %settings.api_url(), "cluster is up");

    let outcome = supervise::until_stopped(&mut rooms).await;
    token.cancel();
    let drained = tokio::time::timeout(SHUTDOWN, async { while rooms.join_next().await.is_some() {} });
    if drained.await.is_err() {
        tracing::warn!("some work was still under way at the end");
    }
    outcome
}

/// Remembers the settings for the commands that speak with the running cluster.
fn write_settings(settings: &Settings) -> Result<()> {
    let path = settings.layout().settings();
    let text = serde_json::to_vec_pretty(settings).context("encode the settings")?;
    std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))
}

/// A bad archive is told and passed over: the pods that need it will say so too.
async fn import_images(settings: &Settings, runtime: &RuntimeHandle) -> Result<()> {
    let folder = settings.layout().images();
    let (imported, failed) =
        images::import_folder(&folder, &settings.runtime_endpoint, runtime.as_ref()).await?;
    for image in imported {
        tracing::info!(%image, "image imported");
    }
    for error in failed {
        tracing::error!(error = %coracle_client::report(&error), "image archive not imported");
    }
    Ok(())
}

fn control_config(settings: &Settings) -> ControlConfig {
    let layout = settings.layout();
    ControlConfig {
        store: layout.store(),
        pki: layout.pki(),
        admin_kubeconfig: layout.admin_kubeconfig(),
        listen: settings.api_address,
        server_url: settings.api_url(),
        advertise: settings.node_ip,
        service_cidr: settings.service_cidr.to_string(),
        node_ports: settings.node_ports,
        pod_cidr: settings.pod_cidr.to_string(),
        cluster_domain: settings.cluster_domain.clone(),
    }
}

/// Starts what belongs to the node: network, kubelet, service proxy, DNS.
async fn start_node(
    settings: &Settings,
    control: &ControlPlane,
    runtime: RuntimeHandle,
    rooms: &mut Rooms,
    token: &CancellationToken,
) -> Result<()> {
    let node = control.node_client(&settings.node_name);
    let network = NodeNetwork::install(settings).context("put the CNI plugins in place")?;
    let stop = token.child_token();
    let client = node.clone();
    rooms.spawn(async move {
        network.run(client, stop).await;
        ("pod network", Ok(()))
    });
    kubelet::start(settings, control, node, runtime, rooms, token).await?;

    let proxy_client = control.client("system:kube-proxy", &[]);
    let proxy = Proxy::new(proxy_config(settings), proxy_client.clone());
    let stop = token.child_token();
    rooms.spawn(async move { ("service proxy", proxy.run(stop).await.context("run the service proxy")) });
    let dns = DnsConfig::new(vec![settings.cluster_dns], settings.cluster_domain.clone());
    let dns = Dns::new(dns, control.client(objects::DNS_USER, &[]));
    let stop = token.child_token();
    rooms.spawn(async move { ("DNS", dns.run(stop).await.context("serve cluster DNS")) });
    Ok(())
}

fn proxy_config(settings: &Settings) -> ProxyConfig {
    ProxyConfig {
        node_name: settings.node_name.clone(),
        node_ips: vec![settings.node_ip],
        pod_traffic: PodTraffic::Interface(settings.bridge.clone()),
        localhost_node_ports: true,
        masquerade_bit: MASQUERADE_BIT,
        table: PROXY_TABLE.to_owned(),
        healthz: Some((std::net::Ipv4Addr::UNSPECIFIED, settings.proxy_healthz_port).into()),
    }
}
