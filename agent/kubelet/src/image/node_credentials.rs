//! The node's own credentials: docker's configuration files and exec plugins.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use tokio::time::Instant;

use super::accounts::{AccountRef, Accounts, NoAccounts, account_name};
use super::docker;
use super::keyring::{Credential, Keyring};
use super::plugin::Plugins;
use crate::config::ImageSettings;

/// What was read of files is good for so long.
const GOOD_FOR: Duration = Duration::from_secs(300);
/// A file that is larger than this is no configuration of docker's.
const LARGEST: u64 = 10 << 20;

/// Files and plugins of this node.
pub struct NodeCredentials {
    /// `config.json` in the order of upstream's search, then `.dockercfg`: the first that is there counts.
    config_json: Vec<PathBuf>,
    dockercfg: Vec<PathBuf>,
    read: Mutex<Option<(Instant, Vec<Credential>)>>,
    plugins: Plugins,
    accounts: Arc<dyn Accounts>,
}

impl Default for NodeCredentials {
    fn default() -> Self {
        Self::new(&ImageSettings::default(), Arc::new(NoAccounts))
    }
}

impl NodeCredentials {
    /// Those that the configuration names; nothing is read yet.
    pub fn new(settings: &ImageSettings, accounts: Arc<dyn Accounts>) -> Self {
        let in_each = |folders: &[PathBuf], name: &str| folders.iter().map(|it| it.join(name)).collect();
        Self {
            config_json: in_each(&settings.config_json_folders, "config.json"),
            dockercfg: in_each(&settings.dockercfg_folders, ".dockercfg"),
            read: Mutex::default(),
            plugins: Plugins::new(&settings.credential_providers),
            accounts,
        }
    }

    /// Those for a pod and a repository, in the order in which they are tried.
    pub(super) async fn lookup(&self, repository: &str, pod: &Pod) -> Vec<Credential> {
        let mut all = self.of_files().await;
        all.extend(self.plugins.credentials(repository, pod, &*self.accounts).await);
        Keyring::new(all).lookup(repository).into_iter().cloned().collect()
    }

    /// Whether a pod runs as one of these accounts.
    pub(super) async fn runs_as(&self, pod: &Pod, accounts: &[AccountRef]) -> bool {
        let Some(name) = account_name(pod) else { return false };
        let namespace = crate::pod::namespace(pod);
        if !accounts.iter().any(|it| it.namespace == namespace && it.name == name) {
            return false;
        }
        match self.accounts.account(namespace, name).await {
            Ok(found) => accounts.contains(&found.reference),
            Err(error) => {
                tracing::warn!(error, "an image is pulled again");
                false
            }
        }
    }

    async fn of_files(&self) -> Vec<Credential> {
        if let Some((at, known)) = &*self.read.lock().unwrap_or_else(PoisonError::into_inner)
            && at.elapsed() < GOOD_FOR
        {
            return known.clone();
        }
        let mut found = first(&self.config_json, docker::config_json).await;
        if found.is_none() {
            found = first(&self.dockercfg, docker::dockercfg).await;
        }
        let found = found.unwrap_or_default();
        *self.read.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), found.clone()));
        found
    }
}

/// What the first file that can be read and understood says.
async fn first(paths: &[PathBuf], parse: fn(&[u8]) -> Option<Vec<Credential>>) -> Option<Vec<Credential>> {
    for path in paths {
        if tokio::fs::metadata(path).await.map_or(true, |it| !it.is_file() || it.len() > LARGEST) {
            continue;
        }
        match tokio::fs::read(path).await {
            Ok(bytes) => match parse(&bytes) {
                Some(found) => return Some(found),
                None => tracing::warn!(file = %path.display(), "no docker configuration: not used for pulls"),
            },
            Err(err) => tracing::warn!(file = %path.display(), error = %err, "not used for pulls"),
        }
    }
    None
}
