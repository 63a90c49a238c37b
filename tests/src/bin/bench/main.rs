//! `hack/bench`: how fast and how small, each figure beside what it is measured against in the same run.
//!
//! A cluster is brought up in a host of its own; this program enters that host's network and asks.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a measuring program prints, and fails loudly"
)]

mod api; // rates of the API server
mod cni; // plugins beside the reference's
mod figures; // medians and percentiles
mod pods; // pod start and deletion, beside the runtime's own time
mod process; // memory and processor time of a process

use std::os::fd::AsFd;

use anyhow::{Context, Result};
use clap::Parser;
use coracle_tests::Cluster;

/// Measure a cluster.
#[derive(Parser)]
struct Args {
    /// Seconds over which idle processor time is taken.
    #[arg(long, default_value_t = 30)]
    idle: u64,
    /// Pods for the loaded figures.
    #[arg(long, default_value_t = 50)]
    pods: usize,
    /// Containers that each chain of CNI plugins attaches.
    #[arg(long, default_value_t = 50)]
    rounds: usize,
    /// Measure only what has this word in its name: pods, process, api, cni.
    #[arg(long)]
    only: Option<String>,
}

impl Args {
    fn wants(&self, name: &str) -> bool {
        self.only.as_deref().is_none_or(|only| name.contains(only))
    }
}

fn main() -> Result<()> {
    let args = Args::parse();
    println!("| figure | value |\n|---|--:|");
    if args.wants("cni") {
        cni::report(args.rounds)?;
    }
    if !["pods", "process", "api"].iter().any(|it| args.wants(it)) {
        return Ok(());
    }
    let cluster = Cluster::start();
    let namespace = std::fs::File::open(format!("/proc/{}/ns/net", cluster.host().pid()))
        .context("open the host's network")?;
    // Before any thread exists, so that all of them are inside.
    nix::sched::setns(namespace.as_fd(), nix::sched::CloneFlags::CLONE_NEWNET)
        .context("enter the host's network")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(measure(&args, &cluster))
}

async fn measure(args: &Args, cluster: &Cluster) -> Result<()> {
    let config = kube::config::Kubeconfig::read_from(cluster.data_dir().join("admin.kubeconfig"))?;
    let config =
        kube::Config::from_custom_kubeconfig(config, &kube::config::KubeConfigOptions::default()).await?;
    let client = kube::Client::try_from(config)?;
    let wants = |name: &str| args.wants(name);
    let pid = process::pid_of(cluster)?;
    if wants("process") {
        process::report("no pods", pid, args.idle).await?;
    }
    if wants("pods") {
        pods::one_by_one(cluster, &client).await?;
    }
    if wants("process") || wants("pods") {
        let many = pods::Many::start(cluster, &client, args.pods).await?;
        if wants("process") {
            process::report(&format!("{} pods", args.pods), pid, args.idle).await?;
        }
        many.delete().await?;
    }
    if wants("api") {
        api::report(&client).await?;
        process::report_memory("after the API load", pid)?;
    }
    Ok(())
}
