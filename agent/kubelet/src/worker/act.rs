//! Carries actions out. Nothing is decided here.

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use coracle_cri::{CriError, RuntimeHandle, proto as v1};
use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use tokio::time::Instant;

use super::action::{Action, Cause};
use super::api::{ApiError, PodApi};
use super::home::{HomeError, PodHome, Wish};
use super::report::{News, Problem, Report};
use super::{hooks, resize};
use crate::events::{Events, Severity};
use crate::image::{Credential, ImageFailure, PullRequest, Puller};
use crate::metrics::Metrics;
use crate::observe::{self, ContainerSeen};
use crate::pod;
use crate::resources::container_limits;
use crate::timeline::Timeline;
use crate::translate::{ContainerRole, ImageFacts};

/// A runtime that does not answer within this never will; the client's own deadlines are shorter.
const PATIENCE: Duration = Duration::from_secs(270);
/// How long the runtime may take to notice that a process ended.
const SETTLES_WITHIN: Duration = Duration::from_secs(5);

/// What workers act with. One for the node.
#[derive(Clone)]
pub struct Tools {
    /// The container runtime.
    pub runtime: RuntimeHandle,
    /// Cgroups, volumes, configs.
    pub home: Arc<dyn PodHome>,
    /// Images.
    pub puller: Arc<Puller>,
    /// The API server.
    pub api: Arc<dyn PodApi>,
    /// Who is told.
    pub events: Arc<dyn Events>,
    /// Figures.
    pub metrics: Arc<Metrics>,
}

/// One pod, for the time of one action.
#[derive(Clone)]
pub(super) struct Hand {
    pub tools: Tools,
    pub pod: Arc<Pod>,
    pub timeline: Arc<Timeline>,
}

/// What an action needs beside its own words.
#[derive(Debug, Clone, Default)]
pub(super) struct Context {
    /// The sandbox to start in.
    pub sandbox: Option<(String, u32)>,
    /// The pod's addresses.
    pub pod_ips: Vec<IpAddr>,
    /// The container's image.
    pub image: ImageFacts,
    /// The running container that an ephemeral one aims at.
    pub target: Option<String>,
    /// The container as last seen.
    pub container: Option<ContainerSeen>,
    /// The pod as its cgroup and containers were given resources so far.
    pub given: Option<Arc<Pod>>,
    /// The hook has had its turn: an earlier stop ran it.
    pub hook_done: bool,
    /// The last status, before the object goes.
    pub last_status: Option<serde_json::Value>,
}

impl Hand {
    pub async fn carry_out(self, action: Action, context: Context) -> Report {
        let subject = Some(action.subject());
        let news = match action {
            Action::Mount => self.mount().await,
            Action::RunSandbox { attempt } => self.run_sandbox(attempt).await,
            Action::StopSandbox { id } => self.stop_sandbox(id).await,
            Action::Pull { container } => self.pull(container).await,
            Action::Launch { container, restart, created } => {
                self.launch(&container, restart, created, context).await
            }
            Action::Stop { container, id, grace, cause } => {
                self.stop(&container, id, grace, &cause, &context).await
            }
            Action::Cancel { .. } => Vec::new(),
            Action::RemoveContainer { id } => self.remove_container(id, context.container).await,
            Action::RemoveSandbox { id } => self.remove_sandbox(id).await,
            Action::Resize { containers } => self.resize(&containers, context.given.as_ref()).await,
            Action::CleanUp => {
                let done = self.tools.home.clean_up(&self.pod);
                vec![News::Cleaned(self.work("CleanUp", None, done, |it| Problem::new(it.reason, it)).await)]
            }
            Action::Delete => vec![News::Deleted(self.delete(context.last_status).await)],
        };
        Report { subject, news }
    }

