//! When to look at a log again.

use std::time::Duration;

/// The soonest second look, however fast a log grows.
const SOONEST: Duration = Duration::from_millis(200);

/// A log with `room` bytes left grew by `grown` in the time of `during`: looked at again when it will be full, if it
/// goes on like this, and after `interval` at the latest.
pub(super) fn look_in(room: u64, grown: u64, during: Duration, interval: Duration) -> Duration {
    let rate = grown / u64::try_from(during.as_millis()).unwrap_or(u64::MAX).max(1);
    let full = room.checked_div(rate).map_or(interval, Duration::from_millis);
    full.clamp(SOONEST.min(interval), interval)
}

/// How long after its first write a log that slept is looked at.
pub(super) fn first_look(interval: Duration) -> Duration {
    SOONEST.min(interval)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_faster_it_grows_the_sooner_the_look() {
        let check = |room: u64, grown: u64, millis: u64, want: u64| {
            let interval = Duration::from_secs(10);
            let got = look_in(room, grown, Duration::from_millis(millis), interval);
            assert_eq!(got, Duration::from_millis(want), "{room} {grown} {millis}");
        };
        check(10 << 20, 100, 10_000, 10_000);
        check(10 << 20, 0, 10_000, 10_000);
        check(1_000_000, 1_000_000, 1_000, 1_000);
        check(1_000_000, 1_000_000_000, 1_000, 200);
        check(0, 1_000_000, 1_000, 200);
        check(1_000_000, 1_000_000, 0, 200);
    }
}
