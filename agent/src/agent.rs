//! `coracle agent`: a node of a cluster whose control plane is elsewhere.

use std::time::Duration;

use anyhow::{Context, Result};
use coracle_client::Backoff;
use coracle_kubelet::config::{Flags, KubeletConfig};
use kube::Client;
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::join::{self, ClusterFacts, Invitation, Membership};
use crate::node::{self, Clients, Parts};
use crate::preflight::Needs;
use crate::settings::{NodeSettings, Role, Started};
use crate::supervise::Rooms;
use crate::{api_client, started};

/// Between questions to a server that does not answer.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Joins the cluster unless that was done before, and runs the node until it is told to stop. Pods run on afterwards.
pub async fn run(settings: NodeSettings, invitation: Invitation) -> Result<()> {
    let _lock = started::claim(&settings)?;
    let runtime = started::runtime(&settings)?;
    started::look(Needs { node: &settings, runtime: Some(runtime.as_ref()), api: None }).await?;
    let member = settings.layout().membership();
    let mut role = Started { node: settings.clone(), cluster_dns: None, role: Role::Agent };
    join::join(&invitation, &member, &settings.node_name).await.context("join the cluster")?;
    started::remember(&role)?;
    started::import_images(&settings, &runtime).await?;

    let token = CancellationToken::new();
    let mut rooms: Rooms = JoinSet::new();
    let asking = kubelet_config(&settings, &member, None)?;
    let client = api_client::connect(&asking, &mut rooms, &token)
        .await?
        .context("the kubelet's configuration names no kubeconfig")?;
    member.forget_invitation()?;
    let facts = facts(&client, &member).await?;
    role.cluster_dns = facts.cluster_dns.first().copied();
    started::remember(&role)?;
    let kubelet = kubelet_config(&settings, &member, Some(&facts))?;
    // The node's rights cover what these two read.
    let clients = Clients { node: client.clone(), proxy: client.clone(), dns: client };
    let parts = Parts { settings: &settings, facts: &facts, kubelet, clients, runtime };
    node::start(parts, &mut rooms, &token).await?;
    tracing::info!(node = %settings.node_name, server = %invitation.server, "node is up");
    started::run(rooms, token).await
}

fn kubelet_config(
    settings: &NodeSettings,
    member: &Membership,
    facts: Option<&ClusterFacts>,
) -> Result<KubeletConfig> {
    let more = Flags {
        kubeconfig: Some(member.kubeconfig()),
        bootstrap_kubeconfig: Some(member.bootstrap_kubeconfig()),
        cert_dir: Some(member.pki()),
        overrides: json!({
            "rotateCertificates": true,
            "serverTLSBootstrap": true,
            "authentication": node::authentication(&member.ca()),
        }),
        ..Flags::default()
    };
    match facts {
        Some(facts) => node::kubelet_config(settings, &facts.cluster_domain, &facts.cluster_dns, more),
        None => node::kubelet_config(settings, "", &[], more),
    }
}

/// What the server says of the cluster; while it does not answer, what it said before.
async fn facts(client: &Client, member: &Membership) -> Result<ClusterFacts> {
    let mut pause = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
    loop {
        let error = match join::facts::fetch(client, member).await {
            Ok(facts) => return Ok(facts),
            Err(error) => error,
        };
        let error = format!("{error:#}");
        if let Some(facts) = join::facts::remembered(member) {
            tracing::warn!(error, "the server does not tell about its cluster, using what it said before");
            return Ok(facts);
        }
        tracing::warn!(error, "the server does not tell about its cluster, will ask again");
        tokio::time::sleep(pause.next_jittered()).await;
    }
}
