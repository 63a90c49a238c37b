//! How containers live and die.

use std::sync::Arc;
use std::time::Duration;

use crate::proto as v1;

/// What happens inside exec: a command to its output and exit code.
pub type Exec = Arc<dyn Fn(&[String]) -> v1::ExecSyncResponse + Send + Sync>;

/// The lives of a container, one per attempt; the last one repeats.
#[derive(Clone, Default)]
pub struct Script {
    /// Attempt by attempt.
    pub runs: Vec<Run>,
    /// Answers to ExecSync; without one every command succeeds silently.
    pub exec: Option<Exec>,
}

/// One life of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// The container cannot be started, in these words.
    pub start_error: Option<String>,
    /// When it ends by itself.
    pub ending: Option<Ending>,
    /// How long it takes to end on TERM; `None` ignores TERM and has to be killed.
    pub term: Option<Duration>,
}

/// An end by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// So long after the start.
    pub after: Duration,
    /// With this exit code.
    pub exit_code: i32,
    /// `OOMKilled`, or empty for what the exit code says.
    pub reason: String,
}

impl Default for Run {
    /// Runs until TERM, then ends at once.
    fn default() -> Self {
        Self { start_error: None, ending: None, term: Some(Duration::ZERO) }
    }
}

impl Run {
    /// Ends by itself.
    pub fn exits(after: Duration, exit_code: i32) -> Self {
        Self { ending: Some(Ending { after, exit_code, reason: String::new() }), ..Self::default() }
    }

    /// Has to be killed.
    pub fn ignores_term() -> Self {
        Self { term: None, ..Self::default() }
    }
}

impl Script {
    /// These lives, in this order.
    pub fn of(runs: impl IntoIterator<Item = Run>) -> Self {
        Self { runs: runs.into_iter().collect(), exec: None }
    }

    pub(super) fn run(&self, attempt: u32) -> Run {
        let index = usize::try_from(attempt).unwrap_or(usize::MAX).min(self.runs.len().saturating_sub(1));
        self.runs.get(index).cloned().unwrap_or_default()
    }
}