    /// Everything that the runtime has of the pod, begun when `reports` reports had come in.
    pub async fn look(self, reports: u64) -> Report {
        let uid = pod::uid(&self.pod).to_owned();
        let found = self.call("list_pod", None, observe::of_pod(&self.tools.runtime, &uid)).await;
        let news = match found {
            Ok(seen) => News::Everything(seen, reports),
            Err(err) => News::Blind(Problem::new("FailedPodSandBoxStatus", cri(&err))),
        };
        Report { subject: None, news: vec![news] }
    }

    /// A process ended: waits until the runtime has noticed, too.
    pub async fn settle(self, id: String, is_sandbox: bool) -> Report {
        let began = Instant::now();
        let mut pause = Duration::from_millis(4);
        let news = loop {
            let (news, settled) = if is_sandbox {
                match observe::of_sandbox(&self.tools.runtime, &id).await {
                    Ok(Some(seen)) => (News::Sandbox(seen.clone()), !seen.ready),
                    Ok(None) => (News::SandboxGone(id.clone()), true),
                    Err(_) => (News::Doubt, true),
                }
            } else {
                match observe::of_container(&self.tools.runtime, &id).await {
                    Ok(Some(seen)) => {
                        let alive = seen.is_alive();
                        (News::Container(Box::new(seen)), !alive)
                    }
                    Ok(None) => (News::ContainerGone(id.clone()), true),
                    Err(_) => (News::Doubt, true),
                }
            };
            if settled || began.elapsed() > SETTLES_WITHIN {
                break news;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(250));
        };
        Report { subject: None, news: vec![news] }
    }

    async fn mount(&self) -> Vec<News> {
        let done = self
            .work("Mount", None, self.tools.home.mount(&self.pod), |it| Problem::new(it.reason, it))
            .await;
        if let Err(problem) = &done {
            self.tell(None, Severity::Warning, &problem.reason, problem.message.clone());
        }
        vec![News::Mounted(done)]
    }

    async fn run_sandbox(&self, attempt: u32) -> Vec<News> {
        let config = self.tools.home.sandbox(&self.pod, attempt).await;
        let (config, handler) = match config {
            Ok(config) => config,
            Err(err) => return self.no_sandbox(&err.to_string()),
        };
        self.tools.metrics.pod_begun();
        let running = self.tools.runtime.run_pod_sandbox(config, &handler);
        match self.call("run_podsandbox", None, running).await {
            Ok(id) => match observe::of_sandbox(&self.tools.runtime, &id).await {
                Ok(Some(seen)) => vec![News::Sandbox(seen), News::SandboxRun(Ok(()))],
                Ok(None) | Err(_) => vec![News::Doubt, News::SandboxRun(Ok(()))],
            },
            Err(err) => {
                let mut news = self.no_sandbox(&cri(&err));
                if err.is_ambiguous() || err.to_string().contains("is reserved for") {
                    news.push(News::Doubt);
                }
                news
            }
        }
    }

    fn no_sandbox(&self, why: &str) -> Vec<News> {
        let message = format!("Failed to create pod sandbox: {why}");
        self.tell(None, Severity::Warning, "FailedCreatePodSandBox", message.clone());
        vec![News::SandboxRun(Err(Problem::new("FailedCreatePodSandBox", message)))]
    }

    async fn stop_sandbox(&self, id: String) -> Vec<News> {
        let stopped = self.call("stop_podsandbox", None, self.tools.runtime.stop_pod_sandbox(&id)).await;
        match stopped {
            Ok(()) => {
                let seen = match observe::of_sandbox(&self.tools.runtime, &id).await {
                    Ok(Some(seen)) => News::Sandbox(seen),
                    Ok(None) => News::SandboxGone(id.clone()),
                    Err(_) => News::Doubt,
                };
                vec![seen, News::SandboxStopped(id.clone()), News::Tried(id, Ok(()))]
            }
            Err(err) if err.is_not_found() => vec![News::SandboxGone(id)],
            Err(err) => {
                let message = format!("error killing pod: failed to \"KillPodSandbox\": {}", cri(&err));
                self.tell(None, Severity::Warning, "FailedKillPod", message.clone());
                vec![News::Tried(id, Err(Problem::new("FailedKillPod", message)))]
            }
        }
    }

