//! Durations as Go writes them, and ages as people read them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

const SECOND: i64 = 1_000_000_000;

/// A signed duration in nanoseconds with Go's text form (`1m0s`, `1.5s`, `100ms`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct GoDuration {
    nanos: i64,
}

/// Why a text is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// The text has not the shape of a duration.
    #[error("time: invalid duration {0:?}")]
    Invalid(String),
    /// A number without a unit.
    #[error("time: missing unit in duration {0:?}")]
    MissingUnit(String),
    /// A unit nobody knows.
    #[error("time: unknown unit {unit:?} in duration {text:?}")]
    UnknownUnit {
        /// The unit.
        unit: String,
        /// The whole text.
        text: String,
    },
}

impl GoDuration {
    /// Reads Go's text form.
    pub fn parse(text: &str) -> Result<Self, DurationError> {
        let invalid = || DurationError::Invalid(text.to_owned());
        let (negative, mut rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        if rest == "0" {
            return Ok(Self::default());
        }
        if rest.is_empty() {
            return Err(invalid());
        }
        let mut total: i128 = 0;
        while !rest.is_empty() {
            let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
            let (number, tail) = rest.split_at(number_end);
            let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(unit_end);
            if number.is_empty() || number == "." || number.matches('.').count() > 1 {
                return Err(invalid());
            }
            if unit.is_empty() {
                return Err(DurationError::MissingUnit(text.to_owned()));
            }
            let scale = unit_nanos(unit)
                .ok_or_else(|| DurationError::UnknownUnit { unit: unit.to_owned(), text: text.to_owned() })?;
            total = total.checked_add(scaled(number, scale).ok_or_else(invalid)?).ok_or_else(invalid)?;
            rest = tail;
        }
        let nanos = i64::try_from(if negative { -total } else { total }).map_err(|_| invalid())?;
        Ok(Self { nanos })
    }

    /// From whole seconds.
    #[must_use]
    pub fn from_secs(seconds: i64) -> Self {
        Self { nanos: seconds.saturating_mul(SECOND) }
    }

    /// From nanoseconds.
    #[must_use]
    pub fn from_nanos(nanos: i64) -> Self {
        Self { nanos }
    }

    /// In nanoseconds.
    #[must_use]
    pub fn nanos(&self) -> i64 {
        self.nanos
    }

    /// As a `Duration`; negative ones become zero.
    #[must_use]
    pub fn as_duration(&self) -> Duration {
        Duration::from_nanos(u64::try_from(self.nanos).unwrap_or(0))
    }
}

fn unit_nanos(unit: &str) -> Option<i64> {
    Some(match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => SECOND,
        "m" => 60 * SECOND,
        "h" => 3600 * SECOND,
        _ => return None,
    })
}

/// `number * scale` without going through floats; what is finer than a nanosecond is cut off.
fn scaled(number: &str, scale: i64) -> Option<i128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let mut total = if whole.is_empty() { 0 } else { whole.parse::<i64>().ok()?.into() };
    total *= i128::from(scale);
    let mut unit = i128::from(scale);
    let mut part = 0_i128;
    let mut divisor = 1_i128;
    for digit in fraction.bytes().take(18) {
        part = part * 10 + i128::from(digit - b'0');
        divisor *= 10;
    }
    unit *= part;
    Some(total + unit / divisor)
}

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0s");
        }
        if self.nanos < 0 {
            f.write_str("-")?;
        }
        let nanos = self.nanos.unsigned_abs();
        match nanos {
            0..1_000 => return write!(f, "{nanos}ns"),
            1_000..1_000_000 => return write!(f, "{}µs", decimal(nanos, 1_000)),
            1_000_000..1_000_000_000 => return write!(f, "{}ms", decimal(nanos, 1_000_000)),
            _ => {}
        }
        let second = SECOND.unsigned_abs();
        let (hours, minutes) = (nanos / second / 3600, nanos / second / 60 % 60);
        if hours > 0 {
            write!(f, "{hours}h")?;
        }
        if hours > 0 || minutes > 0 {
            write!(f, "{minutes}m")?;
        }
        write!(f, "{}s", decimal(nanos % (60 * second), second))
    }
}

