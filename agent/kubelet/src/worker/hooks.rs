//! postStart and preStop.

use std::time::Duration;

use coracle_cri::RuntimeHandle;
use k8s_openapi::api::core::v1::{Container, LifecycleHandler};

use crate::probe::{self, Outcome};

/// An HTTP hook has this long; upstream sets no limit of its own, the network does.
const HTTP_LIMIT: Duration = Duration::from_secs(60);

/// Runs a hook to its end; an error is what to show. Exec has as long as the caller waits.
pub(super) async fn run(
    runtime: &RuntimeHandle,
    hook: &LifecycleHandler,
    container: &Container,
    id: &str,
    pod_ip: &str,
) -> Result<(), String> {
    if let Some(exec) = &hook.exec {
        let command = exec.command.clone().unwrap_or_default();
        let answer = runtime.exec_sync(id, command, Duration::ZERO).await.map_err(|it| it.to_string())?;
        if answer.exit_code == 0 {
            return Ok(());
        }
        let output = [answer.stdout, answer.stderr].concat();
        let output = String::from_utf8_lossy(&output[..output.len().min(4096)]).into_owned();
        return Err(format!("command exited with {}: {output}", answer.exit_code));
    }
    if let Some(get) = &hook.http_get {
        let request = probe::http_request(get, container, pod_ip)?;
        let outcome = tokio::time::timeout(HTTP_LIMIT, probe::http::get(&request)).await;
        return match outcome {
            // Any answer is good enough for a hook.
            Ok(Outcome::Success | Outcome::Warning(_)) => Ok(()),
            Ok(Outcome::Failure(text)) => Err(text),
            Err(_) => Err(format!("Get {:?}: no answer within {}s", request.url(), HTTP_LIMIT.as_secs())),
        };
    }
    if let Some(sleep) = &hook.sleep {
        tokio::time::sleep(Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0))).await;
    }
    Ok(()) // tcpSocket does nothing, as upstream
}
