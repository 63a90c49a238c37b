//! Logs to standard error: what to say comes from `CORACLE_LOG` (as `info,coracle_kubelet=debug`), `info` by default.

use tracing_subscriber::EnvFilter;

/// Starts logging. Call once, first of all.
pub fn start() {
    let filter =
        EnvFilter::try_from_env("CORACLE_LOG").unwrap_or_else(|_| EnvFilter::new("info,kube_client=off"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
}
