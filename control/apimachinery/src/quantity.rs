//! Amounts of resources: `100m`, `1Gi`, `1e3`.

use std::cmp::Ordering;
use std::fmt;
use std::ops::{Add, Neg, Sub};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Nano-units per unit: the finest amount there is.
const NANO: i128 = 1_000_000_000;

/// How a quantity is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Format {
    /// `k`, `M`, `m`: powers of 1000.
    #[default]
    DecimalSi,
    /// `Ki`, `Mi`: powers of 1024.
    BinarySi,
    /// `e3`, `e-3`: exponents of ten.
    DecimalExponent,
}

/// An exact amount, kept in nano-units, with the format it was written in.
///
/// Equality and order look at the amount alone.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

/// Why a text is no quantity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// The text has not the shape number + suffix.
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    /// The number in front is none.
    #[error("unable to parse numeric part of quantity")]
    Numeric,
    /// The unit is not known.
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

const DECIMAL: [(&str, i32); 10] =
    [("n", -9), ("u", -6), ("m", -3), ("", 0), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];
const BINARY: [(&str, u32); 6] = [("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40), ("Pi", 50), ("Ei", 60)];

impl Quantity {
    /// Reads the text form; amounts finer than a nano-unit are rounded away from zero.
    pub fn parse(text: &str) -> Result<Self, QuantityError> {
        let (negative, rest) = match text.as_bytes().first() {
            None => return Err(QuantityError::Format),
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            Some(_) => (false, text),
        };
        let digits_end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (whole, rest) = rest.split_at(digits_end);
        let (fraction, suffix) = match rest.strip_prefix('.') {
            None => ("", rest),
            Some(tail) => tail.split_at(tail.find(|c: char| !c.is_ascii_digit()).unwrap_or(tail.len())),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(QuantityError::Format);
        }
        check_suffix_shape(suffix)?;
        let unit = Unit::parse(suffix)?;
        let mantissa = digits(whole, fraction).ok_or(QuantityError::Numeric)?;
        let nanos = unit.scale(mantissa, fraction.len());
        Ok(Self { nanos: if negative { -nanos } else { nanos }, format: unit.format() })
    }

    /// A whole number, in decimal form.
    #[must_use]
    pub fn from_value(value: i64) -> Self {
        Self { nanos: i128::from(value) * NANO, format: Format::DecimalSi }
    }

    /// A number of thousandths, in decimal form.
    #[must_use]
    pub fn from_milli(value: i64) -> Self {
        Self { nanos: i128::from(value) * (NANO / 1000), format: Format::DecimalSi }
    }

    /// A number of bytes, in binary form.
    #[must_use]
    pub fn from_bytes(value: i64) -> Self {
        Self { nanos: i128::from(value) * NANO, format: Format::BinarySi }
    }

    /// The amount rounded up to a whole number.
    #[must_use]
    pub fn value(&self) -> i64 {
        saturate(ceil_div(self.nanos, NANO))
    }

    /// The amount in thousandths, rounded up.
    #[must_use]
    pub fn milli_value(&self) -> i64 {
        saturate(ceil_div(self.nanos, NANO / 1000))
    }

    /// The amount as a float, for ratios and metrics.
    #[must_use]
    #[allow(clippy::cast_precision_loss)]
    pub fn as_f64(&self) -> f64 {
        self.nanos as f64 / NANO as f64
    }

    /// Whether the amount is nothing.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.nanos == 0
    }

    /// Whether the amount is below zero.
    #[must_use]
    pub fn is_negative(&self) -> bool {
        self.nanos < 0
    }

    /// Whether the amount has no fraction.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.nanos % NANO == 0
    }

    /// How it is written.
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }
}

/// Unit letters, then at most one sign, then digits.
fn check_suffix_shape(suffix: &str) -> Result<(), QuantityError> {
    let rest = suffix.trim_start_matches(|c: char| "eEinumkKMGTP".contains(c));
    let rest = rest.strip_prefix(['-', '+']).unwrap_or(rest);
    if rest.bytes().all(|b| b.is_ascii_digit()) { Ok(()) } else { Err(QuantityError::Format) }
}

/// The number without its point, without leading zeros; capped where it cannot matter any more.
fn digits(whole: &str, fraction: &str) -> Option<i128> {
    let all = whole.bytes().chain(fraction.bytes()).skip_while(|b| *b == b'0');
    let mut value: i128 = 0;
    for byte in all {
        value = value.checked_mul(10)?.checked_add(i128::from(byte - b'0'))?;
    }
    Some(value)
}

