//! Exponential back-off with jitter, without a clock of its own.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// A growing delay between tries: doubles from `first` to `most`, each with up to half of itself added.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    tries: u32,
}

impl Backoff {
    /// A back-off that starts at `first` and never grows beyond `most` (before jitter).
    #[must_use]
    pub const fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, tries: 0 }
    }

    /// The delay before the next try, without jitter; each call doubles the following one.
    pub fn next_plain(&mut self) -> Duration {
        let delay = self.first.saturating_mul(1_u32 << self.tries.min(20)).min(self.most);
        self.tries = self.tries.saturating_add(1);
        delay
    }

    /// The delay before the next try, with up to 50 % added at random.
    pub fn next_jittered(&mut self) -> Duration {
        let delay = self.next_plain();
        delay + delay.mul_f64(random_unit() * 0.5)
    }

    /// Forgets the failures: something worked.
    pub const fn reset(&mut self) {
        self.tries = 0;
    }
}

/// A number in `0.0..1.0`, good enough to spread clients; not for secrets.
pub fn random_unit() -> f64 {
    let bits = RandomState::new().hash_one(0_u8);
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit a double exactly")]
    let unit = (bits >> 11) as f64 / (1_u64 << 53) as f64;
    unit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_the_most_and_starts_again() {
        let mut b = Backoff::new(Duration::from_millis(5), Duration::from_millis(30));
        let got: Vec<_> = (0..5).map(|_| b.next_plain().as_millis()).collect();
        assert_eq!(got, [5, 10, 20, 30, 30]);
        b.reset();
        assert_eq!(b.next_plain().as_millis(), 5);
    }

    #[test]
    fn jitter_adds_at_most_half() {
        for _ in 0..100 {
            let d = Backoff::new(Duration::from_secs(1), Duration::from_secs(9)).next_jittered();
            assert!((1.0..=1.5).contains(&d.as_secs_f64()), "{d:?}");
        }
    }
}
