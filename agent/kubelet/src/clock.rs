//! What time it is.

use jiff::Timestamp;

/// The wall clock.
#[cfg(not(test))]
pub(crate) fn now() -> Timestamp {
    Timestamp::now()
}

/// A wall clock that goes with tokio's: a test that pauses the one has paused both.
#[cfg(test)]
pub(crate) fn now() -> Timestamp {
    use std::sync::OnceLock;
    use std::time::Instant;
    static START: OnceLock<(Instant, Timestamp)> = OnceLock::new();
    let (began, at) = START.get_or_init(|| (Instant::now(), Timestamp::now()));
    let passed = tokio::time::Instant::now().into_std().saturating_duration_since(*began);
    crate::pod::after(*at, passed)
}
