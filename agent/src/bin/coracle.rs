//! `coracle`: a cluster in one process, and the commands that speak with it.
#![allow(clippy::print_stdout, reason = "a command-line program")]

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use coracle_agent::join::Invitation;
use coracle_agent::layout::Layout;
use coracle_agent::preflight::Needs;
use coracle_agent::settings::{AgentArgs, ServerArgs, Settings, Started};
use coracle_agent::status::Scope;
use coracle_agent::{agent, down, logging, memory, preflight, server, started, status, tokens, why};

/// Where a cluster's data is unless something else is said.
const DATA_DIR: &str = "/var/lib/coracle";

/// Kubernetes nodes in Rust.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run a cluster's control plane, and a node of it, in this process.
    #[command(visible_alias = "up")]
    Server(Box<ServerArgs>),
    /// Run a node of a cluster whose control plane is elsewhere.
    Agent(Box<AgentArgs>),
    /// Make, list and delete the tokens that let machines join.
    Token {
        #[command(flatten)]
        access: Access,
        #[command(subcommand)]
        verb: TokenVerb,
    },
    /// Look whether a cluster could start here, and say what is in the way.
    Check(Box<ServerArgs>),
    /// Tell whether the cluster is Ready, and if not, what it is waiting for.
    Status {
        #[command(flatten)]
        data: DataDir,
        /// Look at this host's own node alone.
        #[arg(long)]
        this_node: bool,
        /// Wait so many seconds for it.
        #[arg(long, default_value_t = 0)]
        wait: u64,
    },
    /// Tell what happened to an object, step by step, with reasons and times.
    Why {
        #[command(flatten)]
        access: Access,
        #[command(subcommand)]
        object: Object,
    },
    /// End all pods and take back what the cluster put into the kernel.
    Down {
        #[command(flatten)]
        data: DataDir,
    },
}

/// Which cluster to speak with, and as whom.
#[derive(clap::Args)]
struct Access {
    /// The cluster's data folder; by default what KUBECONFIG names, and without it /var/lib/coracle.
    #[arg(long, global = true)]
    data_dir: Option<PathBuf>,
    /// A kubeconfig; by default the administrator's in the data folder.
    #[arg(long, global = true)]
    kubeconfig: Option<PathBuf>,
}

impl Access {
    fn kubeconfig(self) -> PathBuf {
        // Not by clap: it cannot tell a flag from the environment.
        kubeconfig_of(self.kubeconfig, self.data_dir, std::env::var_os("KUBECONFIG"))
    }
}

#[derive(Subcommand)]
enum TokenVerb {
    /// Make a token and print it; it carries the hash of the cluster's CA.
    Create(tokens::Create),
    /// Show the tokens that there are, without their secrets.
    List,
    /// Delete tokens: machines that have joined stay.
    Delete {
        /// Their ids.
        #[arg(required = true)]
        tokens: Vec<String>,
    },
}

