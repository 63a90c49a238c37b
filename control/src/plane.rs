//! The parts, put together and started in the order in which they need each other.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use coracle_api::auth::{AnonymousPolicy, Pki, PkiOptions, UserInfo};
use coracle_api::connect::Connector;
use coracle_api::{ApiConfig, ApiServer, Cidr};
use coracle_controllers::ControllersConfig;
use coracle_scheduler::SchedulerConfig;
use coracle_store::{Sqlite, Store};
use kube::Client;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::authority::Authority;
use crate::config::{ControlConfig, ServingFiles};
use crate::error::ControlError;
use crate::identities;

/// The running cluster side. What it gives out are clients.
pub struct ControlPlane {
    api: Arc<ApiServer>,
    pki: Arc<Pki>,
    pki_folder: std::path::PathBuf,
}

/// The tasks of a control plane: wait for them with [`ControlTasks::run`].
pub struct ControlTasks {
    tasks: JoinSet<&'static str>,
    token: CancellationToken,
}

impl ControlPlane {
    /// Opens certificates and store, then starts the API server, the controllers and the scheduler. When this
    /// returns the server answers; everything ends with `token`.
    pub async fn start(
        config: ControlConfig,
        token: CancellationToken,
    ) -> Result<(Self, ControlTasks), ControlError> {
        let service_cidr: Cidr =
            config.service_cidr.parse().map_err(|error: coracle_api::CidrError| ControlError::Config {
                what: "service CIDR",
                value: config.service_cidr.clone(),
                reason: error.to_string(),
            })?;
        let pod_ranges = ControllersConfig {
            cluster_cidrs: config.pod_cidrs.clone(),
            node_masks: config.node_masks,
            ..ControllersConfig::default()
        };
        pod_ranges.check().map_err(|error| ControlError::Config {
            what: "pod CIDR",
            value: config.pod_cidrs.join(","),
            reason: error.to_string(),
        })?;
        let pki = open_pki(&config, service_cidr.address(1)).await?;
        let store = open_store(&config.store).await?;
        let listener = TcpListener::bind(config.listen)
            .await
            .map_err(|source| ControlError::Listen { address: config.listen, source })?;
        let api = Arc::new(
            ApiServer::new(api_config(&config, service_cidr, &pki, store)?)
                .await
                .map_err(|error| ControlError::Api(error.status().message.clone()))?,
        );
        let mut tasks = JoinSet::new();
        let tls = pki.server_config().map_err(pki_error(&config.pki))?;
        let (server, stop) = (Arc::clone(&api), token.clone());
        tasks.spawn(async move {
            server.serve(listener, tls, stop).await;
            server.shutdown().await;
            "API server"
        });
        let plane = Self { api, pki, pki_folder: config.pki.clone() };
        plane.write_admin_kubeconfig(&config).await?;
        plane.start_controllers(&config, &mut tasks, &token);
        plane.start_scheduler(&mut tasks, &token);
        Ok((plane, ControlTasks { tasks, token }))
    }

    /// A client in this process for a user of these groups.
    pub fn client(&self, name: &str, groups: &[&str]) -> Client {
        self.client_of(identities::user(name, groups))
    }

    /// A client in this process for a node's kubelet.
    pub fn node_client(&self, node: &str) -> Client {
        self.client_of(identities::node(node))
    }

    fn client_of(&self, user: UserInfo) -> Client {
        coracle_client::in_process(self.api.service(user))
    }

    /// The certificate with which a node's kubelet serves; made when it is missing or near its end.
    pub async fn kubelet_serving(&self, node: &str, address: IpAddr) -> Result<ServingFiles, ControlError> {
        let (pki, owned, folder) = (Arc::clone(&self.pki), node.to_owned(), self.pki_folder.clone());
        blocking(move || pki.kubelet_serving(&owned, &[address]).map_err(pki_error(&folder))).await?;
        Ok(ServingFiles {
            certificate: self.pki_folder.join(format!("kubelet-{node}.crt")),
            key: self.pki_folder.join(format!("kubelet-{node}.key")),
            client_ca: self.pki_folder.join("ca.crt"),
        })
    }

    /// The CA's certificate in PEM.
    pub fn ca_pem(&self) -> &str {
        self.pki.ca_pem()
    }

