//! Graceful shutdown's three fields into one table: which priority has how long.

use std::time::Duration;

use serde_json::Value;

use super::resolve::Doc;
use super::{ConfigurationError, ShutdownSettings};

/// From this priority on a pod is critical: `system-cluster-critical`.
const CRITICAL: i32 = 2_000_000_000;

pub(super) fn resolve(doc: &Doc) -> Result<ShutdownSettings, ConfigurationError> {
    let whole = doc.duration("shutdownGracePeriod")?;
    let critical = doc.duration("shutdownGracePeriodCriticalPods")?;
    let listed =
        doc.at("shutdownGracePeriodByPodPriority").and_then(Value::as_array).filter(|it| !it.is_empty());
    for (field, value) in [("shutdownGracePeriod", whole), ("shutdownGracePeriodCriticalPods", critical)] {
        if !value.is_zero() && value < Duration::from_secs(1) {
            return Err(doc.invalid(field, "must be either zero or otherwise >= 1 sec"));
        }
        if !value.is_zero() && listed.is_some() {
            let field = "shutdownGracePeriodByPodPriority";
            return Err(doc.invalid(field, "cannot be given together with shutdownGracePeriod"));
        }
    }
    if critical > whole {
        return Err(doc.invalid("shutdownGracePeriodCriticalPods", "must be <= shutdownGracePeriod"));
    }
    let mut by_priority = Vec::new();
    for item in listed.into_iter().flatten() {
        let number = |name: &str| item.get(name).and_then(Value::as_i64).unwrap_or_default();
        let (priority, seconds) = (number("priority"), number("shutdownGracePeriodSeconds"));
        let (Ok(priority), Ok(seconds)) = (i32::try_from(priority), u64::try_from(seconds)) else {
            return Err(doc.invalid("shutdownGracePeriodByPodPriority", "has a number that is out of range"));
        };
        by_priority.push((priority, Duration::from_secs(seconds)));
    }
    if !whole.is_zero() {
        by_priority = vec![(0, whole.saturating_sub(critical)), (CRITICAL, critical)];
    }
    by_priority.sort_by_key(|it| it.0);
    if by_priority.windows(2).any(|it| it[0].0 == it[1].0) {
        return Err(doc.invalid("shutdownGracePeriodByPodPriority", "names a priority twice"));
    }
    Ok(ShutdownSettings { by_priority })
}
