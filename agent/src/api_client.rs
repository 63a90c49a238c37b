//! The kubelet's way to the API server: the kubeconfig as it is, asked for first, or renewed while the kubelet runs.

use std::path::Path;

use anyhow::{Context, Result};
use coracle_client::{from_kubeconfig, from_kubeconfig_as, renewable};
use coracle_kubelet::certificate::{self, Bootstrap, CLIENT, CertificateStore, Keeping, Wish};
use coracle_kubelet::config::KubeletConfig;
use jiff::Timestamp;
use kube::Client;
use tokio_util::sync::CancellationToken;

use crate::supervise::Rooms;

const AGENT: &str = "kubelet";

/// A client, if there is a kubeconfig at all. With `--bootstrap-kubeconfig` and no usable kubeconfig this waits until
/// the cluster has signed a certificate.
pub async fn connect(
    config: &KubeletConfig,
    rooms: &mut Rooms,
    token: &CancellationToken,
) -> Result<Option<Client>> {
    let Some(kubeconfig) = config.api.kubeconfig.clone() else { return Ok(None) };
    if let Some(bootstrap_kubeconfig) = config.api.bootstrap_kubeconfig.clone() {
        let with = Bootstrap {
            bootstrap_kubeconfig,
            kubeconfig: kubeconfig.clone(),
            cert_dir: config.server.cert_dir.clone(),
            node: config.node.name.clone(),
        };
        certificate::bootstrap(&with).await.context("join the cluster")?;
    }
    if config.api.rotate {
        return renewed(config, &kubeconfig, rooms, token).await.map(Some);
    }
    Ok(Some(from_kubeconfig(&kubeconfig, AGENT).await?))
}

/// A client whose certificate is renewed before it expires.
async fn renewed(
    config: &KubeletConfig,
    kubeconfig: &Path,
    rooms: &mut Rooms,
    token: &CancellationToken,
) -> Result<Client> {
    let store = CertificateStore::new(&config.server.cert_dir, CLIENT);
    let wish = Wish::client(&config.node.name);
    certificate::import(kubeconfig, &store, &wish).context("keep the node's certificate")?;
    let current = store.current().ok().flatten();
    let first = match current.filter(|it| it.is_valid(Timestamp::now()) && it.suits(&wish)) {
        Some(_) => from_kubeconfig_as(kubeconfig, &store.current_path(), AGENT).await?,
        None => from_kubeconfig(kubeconfig, AGENT).await?,
    };
    let (client, renewal) = renewable(first);
    let (identity, kubeconfig) = (store.current_path(), kubeconfig.to_owned());
    let renewed = move |_| {
        let (renewal, identity, kubeconfig) = (renewal.clone(), identity.clone(), kubeconfig.clone());
        async move {
            match from_kubeconfig_as(&kubeconfig, &identity, AGENT).await {
                Ok(next) => renewal.replace(next),
                Err(error) => {
                    let error = coracle_client::report(&error);
                    tracing::error!(error, "the new certificate is of no use to the API client");
                }
            }
        }
    };
    let keeping = Keeping { client: client.clone(), store, wish };
    let stop = token.child_token();
    rooms.spawn(async move {
        certificate::keep(keeping, renewed, stop).await;
        ("certificates", Ok(()))
    });
    Ok(client)
}
