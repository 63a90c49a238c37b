//! What an action found out.

use k8s_openapi::api::core::v1::{Pod, ResourceRequirements};

use super::facts::Subject;
use crate::observe::{ContainerSeen, Observed, SandboxSeen};
use crate::translate::ImageFacts;

/// The end of one action.
#[derive(Debug)]
pub(super) struct Report {
    /// What it was about; none for a mere look.
    pub subject: Option<Subject>,
    /// What it found out.
    pub news: Vec<News>,
}

/// One thing found out.
#[derive(Debug)]
pub(super) enum News {
    /// A container as it is now.
    Container(Box<ContainerSeen>),
    /// A container is gone.
    ContainerGone(String),
    /// A sandbox as it is now.
    Sandbox(SandboxSeen),
    /// A sandbox is gone.
    SandboxGone(String),
    /// A sandbox's network is torn down.
    SandboxStopped(String),
    /// Everything, anew; as it was when this many reports had come in.
    Everything(Observed, u64),
    /// The runtime could not be looked at.
    Blind(Problem),
    /// The table is not to be trusted: a call may or may not have had its effect.
    Doubt,
    /// Cgroup and volumes.
    Mounted(Result<(), Problem>),
    /// The sandbox could not be run (or could).
    SandboxRun(Result<(), Problem>),
    /// A container's image.
    Image(String, Result<ImageFacts, Problem>),
    /// A container's start.
    Launched(String, Result<(), Problem>),
    /// Stop or removal of this id.
    Tried(String, Result<(), Problem>),
    /// Containers by id were given these resources, and the cgroup, when all went well, what this pod's are made from.
    Resized(Vec<(String, ResourceRequirements)>, Result<String, Problem>),
    /// Volumes and cgroup are down.
    Cleaned(Result<(), Problem>),
    /// The final DELETE.
    Deleted(Result<(), Problem>),
    /// The status was written (or not).
    Status(Result<Box<Pod>, Problem>),
}

/// Why something did not work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    /// Reason of the waiting state or Event.
    pub reason: String,
    /// The whole sentence.
    pub message: String,
    /// The image that could not be had, where it is not the container's own.
    pub image: Option<String>,
}

impl Problem {
    pub fn new(reason: impl Into<String>, message: impl ToString) -> Self {
        Self { reason: reason.into(), message: message.to_string(), image: None }
    }
}
