//! Paths to handlers.

use std::convert::Infallible;
use std::sync::Arc;

use coracle_cri::proto as v1;
use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use k8s_openapi::api::core::v1::Pod;
use percent_encoding::percent_decode_str;
use serde_json::json;

use super::access::Caller;
use super::answer::{Answer, json, text, whole};
use super::logs::{self, LogOptions};
use super::node::{NoContainer, PodView};
use super::streams::{self, Stream};
use super::{Server, checkpoint, system};
use crate::report;

const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The query's pairs, decoded.
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    fn of(request: &Request<Incoming>) -> Self {
        let raw = request.uri().query().unwrap_or_default();
        Self(form_urlencoded::parse(raw.as_bytes()).into_owned().collect())
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
            .filter(|it| !it.is_empty())
    }

    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub fn flag(&self, name: &str) -> bool {
        matches!(self.get(name), Some("1" | "true" | "True" | "t"))
    }
}

/// The plain health port.
pub(super) async fn health(request: Request<Incoming>, server: &Arc<Server>) -> Result<Answer, Infallible> {
    let path = request.uri().path().trim_end_matches('/');
    Ok(match path {
        "/healthz" | "/healthz/ping" | "/healthz/log" | "/healthz/syncloop" => {
            let _ = server;
            text(StatusCode::OK, "ok")
        }
        _ => not_found(),
    })
}

/// The HTTPS port.
pub(super) async fn handle(
    request: Request<Incoming>,
    peer: Option<Caller>,
    server: Arc<Server>,
) -> Result<Answer, Infallible> {
    let path = request.uri().path().to_owned();
    if let Err(refused) = server.access.check(peer, request.headers(), request.method(), &path).await {
        return Ok(refused);
    }
    Ok(dispatch(request, &path, &server).await)
}

async fn dispatch(request: Request<Incoming>, path: &str, server: &Arc<Server>) -> Answer {
    let segments: Vec<String> =
        path.split('/').skip(1).map(|it| percent_decode_str(it).decode_utf8_lossy().into_owned()).collect();
    let parts: Vec<&str> = segments.iter().map(String::as_str).collect();
    let settings = &server.deps.config.server;
    let query = Query::of(&request);
    let (method, debugging) = (request.method().clone(), settings.debugging_handlers);
    let reading = matches!(method, Method::GET | Method::HEAD);
    match parts.as_slice() {
        ["healthz"] | ["healthz", "ping" | "log" | "syncloop"] if reading => text(StatusCode::OK, "ok"),
        ["pods"] | ["pods", ""] if reading => pod_list(server.deps.node.pods().iter().map(PodView::whole)),
        ["metrics"] if reading => whole(StatusCode::OK, PROMETHEUS, server.deps.node.exposition()),
        ["metrics", "resource"] if reading => resource_metrics(server).await,
        ["metrics", "cadvisor"] if reading => cadvisor_metrics(server).await,
        ["metrics", "probes"] if reading => whole(StatusCode::OK, PROMETHEUS, server.deps.node.probes()),
        ["checkpoint", namespace, pod, container] if method == Method::POST && debugging => {
            checkpoint::serve(server, [namespace, pod, container], &query).await
        }
        ["stats", "summary"] if reading => summary(server, query.flag("only_cpu_and_memory")).await,
        ["configz"] if reading => json(&json!({ "kubeletconfig": server.deps.config.document })),
        ["runningpods"] | ["runningpods", ""] if reading && debugging => running_pods(server).await,
        ["debug", "pods", uid, "timeline"] if reading && debugging => match server.deps.node.timeline(uid) {
            Some(entries) => json(&entries),
            None => text(StatusCode::NOT_FOUND, format!("no pod with uid {uid} on this node\n")),
        },
        ["containerLogs", namespace, pod, container] if reading && debugging => {
            container_logs(server, namespace, pod, container, &query).await
        }
        ["logs", rest @ ..] if reading && debugging && settings.system_log_handler => {
            system::serve(&rest.join("/")).await
        }
        ["run", namespace, pod, container] if method == Method::POST && debugging => {
            run(server, namespace, pod, container, &query).await
        }
        ["run", namespace, pod, _uid, container] if method == Method::POST && debugging => {
            run(server, namespace, pod, container, &query).await
        }
        [kind @ ("exec" | "attach"), namespace, pod, container] if debugging => {
            let stream = if *kind == "exec" { Stream::Exec } else { Stream::Attach };
            streams::command(request, server, stream, [namespace, pod, container], &query).await
        }
        [kind @ ("exec" | "attach"), namespace, pod, _uid, container] if debugging => {
            let stream = if *kind == "exec" { Stream::Exec } else { Stream::Attach };
            streams::command(request, server, stream, [namespace, pod, container], &query).await
        }
        ["portForward", namespace, pod] | ["portForward", namespace, pod, _] if debugging => {
            streams::port_forward(request, server, [namespace, pod], &query).await
        }
        _ => not_found(),
    }
}

