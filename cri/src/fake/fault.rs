//! What can go wrong with a call.

use std::time::Duration;

/// A fault that one call meets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is done; the runtime refuses with these words.
    Fail(tonic::Code, String),
    /// Done, but late.
    Delay(Duration),
    /// Nothing is done and no answer comes until the runtime restarts.
    Hang,
    /// Done, but the answer is lost: the caller sees the connection break.
    LoseAnswer,
    /// Done twice, as by a retry on the way; the caller sees the second answer.
    Twice,
    /// Done, but no answer comes until the runtime restarts.
    NoAnswer,
    /// Done; then the daemon dies. Calls under way and event streams break off, and nobody answers for so long.
    Crash(Duration),
}
