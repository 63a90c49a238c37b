//! One probe's task: wait, ask, count, settle.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use coracle_cri::RuntimeHandle;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, Probe};
use tokio::task::{AbortHandle, JoinSet};

use super::{Board, Kind, Outcome, grpc, http, target};
use crate::events::{Events, Severity};
use crate::metrics::{Metrics, ProbeOf};
use crate::observe::{ContainerSeen, Observed};
use crate::pod;

/// What a probe needs to ask and to tell.
#[derive(Clone)]
pub struct ProbeDeps {
    /// For exec.
    pub runtime: RuntimeHandle,
    /// For Unhealthy.
    pub events: Arc<dyn Events>,
    /// For counts.
    pub metrics: Arc<Metrics>,
    /// The node's primary address: where pods of the node's own network are asked.
    pub node_ip: Option<String>,
}

/// The probes of one pod that run.
pub struct Probing {
    deps: ProbeDeps,
    board: Board,
    tasks: JoinSet<()>,
    running: BTreeMap<(String, Kind), AbortHandle>,
}

/// What one probe is about.
struct Patient {
    deps: ProbeDeps,
    board: Board,
    pod: Arc<Pod>,
    container: Container,
    probe: Probe,
    kind: Kind,
    id: String,
    ip: String,
    started_at: Option<Timestamp>,
}

impl Probing {
    /// None yet.
    pub fn new(deps: ProbeDeps, board: Board) -> Self {
        Self { deps, board, tasks: JoinSet::new(), running: BTreeMap::new() }
    }

    /// Starts what is missing and stops what is not wanted: a probe for each kind of each running container.
    /// Where the pod ends, upstream stops liveness and startup probes and goes on with readiness.
    pub fn reconcile(&mut self, pod: &Arc<Pod>, seen: &Observed, ending: bool) {
        let verdicts = self.board.verdicts();
        let mut wanted: BTreeMap<(String, Kind), (&Container, &ContainerSeen)> = BTreeMap::new();
        for container in pod::apps(pod).iter().chain(pod::inits(pod).iter().filter(|it| pod::is_sidecar(it)))
        {
            let Some(found) = seen.latest(&container.name).filter(|it| it.is_alive()) else { continue };
            for kind in Kind::ALL {
                if pod::probe(container, kind).is_none() || (ending && kind != Kind::Readiness) {
                    continue;
                }
                let due = match kind {
                    Kind::Startup => verdicts.of(&found.id, kind).is_none(),
                    Kind::Liveness => {
                        verdicts.is_started(container, found) && verdicts.of(&found.id, kind) != Some(false)
                    }
                    Kind::Readiness => verdicts.is_started(container, found),
                };
                if due {
                    wanted.insert((found.id.clone(), kind), (container, found));
                }
            }
        }
        self.running.retain(|key, task| {
            wanted.contains_key(key) || {
                task.abort();
                false
            }
        });
        while self.tasks.try_join_next().is_some() {}
        self.board.keep(|id| seen.by_id(id).is_some_and(ContainerSeen::is_alive));
        // The runtime tells no address of a pod in the node's network.
        let ip = if pod::host_network(pod) {
            self.deps.node_ip.clone()
        } else {
            seen.sandbox().and_then(|it| it.ips.first()).cloned()
        };
        for ((id, kind), (container, found)) in wanted {
            if self.running.contains_key(&(id.clone(), kind)) {
                continue;
            }
            let Some(probe) = pod::probe(container, kind) else { continue };
            let patient = Patient {
                deps: self.deps.clone(),
                board: self.board.clone(),
                pod: pod.clone(),
                container: container.clone(),
                probe: probe.clone(),
                kind,
                id: id.clone(),
                ip: ip.clone().unwrap_or_else(|| "127.0.0.1".into()),
                started_at: found.started_at,
            };
            self.running.insert((id, kind), self.tasks.spawn(patient.watch()));
        }
    }
}

impl Drop for Patient {
    fn drop(&mut self) {
        self.deps.metrics.probe_ended(self.of());
    }
}

impl Patient {
    /// Asks at every period until told to stop.
    async fn watch(self) {
        let period = pod::probe_seconds(self.probe.period_seconds, 10);
        let delay = pod::probe_seconds(self.probe.initial_delay_seconds, 0);
        let age = self.started_at.map_or(Duration::ZERO, |it| pod::since(crate::clock::now(), it));
        tokio::time::sleep(delay.saturating_sub(age)).await;
        let mut timer = tokio::time::interval(period);
        timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut count = Count::default();
        loop {
            timer.tick().await;
            let outcome = self.ask().await;
            self.tell(&outcome);
            let success = !matches!(outcome, Outcome::Failure(_));
            if let Some(settled) = count.add(success, &self.probe, self.kind) {
                self.board.settle(&self.id, self.kind, settled);
                if self.kind == Kind::Startup || (self.kind == Kind::Liveness && !settled) {
                    return;
                }
            }
        }
    }

