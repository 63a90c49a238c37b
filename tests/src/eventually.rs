//! Waiting for a value, with a deadline and a reason when it is over.

use std::fmt::Debug;
use std::time::{Duration, Instant};

/// Asks `look` until it gives `Ok`, for half a minute at most; panics with the last reason.
pub fn eventually<T, E: Debug>(what: &str, look: impl FnMut() -> Result<T, E>) -> T {
    eventually_within(Duration::from_secs(30), what, look)
}

/// Asks `look` until it gives `Ok`, for `limit` at most; panics with the last reason.
pub fn eventually_within<T, E: Debug>(
    limit: Duration,
    what: &str,
    mut look: impl FnMut() -> Result<T, E>,
) -> T {
    let start = Instant::now();
    loop {
        match look() {
            Ok(value) => return value,
            Err(reason) if start.elapsed() > limit => {
                panic!("{what}: not within {limit:?}; last: {reason:?}")
            }
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}