enum Unit {
    Binary(u32),
    Decimal(i32, Format),
}

impl Unit {
    fn parse(suffix: &str) -> Result<Self, QuantityError> {
        if let Some((_, shift)) = BINARY.iter().find(|(name, _)| *name == suffix) {
            return Ok(Self::Binary(*shift));
        }
        if let Some((_, exponent)) = DECIMAL.iter().find(|(name, _)| *name == suffix) {
            return Ok(Self::Decimal(*exponent, Format::DecimalSi));
        }
        let exponent = suffix
            .strip_prefix(['e', 'E'])
            .filter(|digits| !digits.is_empty())
            .and_then(|digits| digits.parse::<i32>().ok())
            .ok_or(QuantityError::Suffix)?;
        Ok(Self::Decimal(exponent, Format::DecimalExponent))
    }

    fn format(&self) -> Format {
        match self {
            Self::Binary(_) => Format::BinarySi,
            Self::Decimal(_, format) => *format,
        }
    }

    /// `mantissa * unit / 10^places` in nano-units; overflow is capped at the largest amount.
    fn scale(&self, mantissa: i128, places: usize) -> i128 {
        const MAX: i128 = i64::MAX as i128 * NANO;
        let places = i32::try_from(places).unwrap_or(i32::MAX);
        let (mantissa, exponent) = match self {
            Self::Binary(shift) => (mantissa.checked_mul(1_i128 << shift), 9_i32.saturating_sub(places)),
            Self::Decimal(exponent, _) => (Some(mantissa), exponent.saturating_add(9).saturating_sub(places)),
        };
        let Some(mantissa) = mantissa else { return MAX };
        if mantissa == 0 {
            return 0;
        }
        let Some(power) = 10_i128.checked_pow(exponent.unsigned_abs()) else {
            return if exponent < 0 { 1 } else { MAX };
        };
        if exponent < 0 {
            ceil_div(mantissa, power)
        } else {
            mantissa.checked_mul(power).unwrap_or(MAX).min(MAX)
        }
    }
}

/// Division rounding up (towards positive infinity).
fn ceil_div(value: i128, by: i128) -> i128 {
    value.div_euclid(by) + i128::from(value.rem_euclid(by) != 0)
}

fn saturate(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        let binary =
            self.format == Format::BinarySi && self.nanos.abs() >= 1024 * NANO && self.nanos % NANO == 0;
        if binary {
            let (mut number, mut step) = (self.nanos / NANO, 0);
            while step < BINARY.len() && number % 1024 == 0 {
                number /= 1024;
                step += 1;
            }
            let suffix = step.checked_sub(1).map_or("", |i| BINARY[i].0);
            return write!(f, "{number}{suffix}");
        }
        let (mut number, mut exponent) = (self.nanos, -9);
        while exponent < 18 && number % 1000 == 0 {
            number /= 1000;
            exponent += 3;
        }
        match (self.format, exponent) {
            (_, 0) => write!(f, "{number}"),
            (Format::DecimalExponent, _) => write!(f, "{number}e{exponent}"),
            _ => {
                let suffix = DECIMAL.iter().find(|(_, e)| *e == exponent).map_or("", |(name, _)| *name);
                write!(f, "{number}{suffix}")
            }
        }
    }
}