    fn of(&self) -> ProbeOf<'_> {
        ProbeOf { pod: &self.pod, container: &self.container.name, kind: self.kind }
    }

    fn tell(&self, outcome: &Outcome) {
        let title = self.kind.title();
        let (reason, message) = match outcome {
            Outcome::Success => return self.deps.metrics.probed(self.of(), "successful"),
            Outcome::Warning(text) => ("ProbeWarning", format!("{title} probe warning: {text}")),
            Outcome::Failure(text) => ("Unhealthy", format!("{title} probe failed: {text}")),
        };
        self.deps.metrics.probed(self.of(), "failed");
        self.deps.events.pod(&self.pod, Some(&self.container.name), Severity::Warning, reason, message);
    }

    /// One question, within the probe's own timeout.
    async fn ask(&self) -> Outcome {
        let timeout = pod::probe_seconds(self.probe.timeout_seconds, 1);
        let question = async {
            if let Some(exec) = &self.probe.exec {
                self.exec(exec.command.clone().unwrap_or_default(), timeout).await
            } else if let Some(get) = &self.probe.http_get {
                match target::http_request(get, &self.container, &self.ip) {
                    Ok(request) => http::get(&request).await,
                    Err(err) => Outcome::Failure(err),
                }
            } else if let Some(tcp) = &self.probe.tcp_socket {
                let host = tcp.host.clone().filter(|it| !it.is_empty()).unwrap_or_else(|| self.ip.clone());
                match target::port_number(&tcp.port, &self.container) {
                    Ok(port) => connect(&host, port).await,
                    Err(err) => Outcome::Failure(err),
                }
            } else if let Some(grpc) = &self.probe.grpc {
                let service = grpc.service.as_deref().unwrap_or_default();
                match u16::try_from(grpc.port) {
                    Ok(port) => grpc::check(&self.ip, port, service).await,
                    Err(_) => Outcome::Failure(format!("invalid port number: {}", grpc.port)),
                }
            } else {
                Outcome::Failure("the probe has no action".into())
            }
        };
        // Exec has its own deadline in the runtime; ours only guards against one that never answers.
        let limit = if self.probe.exec.is_some() { timeout + Duration::from_secs(5) } else { timeout };
        tokio::time::timeout(limit, question).await.unwrap_or_else(|_| Outcome::Failure(self.late(timeout)))
    }

    fn late(&self, timeout: Duration) -> String {
        if let Some(get) = &self.probe.http_get
            && let Ok(request) = target::http_request(get, &self.container, &self.ip)
        {
            let url = request.url();
            return format!(
                "Get {url:?}: context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
            );
        }
        format!("command timed out: no answer within {}s", timeout.as_secs())
    }

    async fn exec(&self, command: Vec<String>, timeout: Duration) -> Outcome {
        match self.deps.runtime.exec_sync(&self.id, command, timeout).await {
            Ok(answer) if answer.exit_code == 0 => Outcome::Success,
            Ok(answer) => {
                let output = [answer.stdout, answer.stderr].concat();
                let text = String::from_utf8_lossy(&output[..output.len().min(10 * 1024)]).into_owned();
                Outcome::Failure(text)
            }
            Err(err) => Outcome::Failure(err.to_string()),
        }
    }
}

async fn connect(host: &str, port: u16) -> Outcome {
    match tokio::net::TcpStream::connect((host, port)).await {
        Ok(_) => Outcome::Success,
        Err(err) => Outcome::Failure(format!("dial tcp {host}:{port}: connect: {}", http::plain(&err))),
    }
}

/// Results in a row.
#[derive(Debug, Default)]
struct Count {
    success: bool,
    run: i32,
}

impl Count {
    /// Counts one more; the settled result when its threshold is reached.
    fn add(&mut self, success: bool, probe: &Probe, kind: Kind) -> Option<bool> {
        if self.success == success || self.run == 0 {
            self.run = self.run.saturating_add(1);
        } else {
            self.run = 1;
        }
        self.success = success;
        let threshold = match (success, kind) {
            (true, Kind::Readiness) => probe.success_threshold.filter(|it| *it > 0).unwrap_or(1),
            (true, Kind::Liveness | Kind::Startup) => 1,
            (false, _) => probe.failure_threshold.filter(|it| *it > 0).unwrap_or(3),
        };
        (self.run >= threshold).then_some(success)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `+` and `-` are answers; the expectation has what is settled after each, `.` for nothing.
    fn check(kind: Kind, thresholds: (i32, i32), answers: &str, expected: &str) {
        let probe = Probe {
            success_threshold: Some(thresholds.0),
            failure_threshold: Some(thresholds.1),
            ..Probe::default()
        };
        let mut count = Count::default();
        let settled: String = answers
            .chars()
            .map(|it| match count.add(it == '+', &probe, kind) {
                Some(true) => '+',
                Some(false) => '-',
                None => '.',
            })
            .collect();
        assert_eq!(settled, expected, "{kind:?} {thresholds:?} {answers}");
    }

    #[test]
    fn thresholds() {
        check(Kind::Readiness, (1, 3), "+--+---+", "+..+..-+");
        check(Kind::Readiness, (2, 2), "++-+--++", ".+...-.+");
        check(Kind::Liveness, (1, 3), "--+---", "..+..-");
        check(Kind::Startup, (1, 1), "-", "-");
    }
}
