//! Conditions that have no update time: namespaces and others.

use crate::views::{Condition, find_condition};
use jiff::Timestamp;

/// Sets a condition; its transition time moves only when its status does.
pub(crate) fn set(
    conditions: &mut Vec<Condition>,
    kind: &str,
    status: &str,
    reason: &str,
    message: String,
    now: Timestamp,
) {
    let before = find_condition(conditions, kind).filter(|it| it.status == status);
    let transition = before.map_or(Some(now), |it| it.last_transition_time);
    let next = Condition {
        kind: kind.to_owned(),
        status: status.to_owned(),
        last_update_time: None,
        last_transition_time: transition,
        reason: reason.to_owned(),
        message,
    };
    match conditions.iter_mut().find(|it| it.kind == kind) {
        Some(place) => *place = next,
        None => conditions.push(next),
    }
}
