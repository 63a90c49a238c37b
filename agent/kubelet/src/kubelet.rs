//! The rooms put together: one kubelet.

use std::sync::Arc;
use std::time::Duration;

use coracle_client::{EventRecorder, report};
use coracle_cri::{CriError, RuntimeHandle, proto as v1};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::certificate::{self, CertificateStore, Keeping, Wish};
use crate::cgroup::{CgroupError, CgroupManager};
use crate::config::{CgroupDriver, KubeletConfig};
use crate::dbus::Bus;
use crate::events::{Events, Silent, ToApi};
use crate::gc::{self, Sweeper, SweeperDeps};
use crate::house::{House, Rooms};
use crate::image::{Accounts, NoAccounts, NodeCredentials, OfApi, Puller, PullerDeps, Records, Verification};
use crate::log;
use crate::metrics::Metrics;
use crate::node::{NodeDeps, NodeError, NodeReporter};
use crate::objects::{ObjectSource, Watched};
use crate::observe::{self, RelistDeps};
use crate::server::{self, ServerDeps, ServerError};
use crate::shutdown::{self, ShutdownDeps};
use crate::source::{SourceDeps, Sources};
use crate::stats::Stats;
use crate::translate::{ImageVolumes, RuntimeFeatures, TranslateDeps, Translator};
use crate::volume::{VolumeDeps, VolumeManager};
use crate::worker::{Api, Common, NoApi, PodApi, Roster, Tools};

/// How often everything is looked at, should a signal have been lost.
const RELIST: Duration = Duration::from_secs(45);

/// What a kubelet is made from.
#[derive(Clone)]
pub struct KubeletDeps {
    /// The resolved configuration.
    pub config: Arc<KubeletConfig>,
    /// The API server; none: static pods only.
    pub client: Option<kube::Client>,
    /// The container runtime.
    pub runtime: RuntimeHandle,
}