    async fn write_admin_kubeconfig(&self, config: &ControlConfig) -> Result<(), ControlError> {
        let (pki, config) = (Arc::clone(&self.pki), config.clone());
        blocking(move || {
            let failed = pki_error(&config.pki);
            let admin = pki.admin().map_err(&failed)?;
            pki.write_kubeconfig(&config.admin_kubeconfig, &config.server_url, "admin", &admin)
                .map_err(failed)
        })
        .await
    }

    fn start_controllers(
        &self,
        config: &ControlConfig,
        tasks: &mut JoinSet<&'static str>,
        token: &CancellationToken,
    ) {
        let controllers = ControllersConfig {
            root_ca_pem: self.pki.ca_pem().to_owned(),
            cluster_cidrs: config.pod_cidrs.clone(),
            service_cidrs: vec![config.service_cidr.clone()],
            node_masks: config.node_masks,
            server_addresses: vec![config.advertise],
            authority: Some(Arc::new(Authority(Arc::clone(&self.pki)))),
        };
        let (api, stop) = (Arc::clone(&self.api), token.clone());
        tasks.spawn(async move {
            let client = |name: &str| coracle_client::in_process(api.service(identities::controller(name)));
            coracle_controllers::run(controllers, client, stop).await;
            "controllers"
        });
    }

    fn start_scheduler(&self, tasks: &mut JoinSet<&'static str>, token: &CancellationToken) {
        let (client, stop) = (self.client(identities::SCHEDULER, &[]), token.clone());
        tasks.spawn(async move {
            coracle_scheduler::run(SchedulerConfig::default(), client, stop).await;
            "scheduler"
        });
    }
}

impl ControlTasks {
    /// Waits until the token is cancelled and every task has ended; a task that ends before that is an error.
    pub async fn run(mut self) -> Result<(), ControlError> {
        while let Some(ended) = self.tasks.join_next().await {
            if !self.token.is_cancelled() {
                return Err(ControlError::Ended { part: ended.unwrap_or("control plane") });
            }
        }
        Ok(())
    }
}

fn api_config(
    config: &ControlConfig,
    service_cidr: Cidr,
    pki: &Pki,
    store: Arc<dyn Store>,
) -> Result<ApiConfig, ControlError> {
    let failed = pki_error(&config.pki);
    let issuer = format!("https://kubernetes.default.svc.{}", config.cluster_domain);
    let tokens = pki.token_authority(&issuer, vec![issuer.clone()]).map_err(&failed)?;
    Ok(ApiConfig {
        store,
        client_certificates: pki.client_verifier().map_err(&failed)?,
        tokens: Arc::new(tokens),
        anonymous: AnonymousPolicy::default(),
        service_cidrs: vec![service_cidr],
        cluster_domain: config.cluster_domain.clone(),
        advertise: SocketAddr::new(config.advertise, config.listen.port()),
        connect: Some(Arc::new(Connector::of_pki(pki).map_err(&failed)?)),
    })
}

async fn open_pki(config: &ControlConfig, kubernetes: IpAddr) -> Result<Arc<Pki>, ControlError> {
    let options = PkiOptions {
        cluster_domain: config.cluster_domain.clone(),
        addresses: vec![kubernetes, config.advertise, IpAddr::from([127, 0, 0, 1])],
        names: vec!["localhost".to_owned()],
    };
    let folder = config.pki.clone();
    blocking(move || Pki::open(&folder, &options).map(Arc::new).map_err(pki_error(&folder))).await
}

async fn open_store(file: &Path) -> Result<Arc<dyn Store>, ControlError> {
    let file = file.to_owned();
    let store =
        blocking(move || Sqlite::open(&file, coracle_store::Options::default()).map_err(ControlError::Store))
            .await?;
    Ok(Arc::new(store))
}

/// Files and certificates on a thread that may wait.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ControlError> + Send + 'static,
) -> Result<T, ControlError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| ControlError::Api(error.to_string()))?
}

fn pki_error(folder: &Path) -> impl Fn(coracle_api::auth::pki::PkiError) -> ControlError {
    let path = folder.to_owned();
    move |source| ControlError::Pki { path: path.clone(), source: Box::new(source) }
}
