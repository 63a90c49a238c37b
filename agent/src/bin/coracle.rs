//! `coracle`: a cluster in one process, and the commands that speak with it.
#![allow(clippy::print_stdout, reason = "a command-line program")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use coracle_agent::layout::Layout;
use coracle_agent::settings::{Settings, UpArgs};
use coracle_agent::{down, logging, memory, preflight, status, up, why};
use coracle_cri::{Remote, RuntimeHandle};

/// Kubernetes nodes in Rust.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run a whole one-node cluster in this process.
    Up(Box<UpArgs>),
    /// Look whether a cluster could start here, and say what is in the way.
    Check(Box<UpArgs>),
    /// Tell whether the cluster is Ready, and if not, what it is waiting for.
    Status {
        #[command(flatten)]
        data: DataDir,
        /// Wait so many seconds for it.
        #[arg(long, default_value_t = 0)]
        wait: u64,
    },
    /// Tell what happened to an object, step by step, with reasons and times.
    Why {
        #[command(flatten)]
        data: DataDir,
        /// A kubeconfig; by default the administrator's in the data folder.
        #[arg(long, env = "KUBECONFIG")]
        kubeconfig: Option<PathBuf>,
        #[command(subcommand)]
        object: Object,
    },
    /// End all pods and take back what the cluster put into the kernel.
    Down {
        #[command(flatten)]
        data: DataDir,
    },
}

#[derive(clap::Args)]
struct DataDir {
    /// The cluster's data folder.
    #[arg(long, default_value = "/var/lib/coracle")]
    data_dir: PathBuf,
}

#[derive(Subcommand)]
enum Object {
    /// A pod.
    Pod {
        /// Its name.
        name: String,
        /// Its namespace.
        #[arg(long, short, default_value = "default")]
        namespace: String,
    },
}

fn main() -> ExitCode {
    memory::tune();
    logging::start();
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(memory::workers())
        .enable_all()
        .build()
        .context("start the runtime")
        .and_then(|runtime| {
            let outcome = runtime.block_on(run(Cli::parse().command));
            // A blocking call that hangs must not keep the process.
            runtime.shutdown_timeout(Duration::from_secs(1));
            outcome
        });
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(verb: Verb) -> Result<ExitCode> {
    match verb {
        Verb::Up(args) => up::run(args.resolve()?).await.map(|()| ExitCode::SUCCESS),
        Verb::Check(args) => check(args.resolve()?).await,
        Verb::Status { data, wait } => {
            let layout = Layout::new(data.data_dir);
            let state =
                status::wait_until_ready(&layout, Duration::from_secs(wait), |state| println!("{state}"))
                    .await;
            let ready = matches!(state, status::State::Ready { .. });
            Ok(if ready { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Verb::Why { data, kubeconfig, object: Object::Pod { name, namespace } } => {
            let own = Layout::new(data.data_dir).admin_kubeconfig();
            // A folder that was named wins over the environment.
            let path = if own.exists() { own } else { kubeconfig.unwrap_or(own) };
            let client = coracle_client::from_kubeconfig(&path, "coracle-why").await?;
            print!("{}", why::pod(client, &namespace, &name).await?);
            Ok(ExitCode::SUCCESS)
        }
        Verb::Down { data } => tear_down(&data.data_dir).await,
    }
}

async fn check(settings: Settings) -> Result<ExitCode> {
    let runtime: RuntimeHandle = Arc::new(Remote::connect(&settings.runtime_endpoint)?);
    let findings = preflight::check(&settings, runtime.as_ref()).await;
    for finding in &findings {
        eprintln!("error: {finding}");
    }
    Ok(if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn tear_down(data_dir: &Path) -> Result<ExitCode> {
    let path = Layout::new(data_dir).settings();
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        // Never started: nothing to take back.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(ExitCode::SUCCESS),
        Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
    };
    let settings = serde_json::from_slice(&text).with_context(|| format!("read {}", path.display()))?;
    let failures = down::down(&settings).await;
    if failures.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    for failure in &failures {
        eprintln!("error: {failure}");
    }
    bail!("{} things could not be taken back", failures.len())
}
