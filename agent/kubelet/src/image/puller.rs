//! Policy, limits, and the runtime's answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use coracle_cri::proto as v1;
use coracle_cri::{CriError, RuntimeHandle};
use k8s_openapi::api::core::v1::{Container, Pod};
use tokio::sync::Semaphore;

use super::{Credential, credentials, normalize};
use crate::events::{Events, Severity};
use crate::metrics::Metrics;
use crate::translate::ImageFacts;

/// What the puller needs.
#[derive(Clone)]
pub struct PullerDeps {
    /// Who pulls.
    pub runtime: RuntimeHandle,
    /// Who is told.
    pub events: Arc<dyn Events>,
    /// Figures.
    pub metrics: Arc<Metrics>,
    /// `serializeImagePulls`.
    pub serialize: bool,
    /// `maxParallelImagePulls`; none: no limit of ours.
    pub parallel: Option<u32>,
}

/// Sees to images. One for the node.
pub struct Puller {
    deps: PullerDeps,
    turns: Semaphore,
}

/// One container's wish.
pub struct PullRequest<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// The container.
    pub container: &'a Container,
    /// What its secrets say.
    pub credentials: Vec<Credential>,
    /// For runtimes that choose by it.
    pub sandbox: Option<v1::PodSandboxConfig>,
}

/// Why there is no image: the reason and message of the waiting state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageFailure {
    /// `ErrImagePull`, `ErrImageNeverPull`, `InvalidImageName`, `ImageInspectError`.
    pub reason: &'static str,
    /// The runtime's words, or ours.
    pub message: String,
}

impl Puller {
    /// A puller.
    pub fn new(deps: PullerDeps) -> Arc<Self> {
        let turns = match (deps.serialize, deps.parallel) {
            (true, _) => 1,
            (false, Some(limit)) => usize::try_from(limit).unwrap_or(usize::MAX),
            (false, None) => Semaphore::MAX_PERMITS,
        };
        Arc::new(Self { deps, turns: Semaphore::new(turns.clamp(1, Semaphore::MAX_PERMITS)) })
    }

    /// The image of a container, pulled if its policy says so. May be dropped at any time.
    pub async fn ensure(&self, request: PullRequest<'_>) -> Result<ImageFacts, ImageFailure> {
        let wanted = request.container.image.as_deref().unwrap_or_default();
        let Some(image) = normalize(wanted) else {
            let message = format!(
                "Failed to apply default image tag {wanted:?}: couldn't parse image name {wanted:?}: \
                 invalid reference format"
            );
            self.tell(&request, Severity::Warning, "InspectFailed", message.clone());
            return Err(ImageFailure { reason: "InvalidImageName", message });
        };
        let policy = match request.container.image_pull_policy.as_deref() {
            Some(policy) => policy,
            None if image.ends_with(":latest") => "Always",
            None => "IfNotPresent",
        };
        let present = if policy == "Always" { None } else { self.look(&request, &image).await? };
        if let Some(found) = present {
            let message = format!(
                "Container image {wanted:?} already present on machine and can be accessed by the pod"
            );
            self.tell(&request, Severity::Normal, "Pulled", message);
            return Ok(found);
        }
        if policy == "Never" {
            let message = format!("Container image {wanted:?} is not present with pull policy of Never");
            self.tell(&request, Severity::Warning, "ErrImageNeverPull", message.clone());
            return Err(ImageFailure { reason: "ErrImageNeverPull", message });
        }
        self.pull(&request, wanted, &image).await
    }

    async fn look(&self, request: &PullRequest<'_>, image: &str) -> Result<Option<ImageFacts>, ImageFailure> {
        self.deps.runtime.image_status(image).await.map(|it| it.map(|it| facts(&it))).map_err(|err| {
            let message = format!("Failed to inspect image {image:?}: {}", words(&err));
            self.tell(request, Severity::Warning, "InspectFailed", message.clone());
            ImageFailure { reason: "ImageInspectError", message }
        })
    }

    async fn pull(
        &self,
        request: &PullRequest<'_>,
        wanted: &str,
        image: &str,
    ) -> Result<ImageFacts, ImageFailure> {
        self.tell(request, Severity::Normal, "Pulling", format!("Pulling image {wanted:?}"));
        let waited = Instant::now();
        let Ok(_turn) = self.turns.acquire().await else {
            return Err(ImageFailure { reason: "ErrImagePull", message: "the kubelet is stopping".into() });
        };
        let began = Instant::now();
        let matching = credentials(image, &request.credentials);
        let auths = matching.iter().map(|it| Some(it.auth())).chain([None]);
        let mut answer = Err(String::new());
        for auth in auths {
            let spec = v1::ImageSpec {
                image: image.to_owned(),
                user_specified_image: wanted.to_owned(),
                ..Default::default()
            };
            answer = self
                .deps
                .runtime
                .pull_image(spec, auth, request.sandbox.clone())
                .await
                .map_err(|it| words(&it));
            if answer.is_ok() {
                break;
            }
        }
        let took = began.elapsed();
        self.deps.metrics.operation("pull_image", took, answer.is_err());
        let found = match answer {
            Ok(reference) => {
                let found = self.deps.runtime.image_status(&reference).await.ok().flatten();
                Ok((
                    found
                        .as_ref()
                        .map_or_else(|| ImageFacts { image_ref: reference, ..ImageFacts::default() }, facts),
                    found,
                ))
            }
            Err(message) => Err(message),
        };
        match found {
            Ok((facts, image)) => {
                self.deps.metrics.pulled(took);
                let size = image.map_or(0, |it| it.size);
                let message = format!(
                    "Successfully pulled image {wanted:?} in {} ({} including waiting). Image size: {size} bytes.",
                    short(took),
                    short(waited.elapsed())
                );
                self.tell(request, Severity::Normal, "Pulled", message);
                Ok(facts)
            }
            Err(message) => {
                let text = format!("Failed to pull image {wanted:?}: {message}");
                self.tell(request, Severity::Warning, "Failed", text);
                self.tell(request, Severity::Warning, "Failed", "Error: ErrImagePull".into());
                Err(ImageFailure { reason: "ErrImagePull", message })
            }
        }
    }

    fn tell(&self, request: &PullRequest<'_>, severity: Severity, reason: &str, message: String) {
        self.deps.events.pod(request.pod, Some(&request.container.name), severity, reason, message);
    }
}

fn facts(image: &v1::Image) -> ImageFacts {
    ImageFacts {
        image_ref: image.id.clone(),
        uid: image.uid.map(|it| it.value),
        username: image.username.clone(),
    }
}

/// The runtime's own sentence, in the form that users know from upstream.
fn words(err: &CriError) -> String {
    match err {
        CriError::Refused { code, message, .. } => format!("rpc error: code = {code:?} desc = {message}"),
        CriError::TimedOut { .. } | CriError::Unreachable { .. } => err.to_string(),
    }
}

/// A duration as people read it: `12ms`, `1.2s`.
fn short(it: Duration) -> String {
    if it < Duration::from_secs(1) {
        format!("{}ms", it.as_millis())
    } else {
        format!("{:.3}s", it.as_secs_f64())
    }
}
