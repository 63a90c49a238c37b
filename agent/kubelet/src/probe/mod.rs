//! Probes: one task and one timer for each, the verdicts of a pod's together, and the ways to ask.

mod board; // what the probes of one pod say
pub mod grpc; // the health protocol over HTTP/2
pub mod http; // GET, as upstream's prober does it
mod runner; // one probe's task
mod target; // ports by name, hosts, URLs

pub use board::{Board, Verdicts};
pub use http::{HttpRequest, Scheme};
pub use runner::{ProbeDeps, Probing};
pub use target::{http_request, port_number};

/// What a probe decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Restart the container when it fails.
    Liveness,
    /// Take the container out of service while it fails.
    Readiness,
    /// Hold the other two back until it succeeds.
    Startup,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Startup, Self::Liveness, Self::Readiness];

    /// As upstream's Events name it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
            Self::Startup => "Startup",
        }
    }
}

/// What one look at a container gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is well.
    Success,
    /// It is well, and something about the answer is odd.
    Warning(String),
    /// It is not well: why.
    Failure(String),
}
