//! `kubelet`: the node agent alone, with upstream's flags and configuration file.
#![allow(clippy::print_stdout, reason = "a command-line program")]

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use coracle_agent::{api_client, logging, memory, node_agent, supervise};
use coracle_cri::{Remote, RemoteConfig, RuntimeHandle};
use coracle_kubelet::config::{self, Flags};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Longest time that the rooms have to end.
const SHUTDOWN: Duration = Duration::from_secs(10);

const HELP: &str = "\
The kubelet: runs the pods that the API server binds to this node, and those in a folder of manifests.

Usage: kubelet --config=FILE --kubeconfig=FILE [flags]

Flags are upstream's; those that have a field in KubeletConfiguration override the file's.
";

fn main() -> ExitCode {
    memory::tune();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let flags = match Flags::parse(&arguments) {
        Ok(flags) => flags,
        Err(error) => return failed(&error.into()),
    };
    if flags.help {
        print!("{HELP}");
        return ExitCode::SUCCESS;
    }
    if flags.version {
        println!("Kubernetes {}", coracle_kubelet::node::KUBELET_VERSION);
        return ExitCode::SUCCESS;
    }
    logging::start();
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(memory::workers())
        .enable_all()
        .build()
        .context("start the runtime")
        .and_then(|runtime| {
            let outcome = runtime.block_on(run(flags));
            runtime.shutdown_timeout(Duration::from_secs(1));
            outcome
        });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

fn failed(error: &anyhow::Error) -> ExitCode {
    eprintln!("error: {error:#}");
    ExitCode::FAILURE
}

async fn run(flags: Flags) -> Result<()> {
    let loaded = config::load(&flags).context("configure the kubelet")?;
    for warning in &loaded.warnings {
        tracing::warn!(%warning, "configuration");
    }
    let config = loaded.config;
    let token = CancellationToken::new();
    let mut rooms = JoinSet::new();
    let client = api_client::connect(&config, &mut rooms, &token).await?;
    let remote = RemoteConfig { request_timeout: config.runtime.request_timeout, ..RemoteConfig::default() };
    let image_endpoint = config.runtime.image_endpoint.clone();
    let runtime: RuntimeHandle =
        Arc::new(Remote::with_config(&config.runtime.endpoint, Some(&image_endpoint), remote)?);
    node_agent::start(config, client, runtime, &mut rooms, &token).await?;
    supervise::ready();
    let outcome = supervise::until_stopped(&mut rooms).await;
    token.cancel();
    let drained = tokio::time::timeout(SHUTDOWN, async { while rooms.join_next().await.is_some() {} });
    if drained.await.is_err() {
        tracing::warn!("some work was still under way at the end");
    }
    outcome
}