#[derive(clap::Args)]
struct DataDir {
    /// The cluster's data folder.
    #[arg(long, default_value = DATA_DIR)]
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
        Verb::Server(args) => server::run(args.resolve()?).await.map(|()| ExitCode::SUCCESS),
        Verb::Agent(args) => join(*args).await.map(|()| ExitCode::SUCCESS),
        Verb::Token { access, verb } => token(&access.kubeconfig(), verb).await.map(|()| ExitCode::SUCCESS),
        Verb::Check(args) => check(args.resolve()?).await,
        Verb::Status { data, this_node, wait } => {
            let layout = Layout::new(data.data_dir);
            let scope = if this_node { Scope::ThisNode } else { Scope::Cluster };
            let state = status::wait_until_ready(&layout, scope, Duration::from_secs(wait), |state| {
                println!("{state}")
            })
            .await;
            let ready = matches!(state, status::State::Ready { .. });
            Ok(if ready { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Verb::Why { access, object: Object::Pod { name, namespace } } => {
            let path = access.kubeconfig();
            let client = coracle_client::from_kubeconfig(&path, "coracle-why").await?;
            print!("{}", why::pod(client, &namespace, &name).await?);
            Ok(ExitCode::SUCCESS)
        }
        Verb::Down { data } => tear_down(&data.data_dir).await,
    }
}

/// The kubeconfig to use: what was named here goes before the environment, and that before the default folder.
fn kubeconfig_of(
    kubeconfig: Option<PathBuf>,
    data_dir: Option<PathBuf>,
    environment: Option<OsString>,
) -> PathBuf {
    let environment = environment.filter(|it| !it.is_empty()).map(PathBuf::from);
    match (kubeconfig, data_dir, environment) {
        (Some(path), _, _) => path,
        (None, Some(folder), _) => Layout::new(folder).admin_kubeconfig(),
        (None, None, Some(path)) => path,
        (None, None, None) => Layout::new(DATA_DIR).admin_kubeconfig(),
    }
}

async fn check(settings: Settings) -> Result<ExitCode> {
    let runtime = if settings.runs_node { Some(started::runtime(&settings.node)?) } else { None };
    let needs = Needs { node: &settings.node, runtime: runtime.as_deref(), api: Some(settings.api_address) };
    let findings = preflight::check(needs).await;
    for finding in &findings {
        eprintln!("error: {finding}");
    }
    Ok(if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn join(args: AgentArgs) -> Result<()> {
    let token = match (&args.token, &args.token_file) {
        (Some(token), _) => Some(token.clone()),
        (None, Some(file)) => match std::fs::read_to_string(file) {
            Ok(text) => Some(text.trim().to_owned()),
            // A node that has joined needs none, and whoever gave it may have taken it away since.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(error).with_context(|| format!("read {}", file.display())),
        },
        (None, None) => None,
    };
    let invitation = Invitation::checked(&args.server, token.as_deref(), args.ca_hash.as_deref())?;
    agent::run(args.node.resolve()?, invitation).await
}

async fn token(kubeconfig: &Path, verb: TokenVerb) -> Result<()> {
    let client = coracle_client::from_kubeconfig(kubeconfig, "coracle-token").await?;
    match verb {
        TokenVerb::Create(create) => {
            println!("{}", tokens::create(client, kubeconfig, create).await?.text());
        }
        TokenVerb::List => print!("{}", tokens::list(client).await?),
        TokenVerb::Delete { tokens } => {
            for id in tokens::delete(client, &tokens).await? {
                println!("token {id} deleted");
            }
        }
    }
    Ok(())
}

async fn tear_down(data_dir: &Path) -> Result<ExitCode> {
    let path = Layout::new(data_dir).settings();
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        // Never started: nothing to take back.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(ExitCode::SUCCESS),
        Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
    };
    let started: Started =
        serde_json::from_slice(&text).with_context(|| format!("read {}", path.display()))?;
    let failures = down::down(&started).await;
    if failures.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    for failure in &failures {
        eprintln!("error: {failure}");
    }
    bail!("{} things could not be taken back", failures.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_named_goes_before_the_environment() {
        let check = |flag: Option<&str>, folder: Option<&str>, environment: Option<&str>, want: &Path| {
            let got =
                kubeconfig_of(flag.map(Into::into), folder.map(Into::into), environment.map(Into::into));
            assert_eq!(got, want, "{flag:?} {folder:?} {environment:?}");
        };
        let of = |folder: &str| Layout::new(folder).admin_kubeconfig();
        check(Some("/flag"), Some("/data"), Some("/env"), Path::new("/flag"));
        check(None, Some("/data"), Some("/env"), &of("/data"));
        check(None, None, Some("/env"), Path::new("/env"));
        check(None, None, Some(""), &of(DATA_DIR));
        check(None, None, None, &of(DATA_DIR));
    }
}
