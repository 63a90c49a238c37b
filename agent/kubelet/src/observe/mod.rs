//! What the runtime has: the table of one pod's sandboxes and containers, and the signals that it changed.
//!
//! Signals only wake a worker; they never carry the change.

mod exits; // a pidfd on each process
mod listing; // CRI lists and statuses into tables
mod relist; // the slow look at everything, and the runtime's own events
mod termination; // what a container left as its last words

pub use exits::ExitWatch;
pub use listing::{everything, of_container, of_pod, of_sandbox};
pub use relist::{RelistDeps, run};

use std::collections::BTreeMap;

use coracle_cri::proto as v1;
use jiff::Timestamp;

/// Everything that the runtime has of one pod, newest first.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Observed {
    /// Its sandboxes.
    pub sandboxes: Vec<SandboxSeen>,
    /// Its containers, those of old sandboxes included.
    pub containers: Vec<ContainerSeen>,
}

/// One sandbox.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SandboxSeen {
    /// The runtime's id.
    pub id: String,
    /// Its process runs.
    pub ready: bool,
    /// How often the pod had one before.
    pub attempt: u32,
    /// Nanoseconds since 1970.
    pub created_at: i64,
    /// Its addresses, primary first; none in the node's network.
    pub ips: Vec<String>,
    /// It lives in the node's network.
    pub host_network: bool,
    /// Its process, where the runtime says so.
    pub pid: Option<u32>,
}

/// One container instance.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ContainerSeen {
    /// The runtime's id.
    pub id: String,
    /// The sandbox that it lives in.
    pub sandbox_id: String,
    /// Its name in the pod.
    pub name: String,
    /// How often it ran before.
    pub restart_count: u32,
    /// Hash of the spec that it was made from; empty when the runtime does not say.
    pub hash: String,
    /// What it is doing.
    pub state: State,
    /// Nanoseconds since 1970.
    pub created_at: i64,
    /// When it began to run.
    pub started_at: Option<Timestamp>,
    /// The image as the runtime names it.
    pub image: String,
    /// The image's digest or id.
    pub image_ref: String,
    /// Its process, where the runtime says so and it runs.
    pub pid: Option<u32>,
    /// The user that the runtime chose.
    pub user: Option<v1::LinuxContainerUser>,
    /// The signal that it is stopped with, where the runtime says so.
    pub stop_signal: Option<&'static str>,
    /// The limits that the runtime has set.
    pub limits: Option<v1::LinuxContainerResources>,
}

/// What a container is doing.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum State {
    /// Made, never started.
    #[default]
    Created,
    /// Its process runs.
    Running,
    /// Over.
    Exited(Exit),
    /// The runtime does not know.
    Unknown,
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Exit {
    /// Its process' exit code.
    pub code: i32,
    /// `Completed`, `Error`, `OOMKilled`, ...
    pub reason: String,
    /// Its last words.
    pub message: String,
    /// When.
    pub at: Option<Timestamp>,
}

impl Observed {
    /// The newest sandbox.
    pub fn sandbox(&self) -> Option<&SandboxSeen> {
        self.sandboxes.first()
    }

    /// The newest instance of a container.
    pub fn latest(&self, name: &str) -> Option<&ContainerSeen> {
        self.containers.iter().find(|it| it.name == name)
    }

    /// The newest instance of a container in this sandbox.
    pub fn latest_in(&self, name: &str, sandbox: &str) -> Option<&ContainerSeen> {
        self.containers.iter().find(|it| it.name == name && it.sandbox_id == sandbox)
    }

    /// All instances of a container, newest first.
    pub fn instances<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a ContainerSeen> + 'a {
        self.containers.iter().filter(move |it| it.name == name)
    }

    /// A container by the runtime's id.
    pub fn by_id(&self, id: &str) -> Option<&ContainerSeen> {
        self.containers.iter().find(|it| it.id == id)
    }

    /// Puts in what was seen of one container, in its place. An older look at one that has ended since is no news.
    pub fn put_container(&mut self, seen: ContainerSeen) {
        if self.by_id(&seen.id).is_some_and(|it| it.exit().is_some()) && seen.exit().is_none() {
            return;
        }
        self.containers.retain(|it| it.id != seen.id);
        self.containers.push(seen);
        self.sort();
    }

    /// Puts in what was seen of one sandbox, in its place.
    pub fn put_sandbox(&mut self, seen: SandboxSeen) {
        self.sandboxes.retain(|it| it.id != seen.id);
        self.sandboxes.push(seen);
        self.sort();
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.sandboxes.is_empty() && self.containers.is_empty()
    }

    /// Id and state of all, for comparing two looks.
    pub fn outline(&self) -> BTreeMap<&str, u8> {
        let sandboxes = self.sandboxes.iter().map(|it| (it.id.as_str(), u8::from(it.ready)));
        let containers = self.containers.iter().map(|it| {
            let state = match it.state {
                State::Created => 10,
                State::Running => 11,
                State::Exited(_) => 12,
                State::Unknown => 13,
            };
            (it.id.as_str(), state)
        });
        sandboxes.chain(containers).collect()
    }

    /// Newest first; of two made in the same moment the one with the higher attempt.
    pub fn sort(&mut self) {
        self.sandboxes.sort_by_key(|it| std::cmp::Reverse((it.attempt, it.created_at)));
        self.containers.sort_by_key(|it| std::cmp::Reverse((it.created_at, it.restart_count)));
    }
}

impl ContainerSeen {
    /// It has a process, or may have one.
    pub fn is_alive(&self) -> bool {
        match self.state {
            State::Running | State::Unknown => true,
            State::Created | State::Exited(_) => false,
        }
    }

    /// How it ended, if it did.
    pub fn exit(&self) -> Option<&Exit> {
        match &self.state {
            State::Exited(exit) => Some(exit),
            State::Created | State::Running | State::Unknown => None,
        }
    }
}