impl FromStr for Quantity {
    type Err = QuantityError;
    fn from_str(text: &str) -> Result<Self, QuantityError> {
        Self::parse(text)
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}
impl Eq for Quantity {}
impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

/// A sum keeps the format of its first part that is not zero.
impl Add for Quantity {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        let format = if self.nanos == 0 { other.format } else { self.format };
        Self { nanos: self.nanos.saturating_add(other.nanos), format }
    }
}
impl Neg for Quantity {
    type Output = Self;
    fn neg(self) -> Self {
        Self { nanos: -self.nanos, format: self.format }
    }
}
impl Sub for Quantity {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        self + -other
    }
}
impl std::iter::Sum for Quantity {
    fn sum<I: Iterator<Item = Self>>(parts: I) -> Self {
        parts.fold(Self::default(), Add::add)
    }
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Quantity;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a quantity, as a string or a number")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Quantity, E> {
                Quantity::parse(text).map_err(E::custom)
            }
            fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Quantity, E> {
                Ok(Quantity::from_value(value))
            }
            fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Quantity, E> {
                Quantity::parse(&value.to_string()).map_err(E::custom)
            }
            fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Quantity, E> {
                Quantity::parse(&value.to_string()).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(text: &str, canonical: &str, value: i64, milli: i64) {
        let quantity = Quantity::parse(text).unwrap();
        assert_eq!(quantity.to_string(), canonical, "{text}");
        assert_eq!((quantity.value(), quantity.milli_value()), (value, milli), "{text}");
    }

    #[test]
    fn texts_become_canonical() {
        check("0", "0", 0, 0);
        check("0.1", "100m", 1, 100);
        check("100m", "100m", 1, 100);
        check("1.5", "1500m", 2, 1500);
        check("1000m", "1", 1, 1000);
        check("1000", "1k", 1000, 1_000_000);
        check("1500", "1500", 1500, 1_500_000);
        check("1024Mi", "1Gi", 1 << 30, (1 << 30) * 1000);
        check("1536Mi", "1536Mi", 1536 << 20, (1536 << 20) * 1000);
        check("1.5Gi", "1536Mi", 1536 << 20, (1536 << 20) * 1000);
        check("512", "512", 512, 512_000);
        check("0.5Ki", "512", 512, 512_000);
        check("1e3", "1e3", 1000, 1_000_000);
        check("1E3", "1e3", 1000, 1_000_000);
        check("12e-3", "12e-3", 1, 12);
        check("1E", "1E", 1_000_000_000_000_000_000, i64::MAX);
        check("-1.5", "-1500m", -1, -1500);
        check("+3", "3", 3, 3000);
        check(".5", "500m", 1, 500);
        check("5.", "5", 5, 5000);
        check("1n", "1n", 1, 1);
        check("0.1n", "1n", 1, 1);
        check("250u", "250u", 1, 1);
        check("128974848", "128974848", 128_974_848, 128_974_848_000);
        check("129M", "129M", 129_000_000, 129_000_000_000);
        check("123Mi", "123Mi", 123 << 20, (123 << 20) * 1000);
        check("16Ei", "9223372036854775807", i64::MAX, i64::MAX);
    }

    #[test]
    fn nonsense_is_refused() {
        for (text, error) in [
            ("", QuantityError::Format),
            ("-", QuantityError::Format),
            ("Mi", QuantityError::Format),
            ("1.1.M", QuantityError::Format),
            ("1+1.0M", QuantityError::Format),
            ("1 Mi", QuantityError::Format),
            ("0.1mi", QuantityError::Suffix),
            ("1i", QuantityError::Suffix),
            ("1K", QuantityError::Suffix),
            ("3.01e-", QuantityError::Suffix),
            ("aoeu", QuantityError::Format),
        ] {
            assert_eq!(Quantity::parse(text).unwrap_err(), error, "{text:?}");
        }
    }

    #[test]
    fn sums_keep_the_first_format() {
        let q = |text: &str| Quantity::parse(text).unwrap();
        assert_eq!((q("1Gi") + q("1Gi")).to_string(), "2Gi");
        assert_eq!((Quantity::default() + q("1Gi")).to_string(), "1Gi");
        assert_eq!((q("1") - q("100m")).to_string(), "900m");
        assert!(q("1Gi") > q("1G") && q("1000m") == q("1"));
        assert_eq!(serde_json::from_str::<Quantity>("2").unwrap(), q("2"));
        assert_eq!(serde_json::from_str::<Quantity>("0.25").unwrap(), q("250m"));
        assert_eq!(serde_json::to_string(&q("0.25")).unwrap(), "\"250m\"");
    }

    proptest! {
        #[test]
        fn canonical_text_reads_back(value in any::<i64>(), suffix in 0..16_usize) {
            let suffix = DECIMAL.iter().map(|d| d.0).chain(BINARY.iter().map(|b| b.0)).nth(suffix).unwrap();
            let first = Quantity::parse(&format!("{}{suffix}", value / 1_000_000)).unwrap();
            let text = first.to_string();
            let again = Quantity::parse(&text).unwrap();
            prop_assert_eq!(first, again);
            prop_assert_eq!(again.to_string(), text);
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[-+]?[0-9.]{0,40}[eEinumkKMGTP]{0,3}[-+]?[0-9]{0,12}") {
            let _ = Quantity::parse(&text);
        }
    }
}
