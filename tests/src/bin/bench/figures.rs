//! Medians, percentiles and how they are printed.

use std::time::Duration;

/// Samples, sorted.
pub struct Samples(Vec<Duration>);

impl Samples {
    /// Takes samples in any order; there must be one at least.
    pub fn new(mut samples: Vec<Duration>) -> Self {
        assert!(!samples.is_empty(), "no samples");
        samples.sort();
        Self(samples)
    }

    /// The sample below which the given share of them lies.
    pub fn at(&self, share: f64) -> Duration {
        let index = ((self.0.len() as f64 * share).ceil() as usize).clamp(1, self.0.len()) - 1;
        self.0[index]
    }

    /// The middle one.
    pub fn median(&self) -> Duration {
        self.at(0.5)
    }

    /// Median and p95 in milliseconds.
    pub fn text(&self) -> String {
        format!("{:.1} ms median, {:.1} ms p95", ms(self.median()), ms(self.at(0.95)))
    }
}

/// Milliseconds.
pub fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// Prints a row of the table.
pub fn row(figure: &str, value: &str) {
    println!("| {figure} | {value} |");
}
