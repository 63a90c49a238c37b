//! Seconds since 1970 as RFC 3339 text, without a detour over a calendar library: lists print millions of them.

/// `2006-01-02T15:04:05Z`.
pub(super) fn seconds(at: i64) -> String {
    let mut out = Vec::with_capacity(20);
    write_seconds(&mut out, at);
    String::from_utf8(out).unwrap_or_default()
}

/// `2006-01-02T15:04:05.000000Z`.
pub(super) fn micros(at: i64, nanos: i64) -> String {
    let mut out = Vec::with_capacity(27);
    write_micros(&mut out, at, nanos);
    String::from_utf8(out).unwrap_or_default()
}

pub(super) fn write_seconds(out: &mut Vec<u8>, at: i64) {
    write_date(out, at);
    out.push(b'Z');
}

pub(super) fn write_micros(out: &mut Vec<u8>, at: i64, nanos: i64) {
    write_date(out, at);
    out.push(b'.');
    digits(out, nanos.rem_euclid(1_000_000_000) / 1000, 6);
    out.push(b'Z');
}

fn write_date(out: &mut Vec<u8>, at: i64) {
    let (days, rest) = (at.div_euclid(86_400), at.rem_euclid(86_400));
    let (year, month, day) = date(days);
    digits(out, year, 4);
    for (mark, part) in
        [(b'-', month), (b'-', day), (b'T', rest / 3600), (b':', rest / 60 % 60), (b':', rest % 60)]
    {
        out.push(mark);
        digits(out, part, 2);
    }
}

fn digits(out: &mut Vec<u8>, value: i64, width: usize) {
    let start = out.len();
    let mut value = value.unsigned_abs();
    for _ in 0..width {
        out.push(b'0' + (value % 10).to_le_bytes()[0]);
        value /= 10;
    }
    out[start..].reverse();
}

/// Days since 1970-01-01 as a date of the Gregorian calendar. Years begin in March here, so that the leap day is last.
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468; // since 0000-03-01
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn agrees_with_the_calendar(at in -62_135_596_800i64..253_402_300_799, nanos in 0i64..1_000_000_000) {
            let other = jiff::Timestamp::new(at, 0).unwrap();
            prop_assert_eq!(super::seconds(at), other.to_string());
            let micro = super::micros(at, nanos).parse::<jiff::Timestamp>().unwrap();
            prop_assert_eq!(micro.as_microsecond(), at * 1_000_000 + nanos / 1000);
        }
    }
}