/// Why a kubelet cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum KubeletError {
    /// The machine's cgroups.
    #[error("set up cgroups")]
    Cgroups(#[source] CgroupError),
    /// The machine's facts.
    #[error("find out about this node")]
    Node(#[source] NodeError),
    /// The server on 10250 or the health port.
    #[error("serve the kubelet's API")]
    Server(#[source] ServerError),
    /// The runtime does not answer.
    #[error("look at what the container runtime has")]
    Runtime(#[source] CriError),
}

/// One kubelet. [`Kubelet::new`] touches nothing but cgroups; [`Kubelet::run`] does the work.
pub struct Kubelet {
    deps: KubeletDeps,
    rooms: Rooms,
    reporter: Arc<NodeReporter>,
    roster: Arc<Roster>,
    metrics: Arc<Metrics>,
    events: Arc<dyn Events>,
    verification: Arc<Verification>,
    tracker: TaskTracker,
    token: CancellationToken,
}

impl Kubelet {
    /// Puts the rooms together and looks once at what the runtime has. The tasks begin with [`Kubelet::run`].
    pub async fn new(deps: KubeletDeps) -> Result<Self, KubeletError> {
        let (tracker, token) = (TaskTracker::new(), CancellationToken::new());
        let metrics = Arc::new(Metrics::new());
        let config = with_runtimes_driver(&deps).await?;
        let deps = KubeletDeps { config: config.clone(), ..deps };
        let cgroups = CgroupManager::new(config.clone()).map_err(KubeletError::Cgroups)?;
        let (client, runtime) = (deps.client.clone(), deps.runtime.clone());
        let reporter = NodeReporter::new(NodeDeps { config: config.clone(), client, runtime });
        let reporter = reporter.await.map_err(KubeletError::Node)?;
        let objects: Arc<dyn ObjectSource> = Watched::new(deps.client.clone(), &tracker, token.clone());
        let volumes = VolumeManager::new(VolumeDeps {
            config: config.clone(),
            objects: objects.clone(),
            allocatable: reporter.facts().allocatable,
        });
        let version = deps.runtime.version().await.map_err(KubeletError::Runtime)?;
        let translator = Translator::new(TranslateDeps {
            config: config.clone(),
            objects: objects.clone(),
            node_ips: reporter.facts().ips.clone(),
            allocatable: reporter.facts().allocatable,
            features: features(&deps.runtime, &version).await.map_err(KubeletError::Runtime)?,
        });
        let client = deps.client.clone();
        let rooms = Rooms { config: config.clone(), client, cgroups, volumes, objects, translator };
        let events: Arc<dyn Events> = match deps.client.clone() {
            Some(client) => {
                let node = &config.node.name;
                let recorder = EventRecorder::start(client, "kubelet", node, &tracker, token.clone());
                Arc::new(ToApi { recorder, node: node.clone() })
            }
            None => Arc::new(Silent),
        };
        let api: Arc<dyn PodApi> = match deps.client.clone() {
            Some(client) => Arc::new(Api::new(client)),
            None => Arc::new(NoApi),
        };
        let verification = Verification::new(&config.images, Records::new(&config.paths.root));
        let accounts: Arc<dyn Accounts> = match deps.client.clone() {
            Some(client) => Arc::new(OfApi { client, objects: rooms.objects.clone() }),
            None => Arc::new(NoAccounts),
        };
        let puller = Puller::new(PullerDeps {
            runtime: deps.runtime.clone(),
            events: events.clone(),
            metrics: metrics.clone(),
            settings: config.images.clone(),
            node: Arc::new(NodeCredentials::new(&config.images, accounts)),
            verification: verification.clone(),
        });
        let (runtime, home) = (deps.runtime.clone(), House::new(rooms.clone()));
        let common = Common {
            tools: Tools { runtime, home, puller, api, events: events.clone(), metrics: metrics.clone() },
            node_ips: reporter.facts().ips.iter().map(ToString::to_string).collect(),
            runtime_name: version.runtime_name,
            max_backoff: config.pods.max_restart_period.max(Duration::from_secs(1)),
        };
        let found = observe::everything(&deps.runtime).await.map_err(KubeletError::Runtime)?;
        let roster = Roster::new(common, found, token.clone());
        Ok(Self { deps, rooms, reporter, roster, metrics, events, verification, tracker, token })
    }

    /// All pods of this node: for the server.
    pub fn roster(&self) -> Arc<Roster> {
        self.roster.clone()
    }

    /// Figures: for the server, and for rooms that add their own.
    pub fn metrics(&self) -> Arc<Metrics> {
        self.metrics.clone()
    }

    /// The Node's facts and readiness.
    pub fn reporter(&self) -> Arc<NodeReporter> {
        self.reporter.clone()
    }

    /// The rooms of pods: for the server's statistics.
    pub fn rooms(&self) -> &Rooms {
        &self.rooms
    }

    /// Runs pods until `token` is cancelled. Their containers go on without us.
    pub async fn run(self, token: CancellationToken) -> Result<(), KubeletError> {
        self.rooms.cgroups.ensure_qos_tree().await.map_err(KubeletError::Cgroups)?;
        // Before the first pull of this life.
        self.verification.recover(&self.deps.runtime).await;
        let deps = SourceDeps {
            config: self.deps.config.clone(),
            client: self.deps.client.clone(),
            roster: self.roster.clone(),
            metrics: self.metrics.clone(),
            shutting_down: self.reporter.shutting_down().subscribe(),
        };
        let sources = Sources::start(deps, &self.tracker, &self.token);
        let mut synced = sources.synced();
        let (rooms, roster) = (self.rooms.clone(), self.roster.clone());
        let (sweeper, of_sweeper) = (Sweeper::new(self.sweeper()), self.token.clone());
        self.tracker.spawn(async move {
            // An error says that the sources have ended before they told what they have: nothing is cleaned then.
            if synced.wait_for(|it| *it).await.is_ok() {
                gc::leftovers(&rooms, &roster).await;
                sweeper.run(of_sweeper).await;
            }
        });
        let (reporter, volumes) = (self.reporter.clone(), self.rooms.volumes.clone());
        let (of_node, of_volumes) = (self.token.clone(), self.token.clone());
        self.tracker.spawn(async move { reporter.run(of_node).await });
        self.tracker.spawn(async move { volumes.run(of_volumes).await });
        let relist = RelistDeps {
            runtime: self.deps.runtime.clone(),
            roster: self.roster.clone(),
            metrics: self.metrics.clone(),
            period: RELIST,
        };
        self.tracker.spawn(observe::run(relist, self.token.clone()));
        self.tracker.spawn(log::run(self.rotator(), self.token.clone()));
        let (tracker, of_sources) = (self.tracker.clone(), self.token.clone());
        self.tracker.spawn(async move { sources.run(&tracker, of_sources).await });
        self.keep_serving_certificate();
        let shutdown = ShutdownDeps {
            settings: self.deps.config.shutdown.clone(),
            roster: self.roster.clone(),
            metrics: self.metrics.clone(),
            shutting_down: self.reporter.shutting_down(),
            bus: Bus::SYSTEM.into(),
            logind_conf: "/etc/systemd/logind.conf.d".into(),
        };
        self.tracker.spawn(shutdown::run(shutdown, self.token.clone()));
        let mut serving = self.tracker.spawn(server::serve(self.server(), self.token.clone()));
        // A server that cannot begin ends the kubelet; all that runs is told to end below, either way.
        let ended = tokio::select! {
            () = token.cancelled() => Ok(()),
            ended = &mut serving => ended.unwrap_or(Ok(())).map_err(KubeletError::Server),
        };
        self.token.cancel();
        self.tracker.close();
        let all = tokio::time::timeout(Duration::from_secs(5), async {
            self.roster.drain().await;
            self.tracker.wait().await;
        });
        if all.await.is_err() {
            tracing::warn!("some work was still under way when the kubelet ended");
        }
        ended
    }

    fn sweeper(&self) -> SweeperDeps {
        SweeperDeps {
            runtime: self.deps.runtime.clone(),
            roster: self.roster.clone(),
            events: self.events.clone(),
            metrics: self.metrics.clone(),
            settings: self.deps.config.images.clone(),
            verification: self.verification.clone(),
        }
    }

    fn rotator(&self) -> log::RotatorDeps {
        log::RotatorDeps {
            runtime: self.deps.runtime.clone(),
            roster: self.roster.clone(),
            settings: self.deps.config.logs.clone(),
            paths: self.deps.config.paths.clone(),
        }
    }

    /// With `serverTLSBootstrap` the cluster signs what the server shows; the server finds it in its file.
    fn keep_serving_certificate(&self) {
        let settings = &self.deps.config.server;
        let Some(client) = self.deps.client.clone().filter(|_| settings.tls_bootstrap) else { return };
        let keeping = Keeping {
            client,
            store: CertificateStore::new(&settings.cert_dir, certificate::SERVER),
            wish: Wish::serving(&self.deps.config.node.name, &self.reporter.facts().ips),
        };
        self.tracker.spawn(certificate::keep(keeping, |_| async {}, self.token.clone()));
    }

    fn server(&self) -> ServerDeps {
        let (config, runtime) = (self.deps.config.clone(), self.deps.runtime.clone());
        let cgroups = self.rooms.cgroups.clone();
        ServerDeps {
            stats: Stats::new(config.clone(), runtime.clone(), cgroups),
            config,
            client: self.deps.client.clone(),
            runtime,
            node: self.roster.clone(),
        }
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.token.cancel();
    }
}

/// The runtime's word on the cgroup driver goes before the configuration's: with two minds, no container starts.
async fn with_runtimes_driver(deps: &KubeletDeps) -> Result<Arc<KubeletConfig>, KubeletError> {
    let said = deps.runtime.runtime_config().await.map_err(KubeletError::Runtime)?;
    let driver = match said.and_then(|it| it.linux).map(|it| it.cgroup_driver()) {
        Some(v1::CgroupDriver::Systemd) => CgroupDriver::Systemd,
        Some(v1::CgroupDriver::Cgroupfs) => CgroupDriver::Cgroupfs,
        None => return Ok(deps.config.clone()),
    };
    if driver == deps.config.cgroups.driver {
        return Ok(deps.config.clone());
    }
    tracing::info!(?driver, "cgroup driver as the runtime says");
    let mut config = KubeletConfig::clone(&deps.config);
    config.cgroups.driver = driver;
    Ok(Arc::new(config))
}

async fn features(
    runtime: &RuntimeHandle,
    version: &v1::VersionResponse,
) -> Result<RuntimeFeatures, CriError> {
    let status = runtime.status(false).await?;
    let mut features = RuntimeFeatures {
        supplemental_groups_policy: status.features.is_some_and(|it| it.supplemental_groups_policy),
        image_volumes: ImageVolumes::of(&version.runtime_name, &version.runtime_version),
        ..RuntimeFeatures::default()
    };
    for handler in status.runtime_handlers {
        let can = handler.features.unwrap_or_default();
        if can.recursive_read_only_mounts {
            features.recursive_read_only.push(handler.name.clone());
        }
        if can.user_namespaces {
            features.user_namespaces.push(handler.name);
        }
    }
    Ok(features)
}

/// An error and its causes in one line, for logs of the binaries.
pub fn explain(err: &KubeletError) -> String {
    report(err)
}
