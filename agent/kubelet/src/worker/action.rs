//! What a plan is made of.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use jiff::Timestamp;

use super::facts::Subject;

/// One step. Nothing is decided when it is carried out.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Make the pod's cgroup and folders, set up its volumes.
    Mount,
    /// Run the pod's sandbox, its `attempt`-th.
    RunSandbox {
        /// Counted from 0.
        attempt: u32,
    },
    /// Tear down a sandbox and its network.
    StopSandbox {
        /// The runtime's id.
        id: String,
    },
    /// See to a container's image.
    Pull {
        /// Its name.
        container: String,
    },
    /// Create and start a container, run its postStart hook.
    Launch {
        /// Its name.
        container: String,
        /// Its restart count.
        restart: u32,
        /// An instance that was created but not started.
        created: Option<String>,
    },
    /// Run a container's preStop hook, then TERM, wait, KILL.
    Stop {
        /// Its name.
        container: String,
        /// The runtime's id.
        id: String,
        /// How long it has.
        grace: Duration,
        /// Why.
        cause: Cause,
    },
    /// Let go of a pull.
    Cancel {
        /// The container's name.
        container: String,
    },
    /// Remove a dead container.
    RemoveContainer {
        /// The runtime's id.
        id: String,
    },
    /// Remove a stopped sandbox.
    RemoveSandbox {
        /// The runtime's id.
        id: String,
    },
    /// Hold running containers, and the pod's cgroup, to what was allocated.
    Resize {
        /// Names and ids of the containers.
        containers: Vec<(String, String)>,
    },
    /// Take down volumes, cgroup and folders.
    CleanUp,
    /// Tell the API server that nothing of the pod is left: the final DELETE.
    Delete,
}

/// Why a container is stopped: the text of its Killing event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// The pod ends.
    PodEnds,
    /// The sandbox is gone or not what the pod wants.
    SandboxChanged,
    /// The spec changed.
    SpecChanged,
    /// The liveness probe failed.
    Liveness,
    /// The startup probe failed.
    Startup,
    /// The postStart hook failed.
    PostStart,
    /// The spec has no such container.
    NotWanted,
    /// It wants to be started anew when its resources change.
    Resized,
    /// Another container of the pod ended in a way that starts all of them anew.
    Anew,
}

impl Action {
    /// What it is about.
    pub fn subject(&self) -> Subject {
        match self {
            Self::Mount | Self::CleanUp => Subject::Volumes,
            Self::RunSandbox { .. } | Self::StopSandbox { .. } => Subject::Sandbox,
            Self::Resize { .. } => Subject::Resources,
            Self::Pull { container }
            | Self::Launch { container, .. }
            | Self::Stop { container, .. }
            | Self::Cancel { container } => Subject::Container(container.clone()),
            Self::RemoveContainer { id } | Self::RemoveSandbox { id } => Subject::Remains(id.clone()),
            Self::Delete => Subject::Object,
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mount => write!(f, "mount"),
            Self::RunSandbox { attempt } => write!(f, "run-sandbox#{attempt}"),
            Self::StopSandbox { id } => write!(f, "stop-sandbox {id}"),
            Self::Pull { container } => write!(f, "pull {container}"),
            Self::Launch { container, restart, created: None } => write!(f, "launch {container}#{restart}"),
            Self::Launch { container, restart, created: Some(id) } => {
                write!(f, "launch {container}#{restart} from {id}")
            }
            Self::Stop { container, grace, cause, .. } => {
                write!(f, "stop {container} {}s {cause}", grace.as_secs())
            }
            Self::Cancel { container } => write!(f, "cancel {container}"),
            Self::RemoveContainer { id } => write!(f, "remove {id}"),
            Self::RemoveSandbox { id } => write!(f, "remove-sandbox {id}"),
            Self::Resize { containers } => {
                let names: Vec<&str> = containers.iter().map(|(name, _)| name.as_str()).collect();
                write!(f, "resize {}", names.join(","))
            }
            Self::CleanUp => write!(f, "clean-up"),
            Self::Delete => write!(f, "delete"),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PodEnds => "end",
            Self::SandboxChanged => "sandbox",
            Self::SpecChanged => "spec",
            Self::Liveness => "liveness",
            Self::Startup => "startup",
            Self::PostStart => "post-start",
            Self::NotWanted => "unwanted",
            Self::Resized => "resize",
            Self::Anew => "anew",
        })
    }
}

/// What to do, what to say meanwhile, and when to look again.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    /// The steps; those about different subjects run side by side.
    pub actions: Vec<Action>,
    /// Reason and message of containers that wait.
    pub waiting: BTreeMap<String, Waiting>,
    /// Back-offs that begin anew: container and restart count.
    pub fresh_backoff: BTreeMap<String, u32>,
    /// Without any event, plan again then.
    pub wake_at: Option<Timestamp>,
    /// How the pod as a whole stands.
    pub stage: Stage,
}

/// Why a container waits.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Waiting {
    /// `ContainerCreating`, `CrashLoopBackOff`, ...
    pub reason: String,
    /// For people; may be empty.
    pub message: String,
}

/// How a pod stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stage {
    /// It should run.
    #[default]
    Living,
    /// Its containers are being stopped.
    Ending,
    /// Nothing of it runs, and nothing will.
    Ended,
    /// Nothing of it is left on the node: the worker's work is done.
    Vanished,
}

impl Plan {
    /// Look again at this time, or earlier.
    pub fn wake(&mut self, at: Option<Timestamp>) {
        self.wake_at = match (self.wake_at, at) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }

    /// A container waits for this.
    pub fn wait(&mut self, container: &str, reason: &str, message: impl Into<String>) {
        let waiting = Waiting { reason: reason.into(), message: message.into() };
        self.waiting.insert(container.to_owned(), waiting);
    }
}
