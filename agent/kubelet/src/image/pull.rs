//! One pull: its turn, the credentials that are tried, the runtime's answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use coracle_cri::proto as v1;
use coracle_cri::{Code, CriError, RuntimeHandle};
use tokio::sync::Semaphore;

use super::ensure::PullRequest;
use super::keyring::{Credential, Keyring, Source};
use super::name::repository;
use super::node_credentials::NodeCredentials;
use super::pace::Pace;
use crate::config::ImageSettings;
use crate::metrics::Metrics;

/// Pulls images, as many at once and as often as the configuration allows.
pub(super) struct Pulls {
    runtime: RuntimeHandle,
    metrics: Arc<Metrics>,
    node: Arc<NodeCredentials>,
    turns: Semaphore,
    pace: Option<Pace>,
}

/// An image that was pulled.
pub(super) struct Pulled {
    /// The runtime's reference.
    pub reference: String,
    /// Without waiting.
    pub took: Duration,
    /// Whose credentials were good for it; none: it took none.
    pub source: Option<Source>,
}

impl Pulls {
    pub fn new(
        runtime: RuntimeHandle,
        metrics: Arc<Metrics>,
        node: Arc<NodeCredentials>,
        settings: &ImageSettings,
    ) -> Self {
        let turns = match (settings.serialize_pulls, settings.max_parallel_pulls) {
            (true, _) => 1,
            (false, Some(limit)) => usize::try_from(limit).unwrap_or(usize::MAX),
            (false, None) => Semaphore::MAX_PERMITS,
        };
        let turns = Semaphore::new(turns.clamp(1, Semaphore::MAX_PERMITS));
        let pace = Pace::new(settings.pull_qps, settings.pull_burst);
        Self { runtime, metrics, node, turns, pace }
    }

    /// Pulls `image`, the whole name of what is requested; the pod's secrets go before the node's own credentials. Where there are any for this image, no pull is tried
    /// without. The error is what is told to users.
    pub async fn pull(&self, image: &str, request: &PullRequest<'_>) -> Result<Pulled, String> {
        let Ok(_turn) = self.turns.acquire().await else { return Err("the kubelet is stopping".into()) };
        let repository = repository(image);
        let keyring = Keyring::new(request.credentials.to_vec());
        let mut credentials: Vec<Option<Credential>> =
            keyring.lookup(&repository).into_iter().cloned().map(Some).collect();
        credentials.extend(self.node.lookup(&repository, request.pod).await.into_iter().map(Some));
        if credentials.is_empty() {
            credentials.push(None);
        }
        let mut failures: Vec<String> = Vec::new();
        let mut began = Instant::now();
        for credential in credentials {
            if let Some(pace) = &self.pace {
                pace.turn().await;
            }
            if failures.is_empty() {
                began = Instant::now();
            }
            let spec = v1::ImageSpec {
                image: image.to_owned(),
                user_specified_image: request.image.to_owned(),
                ..Default::default()
            };
            let auth = credential.as_ref().map(Credential::auth);
            let asked = Instant::now();
            let answer = self.runtime.pull_image(spec, auth, request.sandbox.cloned()).await;
            self.metrics.operation("pull_image", asked.elapsed(), answer.is_err());
            match answer {
                Ok(reference) => {
                    let source = credential.map(|it| it.source);
                    return Ok(Pulled { reference, took: began.elapsed(), source });
                }
                Err(err) => {
                    let text = words(&err);
                    if !failures.contains(&text) {
                        failures.push(text);
                    }
                }
            }
        }
        Err(match failures.as_slice() {
            [one] => one.clone(),
            several => format!("[{}]", several.join(", ")),
        })
    }
}

/// The runtime's own sentence, in the form that users know from upstream: where it has no code, nothing before it.
pub(super) fn words(err: &CriError) -> String {
    match err {
        CriError::Refused { code: Code::Unknown, message, .. } => message.clone(),
        CriError::Refused { code, message, .. } => format!("rpc error: code = {code:?} desc = {message}"),
        CriError::TimedOut { .. } | CriError::Unreachable { .. } => err.to_string(),
    }
}