    async fn pull(&self, name: String) -> Vec<News> {
        let Some(container) = pod::any_container(&self.pod, &name) else { return Vec::new() };
        let secrets = self.tools.home.pull_secrets(&self.pod).await;
        if !secrets.missing.is_empty() {
            let message = format!(
                "Unable to retrieve some image pull secrets ({}); attempting to pull the image may not succeed.",
                secrets.missing.join(", ")
            );
            self.tell(None, Severity::Warning, "FailedToRetrieveImagePullSecret", message);
        }
        let image =
            self.work("EnsureImage", Some(&name), self.images(&container, &secrets.known), |it| it).await;
        vec![News::Image(name, image)]
    }

    /// The container's image, and those of the volumes that it mounts.
    async fn images(&self, container: &Container, known: &[Credential]) -> Result<ImageFacts, Problem> {
        let failed = |it: ImageFailure| Problem::new(it.reason, it.message);
        let request = PullRequest {
            pod: &self.pod,
            container: Some(&container.name),
            image: container.image.as_deref().unwrap_or_default(),
            policy: container.image_pull_policy.as_deref(),
            credentials: known,
            sandbox: None,
        };
        let mut facts = self.tools.puller.ensure(request).await.map_err(failed)?;
        for (volume, source) in pod::image_volumes(&self.pod, container) {
            let request = PullRequest {
                pod: &self.pod,
                container: None,
                image: source.reference.as_deref().unwrap_or_default(),
                policy: source.pull_policy.as_deref(),
                credentials: known,
                sandbox: None,
            };
            let reference = request.image.to_owned();
            let ensured = self.tools.puller.ensure(request).await;
            let image = ensured.map_err(|it| Problem { image: Some(reference), ..failed(it) })?;
            facts.volumes.insert(volume.to_owned(), image.image_ref);
        }
        Ok(facts)
    }

    async fn launch(&self, name: &str, restart: u32, created: Option<String>, context: Context) -> Vec<News> {
        let Some(container) = pod::any_container(&self.pod, name) else { return Vec::new() };
        let mut news = Vec::new();
        let id = match created {
            Some(id) => id,
            None => match self.create(&container, restart, &context, &mut news).await {
                Ok(id) => id,
                Err(problem) => {
                    let text = format!("Error: {}", problem.message);
                    self.tell(Some(name), Severity::Warning, "Failed", text);
                    news.push(News::Launched(name.to_owned(), Err(problem)));
                    return news;
                }
            },
        };
        let outcome = self.start(&container, &id, &context).await;
        match observe::of_container(&self.tools.runtime, &id).await {
            Ok(Some(seen)) => news.push(News::Container(Box::new(seen))),
            Ok(None) => news.push(News::ContainerGone(id)),
            Err(_) => news.push(News::Doubt),
        }
        news.push(News::Launched(name.to_owned(), outcome));
        news
    }

    async fn create(
        &self,
        container: &Container,
        restart: u32,
        context: &Context,
        news: &mut Vec<News>,
    ) -> Result<String, Problem> {
        let Some((sandbox, attempt)) = &context.sandbox else {
            return Err(Problem::new("CreateContainerError", "the pod has no sandbox"));
        };
        let name = container.name.as_str();
        let wish = Wish {
            container: container.clone(),
            role: self.role(name, context.target.clone()),
            image: context.image.clone(),
            restart_count: restart,
            pod_ips: context.pod_ips.clone(),
        };
        let setup = self.tools.home.container(&self.pod, wish);
        let setup =
            self.work("ConfigureContainer", Some(name), setup, |it| Problem::new(it.reason, it)).await?;
        for (reason, message) in setup.warnings {
            self.tell(Some(name), Severity::Warning, reason, message);
        }
        let sandbox_config = self.tools.home.sandbox(&self.pod, *attempt).await;
        let (sandbox_config, _) =
            sandbox_config.map_err(|it| Problem::new("CreateContainerConfigError", it))?;
        let creating = self.tools.runtime.create_container(sandbox, setup.config, sandbox_config);
        match self.call("create_container", Some(name), creating).await {
            Ok(id) => {
                self.tell(Some(name), Severity::Normal, "Created", "Container created".into());
                Ok(id)
            }
            Err(err) => {
                if err.is_ambiguous() || err.to_string().contains("is reserved for") {
                    news.push(News::Doubt);
                }
                Err(Problem::new("CreateContainerError", cri(&err)))
            }
        }
    }

