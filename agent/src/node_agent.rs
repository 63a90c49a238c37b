//! One kubelet with its server and its housekeeping: what `coracle` and the `kubelet` program both run.

use std::sync::Arc;

use anyhow::{Context, Result};
use coracle_cri::RuntimeHandle;
use coracle_kubelet::config::KubeletConfig;
use coracle_kubelet::{Kubelet, KubeletDeps};
use kube::Client;
use tokio_util::sync::CancellationToken;

use crate::supervise::Rooms;

/// Starts a kubelet; its tasks join `rooms` and end with `token`.
pub async fn start(
    config: KubeletConfig,
    client: Option<Client>,
    runtime: RuntimeHandle,
    rooms: &mut Rooms,
    token: &CancellationToken,
) -> Result<()> {
    coracle_kubelet::node::settle(&config.process);
    let config = Arc::new(config);
    let kubelet = Kubelet::new(KubeletDeps { config, client, runtime }).await.context("start the kubelet")?;
    let stop = token.child_token();
    rooms.spawn(async move { ("kubelet", kubelet.run(stop).await.context("run the kubelet")) });
    Ok(())
}
