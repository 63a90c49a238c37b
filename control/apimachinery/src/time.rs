//! Timestamps in the API's two forms: whole seconds and microseconds.

use jiff::Timestamp;

/// Now, in whole seconds: `2026-01-02T03:04:05Z`.
#[must_use]
pub fn now_rfc3339() -> String {
    rfc3339(Timestamp::now())
}

/// Now, in microseconds: `2026-01-02T03:04:05.000006Z`.
#[must_use]
pub fn now_micro() -> String {
    micro(Timestamp::now())
}

/// A time in whole seconds (cut off, not rounded).
#[must_use]
pub fn rfc3339(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A time in microseconds.
#[must_use]
pub fn micro(at: Timestamp) -> String {
    format!("{}.{:06}Z", at.strftime("%Y-%m-%dT%H:%M:%S"), at.subsec_nanosecond().max(0) / 1000)
}

/// Reads either form, in any offset.
pub fn parse(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}

/// Whole seconds from `earlier` to `later`.
#[must_use]
pub fn seconds_between(earlier: Timestamp, later: Timestamp) -> i64 {
    later.as_second() - earlier.as_second()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms() {
        let at = parse("2026-01-02T04:04:05.123456789+01:00").unwrap();
        assert_eq!(rfc3339(at), "2026-01-02T03:04:05Z");
        assert_eq!(micro(at), "2026-01-02T03:04:05.123456Z");
        assert_eq!(parse(&micro(at)).map(rfc3339), Some("2026-01-02T03:04:05Z".to_owned()));
        assert_eq!(parse("yesterday"), None);
        assert_eq!(now_rfc3339().len(), 20);
    }
}