    async fn start(&self, container: &Container, id: &str, context: &Context) -> Result<(), Problem> {
        let name = container.name.as_str();
        let started = self.call("start_container", Some(name), self.tools.runtime.start_container(id)).await;
        if let Err(err) = started {
            self.tell(Some(name), Severity::Warning, "Failed", format!("Error: {}", cri(&err)));
            return Err(Problem::new("RunContainerError", cri(&err)));
        }
        self.tools.metrics.container_started();
        self.tell(Some(name), Severity::Normal, "Started", "Container started".into());
        let hook = container.lifecycle.as_ref().and_then(|it| it.post_start.as_ref());
        let Some(hook) = hook else { return Ok(()) };
        let ip = context.pod_ips.first().map(ToString::to_string).unwrap_or_default();
        let ran = hooks::run(&self.tools.runtime, hook, container, id, &ip);
        let ran =
            self.work("PostStartHook", Some(name), ran, |it| Problem::new("PostStartHookError", it)).await;
        if ran.is_err() {
            self.tell(Some(name), Severity::Warning, "FailedPostStartHook", "PostStartHook failed".into());
            self.say_killing(name, &Cause::PostStart);
            let grace = pod::grace(&self.pod);
            let stopping = self.tools.runtime.stop_container(id, grace);
            if self.call("stop_container", Some(name), stopping).await.is_err() {
                return Err(Problem::new(
                    "PostStartHookError",
                    "the container could not be stopped after its hook failed",
                ));
            }
        }
        ran
    }

    fn role(&self, name: &str, target_id: Option<String>) -> ContainerRole {
        if pod::inits(&self.pod).iter().any(|it| it.name == name) {
            ContainerRole::Init
        } else if pod::ephemerals(&self.pod).iter().any(|it| it.name == name) {
            ContainerRole::Ephemeral { target_id }
        } else {
            ContainerRole::App
        }
    }

    async fn stop(
        &self,
        name: &str,
        id: String,
        grace: Duration,
        cause: &Cause,
        context: &Context,
    ) -> Vec<News> {
        self.say_killing(name, cause);
        let began = Instant::now();
        let container = pod::any_container(&self.pod, name);
        let hook = container.as_ref().and_then(|it| it.lifecycle.as_ref()?.pre_stop.as_ref());
        if let (Some(hook), Some(container)) = (hook, &container)
            && !grace.is_zero()
            && !context.hook_done
            && context.container.as_ref().is_none_or(ContainerSeen::is_alive)
        {
            let ip = context.pod_ips.first().map(ToString::to_string).unwrap_or_default();
            let ran = hooks::run(&self.tools.runtime, hook, container, &id, &ip);
            let ran =
                async { tokio::time::timeout(grace, ran).await.unwrap_or_else(|_| Err("timed out".into())) };
            let ran =
                self.work("PreStopHook", Some(name), ran, |it| Problem::new("FailedPreStopHook", it)).await;
            if ran.is_err() {
                self.tell(Some(name), Severity::Warning, "FailedPreStopHook", "PreStopHook failed".into());
            }
        }
        let least = Duration::from_secs(2).min(grace);
        let left = grace.saturating_sub(began.elapsed()).max(least);
        let stopped =
            self.call("stop_container", Some(name), self.tools.runtime.stop_container(&id, left)).await;
        if let Err(err) = stopped
            && !err.is_not_found()
        {
            let message =
                format!("error killing pod: failed to \"KillContainer\" for {name:?}: {}", cri(&err));
            self.tell(Some(name), Severity::Warning, "FailedKillPod", message.clone());
            return vec![News::Doubt, News::Tried(id, Err(Problem::new("FailedKillPod", message)))];
        }
        let mut news = self.clone().settle(id.clone(), false).await.news;
        news.push(News::Tried(id, Ok(())));
        news
    }

