//! Policy: whether there is an image, whether it must be there, whether it may be used.

use std::sync::Arc;
use std::time::{Duration, Instant};

use coracle_apimachinery::GoDuration;
use coracle_cri::RuntimeHandle;
use coracle_cri::proto as v1;
use k8s_openapi::api::core::v1::Pod;

use super::keyring::{Credential, Keyring};
use super::name::{normalize, repository};
use super::node_credentials::NodeCredentials;
use super::pull::{Pulls, words};
use super::verification::{Judgement, Verification};
use crate::config::ImageSettings;
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
    /// Turns and pace.
    pub settings: ImageSettings,
    /// The node's own credentials.
    pub node: Arc<NodeCredentials>,
    /// Who may use what.
    pub verification: Arc<Verification>,
}

/// Sees to images. One for the node.
pub struct Puller {
    deps: PullerDeps,
    pulls: Pulls,
}

/// One wish for an image.
pub struct PullRequest<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// The container that it is for; none: a volume of the pod.
    pub container: Option<&'a str>,
    /// As the spec names it.
    pub image: &'a str,
    /// `imagePullPolicy`.
    pub policy: Option<&'a str>,
    /// What the pod's secrets say.
    pub credentials: &'a [Credential],
    /// For runtimes that choose by it.
    pub sandbox: Option<&'a v1::PodSandboxConfig>,
}

/// Why there is no image: the reason and message of the waiting state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageFailure {
    /// `ErrImagePull`, `ErrImageNeverPull`, `InvalidImageName`, `ImageInspectError`, ...
    pub reason: &'static str,
    /// The runtime's words, or ours.
    pub message: String,
}

/// Reasons that a runtime may give by the first word of its message, and what is made of them.
const KNOWN: [(&str, &str); 2] = [
    ("RegistryUnavailable", "the registry is unavailable"),
    ("SignatureValidationFailed", "the signature validation failed"),
];

impl Puller {
    /// A puller.
    pub fn new(deps: PullerDeps) -> Arc<Self> {
        let (runtime, metrics) = (deps.runtime.clone(), deps.metrics.clone());
        let pulls = Pulls::new(runtime, metrics, deps.node.clone(), &deps.settings);
        Arc::new(Self { deps, pulls })
    }

    /// The image, pulled if its policy says so. May be dropped at any time.
    pub async fn ensure(&self, request: PullRequest<'_>) -> Result<ImageFacts, ImageFailure> {
        let outcome = self.ensured(&request).await;
        if let Err(failure) = &outcome {
            self.tell(&request, Severity::Warning, "Failed", format!("Error: {}", failure.reason));
        }
        outcome
    }

    async fn ensured(&self, request: &PullRequest<'_>) -> Result<ImageFacts, ImageFailure> {
        let wanted = request.image;
        let Some(image) = normalize(wanted) else {
            let message = format!(
                "Failed to apply default image tag {wanted:?}: couldn't parse image name {wanted:?}: \
                 invalid reference format"
            );
            self.tell(request, Severity::Warning, "InspectFailed", message.clone());
            return Err(ImageFailure { reason: "InvalidImageName", message });
        };
        let policy = match request.policy {
            Some(policy) if !policy.is_empty() => policy,
            _ if image.ends_with(":latest") => "Always",
            _ => "IfNotPresent",
        };
        let present = if policy == "Always" { None } else { self.look(request, &image).await? };
        if let Some(found) = present {
            let keyring = Keyring::new(request.credentials.to_vec());
            let known: Vec<Credential> = keyring.lookup(&repository(&image)).into_iter().cloned().collect();
            let may_use = match self.deps.verification.may_use(&image, &found.image_ref, &known).await {
                Judgement::Yes => true,
                Judgement::No => false,
                Judgement::For(accounts) => self.deps.node.runs_as(request.pod, &accounts).await,
            };
            if may_use {
                let message = format!(
                    "Container image {wanted:?} already present on machine and can be accessed by the pod"
                );
                self.tell(request, Severity::Normal, "Pulled", message);
                return Ok(found);
            }
            if policy == "Never" {
                return Err(self.never(
                    request,
                    "is present with pull policy of Never but does not have the proper auth",
                ));
            }
        } else if policy == "Never" {
            return Err(self.never(request, "is not present with pull policy of Never"));
        }
        self.pull(request, &image).await
    }

