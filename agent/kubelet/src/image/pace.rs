//! registryPullQPS: so many pulls a second, a few more at once.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// A bucket of permits that fills up again at a steady rate.
pub(super) struct Pace {
    rate: f64,
    burst: f64,
    state: Mutex<(f64, Instant)>,
}

impl Pace {
    /// `rate` a second, `burst` at once; none: no limit.
    pub fn new(rate: i32, burst: i32) -> Option<Self> {
        let burst = f64::from(burst.max(1));
        let state = Mutex::new((burst, Instant::now()));
        (rate > 0).then(|| Self { rate: f64::from(rate), burst, state })
    }

    /// Waits for one's turn. Who leaves while waiting has used up the turn all the same.
    pub async fn turn(&self) {
        let wait = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let filled = state.0 + (now - state.1).as_secs_f64() * self.rate;
            *state = (filled.min(self.burst) - 1.0, now);
            Duration::from_secs_f64((-state.0 / self.rate).max(0.0))
        };
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_and_then_one_after_the_other() {
        let pace = Pace::new(5, 3).unwrap();
        let began = Instant::now();
        let mut waited = Vec::new();
        for _ in 0..5 {
            pace.turn().await;
            waited.push(began.elapsed().as_millis());
        }
        assert_eq!(waited[..3], [0, 0, 0]);
        assert!((199..=202).contains(&waited[3]) && (399..=404).contains(&waited[4]), "{waited:?}");
        assert!(Pace::new(0, 10).is_none());
    }
}