    fn say_killing(&self, name: &str, cause: &Cause) {
        let message = match cause {
            Cause::PodEnds | Cause::NotWanted | Cause::SandboxChanged | Cause::Anew => {
                format!("Stopping container {name}")
            }
            Cause::SpecChanged => format!("Container {name} definition changed, will be restarted"),
            Cause::Liveness => format!("Container {name} failed liveness probe, will be restarted"),
            Cause::Startup => format!("Container {name} failed startup probe, will be restarted"),
            Cause::PostStart => "FailedPostStartHook".to_owned(),
            Cause::Resized => format!("Container {name} resize requires restart"),
        };
        self.tell(Some(name), Severity::Normal, "Killing", message);
    }

    /// The pod's cgroup grows first and shrinks last: no container is ever let through more than its pod.
    async fn resize(&self, containers: &[(String, String)], given: Option<&Arc<Pod>>) -> Vec<News> {
        self.tell(None, Severity::Normal, "ResizeStarted", "Pod resize started".into());
        let mut done = Vec::new();
        let result = self.resize_all(containers, given, &mut done).await;
        match &result {
            Ok(_) => self.tell(None, Severity::Normal, "ResizeCompleted", "Pod resize completed".into()),
            Err(problem) => self.tell(None, Severity::Warning, "ResizeError", problem.message.clone()),
        }
        vec![News::Resized(done, result)]
    }

    async fn resize_all(
        &self,
        containers: &[(String, String)],
        given: Option<&Arc<Pod>>,
        done: &mut Vec<(String, ResourceRequirements)>,
    ) -> Result<String, Problem> {
        let failed = |it: HomeError| Problem::new("ResizeError", it);
        let home = &self.tools.home;
        if let Some(given) = given {
            self.check_memory(containers, given).await?;
            self.work("Resize", None, home.resize(&self.pod, Some(given.as_ref())), failed).await?;
        }
        for (name, id) in containers {
            let Some(container) = pod::container(&self.pod, name) else { continue };
            let limits = home.limits(&self.pod, container);
            let updating = self.tools.runtime.update_container_resources(id, limits);
            let updated = self.call("update_container", Some(name), updating).await;
            updated
                .map_err(|err| Problem::new("ResizeError", format!("container {name:?}: {}", cri(&err))))?;
            done.push((id.clone(), resize::resources(container)));
        }
        self.work("Resize", None, home.resize(&self.pod, None), failed).await?;
        Ok(resize::fingerprint(&self.pod))
    }

    /// A limit below what is in use would end the container at once.
    async fn check_memory(&self, containers: &[(String, String)], given: &Pod) -> Result<(), Problem> {
        for (name, id) in containers {
            let limit = |pod: &Pod| pod::container(pod, name).map_or(0, |it| container_limits(it).memory());
            let (new, old) = (limit(&self.pod), limit(given));
            if new == 0 || (old != 0 && new >= old) {
                continue;
            }
            let filter = v1::ContainerStatsFilter { id: id.clone(), ..Default::default() };
            let listed = self.tools.runtime.list_container_stats(Some(filter)).await;
            let stats = listed.map_err(|err| Problem::new("ResizeError", cri(&err)))?;
            let used = stats.first().and_then(|it| it.memory.as_ref()?.usage_bytes.as_ref());
            let used = used.map_or(0, |it| i64::try_from(it.value).unwrap_or(i64::MAX));
            if used >= new {
                let message = format!(
                    "attempting to set container {name:?} memory limit ({new}) below current usage ({used})"
                );
                return Err(Problem::new("ResizeError", message));
            }
        }
        Ok(())
    }