fn not_found() -> Answer {
    text(StatusCode::NOT_FOUND, "404 page not found\n")
}

fn pod_list(pods: impl Iterator<Item = Pod>) -> Answer {
    let items: Vec<Pod> = pods.collect();
    json(&json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}))
}

/// The pods that the runtime has something running of, known by its labels alone.
async fn running_pods(server: &Arc<Server>) -> Answer {
    let ready = v1::PodSandboxStateValue { state: v1::PodSandboxState::SandboxReady.into() };
    let filter = v1::PodSandboxFilter { state: Some(ready), ..v1::PodSandboxFilter::default() };
    let sandboxes = match server.deps.runtime.list_pod_sandboxes(Some(filter)).await {
        Ok(sandboxes) => sandboxes,
        Err(err) => return failed(&err),
    };
    let running = v1::ContainerStateValue { state: v1::ContainerState::ContainerRunning.into() };
    let filter = v1::ContainerFilter { state: Some(running), ..v1::ContainerFilter::default() };
    let containers = match server.deps.runtime.list_containers(Some(filter)).await {
        Ok(containers) => containers,
        Err(err) => return failed(&err),
    };
    let pods = sandboxes.into_iter().map(|sandbox| {
        let metadata = sandbox.metadata.unwrap_or_default();
        let inside = containers.iter().filter(|it| it.pod_sandbox_id == sandbox.id);
        let containers: Vec<_> = inside
            .map(|it| {
                let name = it.metadata.as_ref().map(|it| it.name.clone()).unwrap_or_default();
                json!({"name": name, "image": it.image_ref, "resources": {}})
            })
            .collect();
        json!({
            "metadata": {"name": metadata.name, "namespace": metadata.namespace, "uid": metadata.uid},
            "spec": {"containers": containers},
            "status": {},
        })
    });
    let items: Vec<_> = pods.collect();
    json(&json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}))
}

fn pods(server: &Server) -> Vec<Arc<Pod>> {
    server.deps.node.pods().into_iter().map(|it| Arc::new(it.whole())).collect()
}

async fn summary(server: &Arc<Server>, only_cpu_and_memory: bool) -> Answer {
    match server.deps.stats.summary(&pods(server), only_cpu_and_memory).await {
        Ok(summary) => json(&summary),
        Err(err) => failed(&err),
    }
}

async fn resource_metrics(server: &Arc<Server>) -> Answer {
    match server.deps.stats.resource_metrics(&pods(server)).await {
        Ok(metrics) => whole(StatusCode::OK, PROMETHEUS, metrics),
        Err(err) => failed(&err),
    }
}

async fn cadvisor_metrics(server: &Arc<Server>) -> Answer {
    let pods: Vec<Arc<Pod>> = pods(server);
    match server.deps.stats.cadvisor_metrics(&pods).await {
        Ok(metrics) => whole(StatusCode::OK, PROMETHEUS, metrics),
        Err(err) => failed(&err),
    }
}