    fn never(&self, request: &PullRequest<'_>, why: &str) -> ImageFailure {
        let message = format!("Container image {:?} {why}", request.image);
        self.tell(request, Severity::Warning, "ErrImageNeverPull", message.clone());
        ImageFailure { reason: "ErrImageNeverPull", message }
    }

    async fn look(&self, request: &PullRequest<'_>, image: &str) -> Result<Option<ImageFacts>, ImageFailure> {
        self.deps.runtime.image_status(image).await.map(|it| it.map(|it| facts(&it))).map_err(|err| {
            let message = format!("Failed to inspect image {image:?}: {}", words(&err));
            self.tell(request, Severity::Warning, "InspectFailed", message.clone());
            ImageFailure { reason: "ImageInspectError", message }
        })
    }

    async fn pull(&self, request: &PullRequest<'_>, image: &str) -> Result<ImageFacts, ImageFailure> {
        let wanted = request.image;
        if let Err(err) = self.deps.verification.begin(image).await {
            let message = format!("Failed to record image pull intent for container image {wanted:?}: {err}");
            self.tell(request, Severity::Warning, "Failed", message.clone());
            return Err(ImageFailure { reason: "ErrImagePull", message });
        }
        self.tell(request, Severity::Normal, "Pulling", format!("Pulling image {wanted:?}"));
        let waited = Instant::now();
        let pulled = match self.pulls.pull(image, request).await {
            Ok(pulled) => pulled,
            Err(message) => {
                self.deps.verification.end(image, None).await;
                let text = format!("Failed to pull image {wanted:?}: {message}");
                self.tell(request, Severity::Warning, "Failed", text);
                return Err(failure(wanted, message));
            }
        };
        self.deps.metrics.pulled(pulled.took);
        let found = self.deps.runtime.image_status(&pulled.reference).await.ok().flatten();
        let size = found.as_ref().map_or(0, |it| it.size);
        let facts = match &found {
            Some(found) => facts(found),
            None => ImageFacts { image_ref: pulled.reference, ..ImageFacts::default() },
        };
        self.deps.verification.end(image, Some((facts.image_ref.clone(), pulled.source))).await;
        let message = format!(
            "Successfully pulled image {wanted:?} in {} ({} including waiting). Image size: {size} bytes.",
            short(pulled.took),
            short(waited.elapsed())
        );
        self.tell(request, Severity::Normal, "Pulled", message);
        Ok(facts)
    }

    fn tell(&self, request: &PullRequest<'_>, severity: Severity, reason: &str, message: String) {
        self.deps.events.pod(request.pod, request.container, severity, reason, message);
    }
}

fn facts(image: &v1::Image) -> ImageFacts {
    ImageFacts {
        image_ref: image.id.clone(),
        uid: image.uid.map(|it| it.value),
        username: image.username.clone(),
        ..ImageFacts::default()
    }
}

fn failure(image: &str, message: String) -> ImageFailure {
    for (reason, words) in KNOWN {
        if let Some(rest) = message.strip_prefix(reason) {
            let message = format!("image pull failed for {image} because {words}{rest}");
            return ImageFailure { reason, message };
        }
    }
    ImageFailure { reason: "ErrImagePull", message }
}

/// A duration in whole milliseconds as Go writes it: `12ms`, `1.2s`, `1m0.5s`.
fn short(it: Duration) -> String {
    let millis = i64::try_from(it.as_millis()).unwrap_or(i64::MAX);
    GoDuration::from_nanos(millis.saturating_mul(1_000_000)).to_string()
}