    async fn remove_container(&self, id: String, seen: Option<ContainerSeen>) -> Vec<News> {
        let removed = self.call("remove_container", None, self.tools.runtime.remove_container(&id)).await;
        if let Err(err) = removed
            && !err.is_not_found()
        {
            return vec![News::Tried(id, Err(Problem::new("FailedRemove", cri(&err))))];
        }
        // One that was never started shares its log with the instance that is made in its place.
        if let Some(seen) = seen.filter(|it| it.exit().is_some()) {
            self.tools.home.remove_logs(&self.pod, &seen.name, seen.restart_count).await;
        }
        vec![News::ContainerGone(id)]
    }

    async fn remove_sandbox(&self, id: String) -> Vec<News> {
        let removed = self.call("remove_podsandbox", None, self.tools.runtime.remove_pod_sandbox(&id)).await;
        match removed {
            Ok(()) => vec![News::SandboxGone(id)],
            Err(err) if err.is_not_found() => vec![News::SandboxGone(id)],
            Err(err) => vec![News::Tried(id, Err(Problem::new("FailedRemove", cri(&err))))],
        }
    }

    async fn delete(&self, last_status: Option<serde_json::Value>) -> Result<(), Problem> {
        let deleting = async {
            if let Some(patch) = last_status {
                match self.tools.api.patch_status(&self.pod, patch).await {
                    Ok(_) | Err(ApiError::Gone(_)) => {}
                    Err(err) => return Err(err),
                }
            }
            self.tools.api.delete(&self.pod).await
        };
        self.work("Delete", None, deleting, |it| Problem::new("FailedDelete", it)).await
    }

    /// A runtime call: in time, counted, written down.
    async fn call<T>(
        &self,
        name: &'static str,
        container: Option<&str>,
        call: impl Future<Output = Result<T, CriError>>,
    ) -> Result<T, CriError> {
        let began = Instant::now();
        let answer = match tokio::time::timeout(self.patience(), call).await {
            Ok(answer) => answer,
            Err(_) => {
                let object = pod::key(&self.pod);
                Err(CriError::TimedOut { call: name, object, after: self.patience() })
            }
        };
        let took = began.elapsed();
        let failure = answer.as_ref().err().map(ToString::to_string);
        self.tools.metrics.operation(name, took, failure.is_some());
        self.timeline.call(name, container, took, failure);
        answer
    }

    /// Stops may take the pod's whole grace.
    fn patience(&self) -> Duration {
        PATIENCE + pod::grace(&self.pod)
    }

    /// Other work: written down.
    async fn work<T, E>(
        &self,
        name: &str,
        container: Option<&str>,
        work: impl Future<Output = Result<T, E>>,
        problem: impl FnOnce(E) -> Problem,
    ) -> Result<T, Problem> {
        let began = Instant::now();
        let done = work.await.map_err(problem);
        let failure = done.as_ref().err().map(|it| format!("{}: {}", it.reason, it.message));
        self.timeline.call(name, container, began.elapsed(), failure);
        done
    }

    fn tell(&self, container: Option<&str>, severity: Severity, reason: &str, message: String) {
        self.timeline.add(crate::timeline::Kind::Told, reason, container, message.clone());
        self.tools.events.pod(&self.pod, container, severity, reason, message);
    }
}

/// The runtime's own words, as upstream shows them.
fn cri(err: &CriError) -> String {
    match err {
        CriError::Refused { code, message, .. } => format!("rpc error: code = {code:?} desc = {message}"),
        CriError::TimedOut { .. } => format!("rpc error: code = DeadlineExceeded desc = {err}"),
        CriError::Unreachable { .. } => err.to_string(),
    }
}