/// `value / unit` with the fraction it needs.
fn decimal(value: u64, unit: u64) -> String {
    let width = unit.ilog10() as usize;
    let text = format!("{}.{:0width$}", value / unit, value % unit);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

impl FromStr for GoDuration {
    type Err = DurationError;
    fn from_str(text: &str) -> Result<Self, DurationError> {
        Self::parse(text)
    }
}

impl From<Duration> for GoDuration {
    fn from(duration: Duration) -> Self {
        Self { nanos: i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX) }
    }
}

impl Serialize for GoDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// An age as tables show it: two or three significant figures (`45s`, `3m5s`, `5h`, `2d3h`, `1y20d`).
#[must_use]
pub fn human(seconds: i64) -> String {
    const DAY: i64 = 24;
    const YEAR: i64 = 365;
    let pair = |big: i64, unit: &str, small: i64, small_unit: &str| match small {
        0 => format!("{big}{unit}"),
        _ => format!("{big}{unit}{small}{small_unit}"),
    };
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let days = hours / DAY;
    match seconds {
        ..-1 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        0..120 => format!("{seconds}s"),
        _ if minutes < 10 => pair(minutes, "m", seconds % 60, "s"),
        _ if minutes < 180 => format!("{minutes}m"),
        _ if hours < 8 => pair(hours, "h", minutes % 60, "m"),
        _ if hours < 48 => format!("{hours}h"),
        _ if hours < DAY * 8 => pair(days, "d", hours % DAY, "h"),
        _ if hours < DAY * YEAR * 2 => format!("{days}d"),
        _ if hours < DAY * YEAR * 8 => pair(days / YEAR, "y", days % YEAR, "d"),
        _ => format!("{}y", days / YEAR),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn texts_as_go_writes_them() {
        for (text, shown) in [
            ("0", "0s"),
            ("60s", "1m0s"),
            ("1m0s", "1m0s"),
            ("1.5s", "1.5s"),
            ("1500ms", "1.5s"),
            ("100ms", "100ms"),
            ("90m", "1h30m0s"),
            ("24h", "24h0m0s"),
            ("1h0m0.5s", "1h0m0.5s"),
            ("10us", "10µs"),
            ("1.25µs", "1.25µs"),
            ("7ns", "7ns"),
            ("-1m", "-1m0s"),
            (".5h", "30m0s"),
        ] {
            assert_eq!(GoDuration::parse(text).unwrap().to_string(), shown, "{text}");
        }
        assert_eq!(GoDuration::parse("1m").unwrap().as_duration(), Duration::from_mins(1));
    }

    #[test]
    fn nonsense_is_refused() {
        for (text, error) in [
            ("", "time: invalid duration \"\""),
            ("5", "time: missing unit in duration \"5\""),
            ("5x", "time: unknown unit \"x\" in duration \"5x\""),
            ("s", "time: invalid duration \"s\""),
            ("1..5s", "time: invalid duration \"1..5s\""),
            ("9999999h", "time: invalid duration \"9999999h\""),
        ] {
            assert_eq!(GoDuration::parse(text).unwrap_err().to_string(), error);
        }
    }

    #[test]
    fn ages_for_people() {
        const H: i64 = 3600;
        const D: i64 = 24 * H;
        for (seconds, shown) in [
            (-5, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (185, "3m5s"),
            (600, "10m"),
            (179 * 60 + 59, "179m"),
            (3 * H, "3h"),
            (5 * H + 120, "5h2m"),
            (8 * H, "8h"),
            (47 * H, "47h"),
            (2 * D, "2d"),
            (2 * D + 3 * H, "2d3h"),
            (8 * D + 5, "8d"),
            (700 * D, "700d"),
            (740 * D, "2y10d"),
            (9 * 365 * D, "9y"),
        ] {
            assert_eq!(human(seconds), shown, "{seconds}");
        }
    }

    proptest! {
        #[test]
        fn text_reads_back(nanos in any::<i64>()) {
            prop_assume!(nanos != i64::MIN);
            let duration = GoDuration::from_nanos(nanos);
            prop_assert_eq!(GoDuration::parse(&duration.to_string()).unwrap(), duration);
        }
    }
}