/// 500 with the error and its causes.
pub(super) fn failed(err: &(dyn std::error::Error + 'static)) -> Answer {
    text(StatusCode::INTERNAL_SERVER_ERROR, report(err))
}

/// The pod, or 404.
pub(super) fn pod(server: &Server, namespace: &str, name: &str) -> Result<PodView, Answer> {
    let missing =
        || text(StatusCode::NOT_FOUND, format!("pod {:?} not found\n", format!("{name}_{namespace}")));
    server.deps.node.pod(namespace, name).ok_or_else(missing)
}

/// 404 or 400.
pub(super) fn no_container(why: NoContainer) -> Answer {
    match why {
        NoContainer::Unknown(words) => text(StatusCode::NOT_FOUND, words),
        NoContainer::NotYet(words) => text(StatusCode::BAD_REQUEST, words),
    }
}

async fn container_logs(
    server: &Arc<Server>,
    namespace: &str,
    name: &str,
    container: &str,
    query: &Query,
) -> Answer {
    let options = match LogOptions::read(query) {
        Ok(options) => options,
        Err(words) => return text(StatusCode::BAD_REQUEST, words),
    };
    let view = match pod(server, namespace, name) {
        Ok(view) => view,
        Err(answer) => return answer,
    };
    match view.logged(container, options.previous) {
        Ok(id) => logs::serve(server, id, options).await,
        Err(why) => no_container(why),
    }
}

async fn run(server: &Arc<Server>, namespace: &str, name: &str, container: &str, query: &Query) -> Answer {
    let id = match pod(server, namespace, name) {
        Ok(view) => match view.running(container) {
            Ok(id) => id,
            Err(why) => return no_container(why),
        },
        Err(answer) => return answer,
    };
    let command = query.get("cmd").unwrap_or_default().split_whitespace().map(str::to_owned).collect();
    let limit = server.deps.config.runtime.request_timeout;
    match server.deps.runtime.exec_sync(&id, command, limit).await {
        Ok(done) if done.exit_code == 0 => {
            whole(StatusCode::OK, "text/plain; charset=utf-8", [done.stdout, done.stderr].concat())
        }
        Ok(done) => {
            let output = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
            let words = format!("command terminated with exit code {}: {output}", done.exit_code);
            text(StatusCode::INTERNAL_SERVER_ERROR, words)
        }
        Err(err) => failed(&err),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::KubeletConfig;
    use crate::server::ServerDeps;
    use crate::server::access::Access;
    use crate::stats::Stats;
    use crate::worker::tests::{dsl, home::Bench};
    use coracle_cri::RuntimeHandle;
    use coracle_cri::fake::{FakeConfig, FakeRuntime};
    use http_body_util::BodyExt;

    async fn words(answer: Answer) -> String {
        String::from_utf8(answer.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn a_checkpoint_is_an_archive_of_a_running_container() {
        let root = tempfile::tempdir().unwrap();
        let mut config: KubeletConfig = crate::config::testing::config(root.path());
        config.cgroups.fail_v1 = false;
        let config = Arc::new(config);
        let runtime: RuntimeHandle = Arc::new(FakeRuntime::new(FakeConfig::default()));
        let (bench, roster) = Bench::roster(runtime.clone());
        roster.sources_synced();
        roster.put(bench.create(&dsl::pod("always: app")));
        bench.phase("u1", "Running").await;
        let cgroups = crate::cgroup::CgroupManager::new(config.clone()).unwrap();
        let deps = ServerDeps {
            stats: Stats::new(config.clone(), runtime.clone(), cgroups),
            config,
            client: None,
            runtime,
            node: roster.clone(),
        };
        let (tracker, token) =
            (tokio_util::task::TaskTracker::new(), tokio_util::sync::CancellationToken::new());
        let server = Arc::new(Server { access: Access::new(&deps), deps, tracker, token });
        let pod = bench.get("u1").unwrap();
        let at = |container| [crate::pod::namespace(&pod), crate::pod::name(&pod), container];
        let query = Query(vec![("timeout".to_owned(), "5".to_owned())]);
        let answer = checkpoint::serve(&server, at("app"), &query).await;
        assert_eq!(answer.status(), StatusCode::OK);
        let told: serde_json::Value = serde_json::from_str(&words(answer).await).unwrap();
        let archive = told["items"][0].as_str().unwrap();
        assert!(
            archive.starts_with(&root.path().join("kubelet/checkpoints/checkpoint-").display().to_string())
        );
        assert_eq!(std::fs::read(archive).unwrap(), b"checkpoint");
        assert_eq!(checkpoint::serve(&server, at("nope"), &query).await.status(), StatusCode::NOT_FOUND);
        let wrong = Query(vec![("timeout".to_owned(), "soon".to_owned())]);
        let answer = checkpoint::serve(&server, at("app"), &wrong).await;
        assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(
            words(cadvisor_metrics(&server).await)
                .await
                .lines()
                .filter(|it| *it == "container_scrape_error 0")
                .count(),
            1
        );
    }
}
